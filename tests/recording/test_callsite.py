"""The line that is shown for a checkout: the application's own, else a library's, never the plumbing's."""

from __future__ import annotations

import sys
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django.db.models
import psycopg_pool
import pytest

import pool_doctor
from pool_doctor.recording.callsite import APPLICATION, LIBRARY, PLUMBING, rank
from tests.recording.driving import channel_of

if TYPE_CHECKING:
    from pool_doctor.recording.recorder import Recorder
    from pool_doctor.recording.ring import Ring

PACKAGES = sysconfig.get_path("purelib")
STANDARD = sysconfig.get_path("stdlib")


@pytest.fixture
def ring(recorder: Recorder) -> Ring:
    """A ring to write names of lines into."""
    return channel_of(recorder).ring


def name_of(ring: Ring, site: int) -> str:
    """Return the name with that number."""
    return {number: name for name, number in ring.sites.numbers.items()}.get(site, "")


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("/srv/shop/views.py", APPLICATION),
        (str(Path(pool_doctor.__file__).parent / "adapters" / "lifecycle.py"), PLUMBING),
        (f"{Path(pool_doctor.__file__).parent}_extras/views.py", APPLICATION),
        (f"{PACKAGES}/django/db/models/query.py", PLUMBING),
        (f"{PACKAGES}/django/utils/functional.py", PLUMBING),
        (f"{PACKAGES}/django/core/handlers/base.py", PLUMBING),
        (f"{PACKAGES}/django/contrib/sessions/backends/db.py", LIBRARY),
        (f"{PACKAGES}/psycopg/connection.py", PLUMBING),
        (f"{PACKAGES}/psycopg_pool/pool.py", PLUMBING),
        (f"{PACKAGES}/rest_framework/views.py", LIBRARY),
        ("/srv/app/.venv/lib/python3.11/site-packages/rest_framework/views.py", LIBRARY),
        ("/usr/lib/python3/dist-packages/django/db/models/query.py", PLUMBING),
        ("/usr/lib/python3/dist-packages/celery/app.py", LIBRARY),
        (f"{STANDARD}/threading.py", PLUMBING),
        (f"{STANDARD}-shop/views.py", APPLICATION),
        ("/srv/django/db/views.py", APPLICATION),
        ("<string>", PLUMBING),
        ("<frozen importlib._bootstrap>", PLUMBING),
        ("<console>", PLUMBING),
    ],
)
def test_files_are_ranked(filename: str, expected: int) -> None:
    assert rank(filename) == expected


def test_real_modules_are_ranked() -> None:
    assert rank(django.db.models.__file__) == rank(psycopg_pool.__file__) == rank(threading.__file__) == PLUMBING
    assert rank(pytest.__file__) == LIBRARY
    assert rank(__file__) == APPLICATION


def chain(ring: Ring, *filenames: str) -> str:
    """Return the line shown for a checkout in nothing but these files, the outermost first.

    The functions run in a thread of their own whose other frames are the standard library's.
    """
    found: list[int] = []
    step: Any = None
    for number, filename in enumerate(reversed(filenames)):
        namespace: dict[str, Any] = {"ring": ring, "found": found, "step": step}
        body = "found.append(ring.site_of_call(1))" if number == 0 else "step()"
        exec(compile(f"\n\ndef work():\n    {body}\n", filename, "exec"), namespace)
        step = namespace["work"]
    thread = threading.Thread(target=step)
    thread.start()
    thread.join()
    return name_of(ring, found[0])


@pytest.mark.parametrize(
    ("filenames", "line"),
    [
        (["/srv/shop/views.py"], "srv/shop/views.py:4 work"),
        (["/very/deep/srv/shop/views.py"], "srv/shop/views.py:4 work"),
        (["/srv/shop/urls.py", "/srv/shop/views.py"], "srv/shop/views.py:4 work"),
        (["/srv/shop/views.py", f"{PACKAGES}/django/db/models/query.py"], "srv/shop/views.py:4 work"),
        (["/srv/shop/views.py", f"{PACKAGES}/rest_framework/mixins.py", "<string>"], "srv/shop/views.py:4 work"),
        (["/srv/shop/views.py", f"{STANDARD}/contextlib.py"], "srv/shop/views.py:4 work"),
        (
            [f"{PACKAGES}/celery/a.py", f"{PACKAGES}/celery/b.py", f"{PACKAGES}/psycopg/connection.py"],
            "celery/b.py:4 work",
        ),
        (["<string>"], ""),
        ([f"{PACKAGES}/django/db/models/query.py"], ""),
        (["views.py"], "views.py:4 work"),
    ],
)
def test_what_is_shown_for_a_stack(ring: Ring, filenames: list[str], line: str) -> None:
    filenames = [name.replace("/srv/", "/pool-doctor-tests/srv/", 1) for name in filenames]
    assert chain(ring, *filenames) == line


@pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer looks into sys.path as well, and wants text there")
def test_files_are_shown_below_the_nearest_entry_of_sys_path(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = ["", Path("/srv"), None, "/srv/", "/srv/shop", "/srv/shop/apps/", "/srv/sho"]
    monkeypatch.setattr(sys, "path", [*entries, *sys.path])
    assert chain(ring, "/srv/shop/apps/orders/views.py") == "orders/views.py:4 work"
    assert chain(ring, "/srv/shop/manage.py") == "manage.py:4 work"
    assert chain(ring, "/srv/other/manage.py") == "other/manage.py:4 work"


def test_two_lines_of_one_function_are_two_names(ring: Ring) -> None:
    sites = [
        ring.site_of_call(1),
        ring.site_of_call(1),
    ]
    first, second = (int(name_of(ring, site).split(":")[1].split()[0]) for site in sites)
    assert second == first + 1
    again = [ring.site_of_call(1) for _ in range(3)]
    assert len(set(again)) == 1
