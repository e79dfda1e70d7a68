"""A recorder of the test's own, and programs that record in processes of their own."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import pytest

from pool_doctor.recording import work
from pool_doctor.recording.scope import current
from tests.recording.driving import started
from tests.recording.programs import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pool_doctor.recording.recorder import Recorder


@pytest.fixture
def rings(tmp_path: Path) -> Path:
    """The path of a directory for ring files, which is not there yet."""
    return tmp_path / "rings"


@pytest.fixture
def recorder(rings: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """A recorder into that directory, which scope() uses too."""
    own = started(rings)
    monkeypatch.setattr(work, "recorder", own)
    token = current.set(None)
    yield own
    current.reset(token)
    own.stop()


@pytest.fixture
def program(rings: Path) -> Iterator[Callable[..., Program]]:
    """A function that starts a function of tests.recording.programs in a process of its own."""
    with contextlib.ExitStack() as stack:

        def start(name: str, *arguments: object) -> Program:
            return stack.enter_context(Program(name, rings, *arguments))

        yield start


@pytest.fixture
def busy_switching() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
