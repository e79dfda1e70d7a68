"""What the report says of the server, against a real one: compared with what other connections see and do."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.db.utils import ConnectionHandler
from psycopg import sql

from example_project.databases import django_database
from pool_doctor.report.model import ServerError, ServerFacts
from pool_doctor.report.server import APPLICATION_NAME, NOT_VISIBLE, TIMEOUT, ServerProbe
from tests.report_proxy import OWN_NAME, pooler_before

if TYPE_CHECKING:
    from collections.abc import Iterator


def ask(*urls: str, **options: Any) -> list[ServerFacts | ServerError]:
    """Ask the servers at these URLs, at once, as a report does."""
    names = [f"alias {number}" for number in range(len(urls))]
    settings = {name: django_database(url, **options) for name, url in zip(names, urls, strict=True)}
    handler = ConnectionHandler({"default": settings[names[0]], **settings})
    probe = ServerProbe()
    probe.start({name: handler[name] for name in names})
    results = probe.results()
    assert all(handler[name].connection is None for name in names)
    return [results[name] for name in names]


def facts(url: str, **options: Any) -> ServerFacts:
    [answer] = ask(url, **options)
    assert isinstance(answer, ServerFacts), answer
    return answer


def error(url: str) -> str:
    [answer] = ask(url)
    assert isinstance(answer, ServerError), answer
    return answer.error


@pytest.fixture
def url(database_url: str) -> str:
    return database_url


@pytest.fixture
def admin(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def setting(connection: psycopg.Connection, name: str) -> str:
    return connection.execute(sql.SQL("SHOW {}").format(sql.Identifier(name))).fetchone()[0]


def test_version_and_limits_are_the_servers_own(url: str, admin: psycopg.Connection) -> None:
    found = facts(url)

    reserved = int(setting(admin, "superuser_reserved_connections"))
    if admin.info.server_version >= 160_000:
        reserved += int(setting(admin, "reserved_connections"))
    assert found.version == setting(admin, "server_version").split()[0]
    assert (found.max_connections, found.reserved) == (int(setting(admin, "max_connections")), reserved)
    assert found.pooler is False


def test_connections_are_counted_by_state_and_application(url: str) -> None:
    name = f"counted {time.monotonic_ns()}"
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(psycopg.connect(url, application_name=name)) for _ in range(3)]
        before = facts(url)
        for connection in connections[:2]:
            connection.execute("SELECT 1")
        after = facts(url)

    assert before.by_application[name] == after.by_application[name] == 3
    assert after.by_state["idle in transaction"] >= 2
    for found in (before, after):
        assert sum(found.by_state.values()) == sum(found.by_application.values()) == found.in_use


def test_a_connection_without_a_name_is_counted_as_such(url: str) -> None:
    with psycopg.connect(url, application_name=""):
        assert facts(url).by_application["(none)"] >= 1


def test_the_reports_own_connections_are_not_counted_however_many_aliases_share_a_server(url: str) -> None:
    answers = ask(url, url, url, url)

    assert all(isinstance(answer, ServerFacts) for answer in answers)
    assert all(APPLICATION_NAME not in answer.by_application for answer in answers)


def test_the_pool_and_the_options_of_the_project_play_no_part(url: str, admin: psycopg.Connection) -> None:
    name = f"project {time.monotonic_ns()}"
    options = {
        "pool": {"min_size": 1, "max_size": 1},
        "application_name": name,
        "connect_timeout": 60,
        "server_side_binding": True,
        "isolation_level": psycopg.IsolationLevel.SERIALIZABLE,
    }
    assert name not in facts(url, **options).by_application


def test_a_user_without_rights_counts_the_others_as_not_visible(url: str, admin: psycopg.Connection) -> None:
    role = f"restricted_{time.monotonic_ns()}"
    admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(sql.Identifier(role)))
    try:
        restricted = psycopg.conninfo.make_conninfo(url, user=role, password="secret")
        with psycopg.connect(restricted, application_name="mine") as own:
            own.execute("SELECT 1")
            found = facts(restricted)
    finally:
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))

    assert found.by_state[NOT_VISIBLE] >= 1
    assert found.by_state["idle in transaction"] == found.by_application["mine"] == 1
    assert sum(found.by_state.values()) == found.in_use


def test_a_pooler_in_between_is_seen(url: str, admin: psycopg.Connection) -> None:
    host = admin.info.host if not admin.info.host.startswith("/") else "127.0.0.1"
    with pooler_before(host, admin.info.port) as port:
        through = psycopg.conninfo.make_conninfo(url, host="127.0.0.1", port=port, sslmode="disable")
        found = facts(through, gssencmode="disable")

    assert found.pooler is True
    assert found.in_use >= 1
    assert OWN_NAME not in found.by_application


def test_a_server_that_is_down_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    said = error(f"postgresql://nobody@127.0.0.1:{port}/nothing")

    assert "Connection refused" in said
    assert "\n" not in said


def test_a_database_that_does_not_exist_is_named(url: str) -> None:
    assert '"no_such_database"' in error(psycopg.conninfo.make_conninfo(url, dbname="no_such_database"))


def test_a_server_that_says_nothing_is_not_waited_for_longer_than_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        # Two addresses, for psycopg's own timeout begins anew with each.
        silent = f"postgresql://nobody@127.0.0.1:{port},127.0.0.1:{port}/nothing"
        started = time.monotonic()
        answers = ask(silent, silent)
        took = time.monotonic() - started

    assert [type(answer) for answer in answers] == [ServerError, ServerError]
    assert took < TIMEOUT + 0.5


def test_a_server_that_hangs_is_waited_for_by_one_thread_through_many_reports() -> None:
    released = threading.Event()

    class Hanging:
        alias = "hanging"

        def get_connection_params(self) -> dict[str, Any]:
            released.wait()
            raise RuntimeError("over")

    probe = ServerProbe()
    wrappers: Any = {"hanging": Hanging()}
    for _ in range(2):
        probe.start(wrappers)
        assert probe.results() == {"hanging": ServerError("the server did not answer within 2 s")}
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("pool_report hanging") == 1

    released.set()
    [thread] = [thread for thread in threading.enumerate() if thread.name == "pool_report hanging"]
    thread.join()
    probe.start(wrappers)
    assert probe.results() == {"hanging": ServerError("over")}


def test_a_server_whose_connections_are_all_taken_says_so(url: str, admin: psycopg.Connection) -> None:
    role = f"limited_{time.monotonic_ns()}"
    admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret' CONNECTION LIMIT 0").format(sql.Identifier(role)))
    try:
        said = error(psycopg.conninfo.make_conninfo(url, user=role, password="secret"))
    finally:
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
    assert f'too many connections for role "{role}"' in said
