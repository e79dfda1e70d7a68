"""manage.py pool_report as people use it: another process, beside workers that are busy, stopped or dead."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
import termios
import time
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from jsonschema import Draft202012Validator

from example_project.servers import ROOT, ServerOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django.fixtures import SettingsWrapper

DEADLINE = 30.0
SIZE = 2
MANAGE = [sys.executable, str(ROOT / "example_project" / "manage.py"), "pool_report"]
ENTERED, REDRAWN, LEFT = "\x1b[?1049h", "\x1b[H", "\x1b[?1049l"
COLOUR = "\x1b[3"


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a project with a directory of recordings of its own."""
    directory = tmp_path / "recordings"
    directory.mkdir(mode=0o700)
    known = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "DJANGO_COLORS", "COLUMNS")}
    return {**known, **ServerOptions(max_size=SIZE).environment(database_url, directory), "SHOP_TIMEOUT": "60"}


@pytest.fixture
def worker(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process whose pool is exhausted, with one thread waiting."""
    with subprocess.Popen(
        [sys.executable, ROOT / "tests" / "report_worker.py"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MANAGE, *arguments], env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def report(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    """Return the JSON report, checked against the published schema."""
    done = run(environment, "--format", "json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    Draft202012Validator(json.loads((ROOT / "docs" / "report-schema.json").read_text())).validate(document)
    return document


def refused_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"postgresql://nobody@127.0.0.1:{listener.getsockname()[1]}/nothing"


def test_an_exhausted_pool_is_seen_from_outside(environment: dict[str, str], worker: subprocess.Popen[str]) -> None:
    database = report(environment)["databases"]["default"]

    [found] = database["workers"]
    assert (found["pid"], found["alive"]) == (worker.pid, True)
    assert (found["size"], found["available"], found["in_use"], found["waiting"]) == (SIZE, 0, SIZE, 1)
    assert [checkout["scope"] for checkout in found["open"]] == ["thread holder"] * SIZE
    assert all("report_worker.py" in checkout["site"] for checkout in found["open"])
    assert all(checkout["held_for"] >= checkout["idle_for"] > 0 for checkout in found["open"])
    assert database["demand"]["peak_in_use"] == SIZE
    assert database["pool"]["max_size"] == SIZE
    assert database["server"]["by_state"]["idle"] >= SIZE


def test_the_table_begins_with_what_matters(environment: dict[str, str], worker: subprocess.Popen[str]) -> None:
    done = run(environment)

    assert done.returncode == 0
    headline = done.stdout.split("\n\n")[1]
    assert headline.startswith(f"default: {SIZE} of {SIZE} connections in use, 1 request waiting; ")
    assert "\x1b" not in done.stdout


def test_a_worker_that_hangs_is_reported_as_well(environment: dict[str, str], worker: subprocess.Popen[str]) -> None:
    worker.send_signal(signal.SIGSTOP)
    try:
        [found] = report(environment)["databases"]["default"]["workers"]
    finally:
        worker.send_signal(signal.SIGCONT)
    assert (found["alive"], found["in_use"], found["waiting"]) == (True, SIZE, 1)


def test_a_database_that_is_down_costs_the_server_section_only(
    environment: dict[str, str], worker: subprocess.Popen[str]
) -> None:
    database = report({**environment, "DATABASE_URL": refused_url()})["databases"]["default"]

    assert list(database["server"]) == ["error"]
    assert "refused" in database["server"]["error"]
    assert database["workers"][0]["in_use"] == SIZE


def test_after_all_workers_were_killed_their_numbers_are_still_there(
    environment: dict[str, str], worker: subprocess.Popen[str]
) -> None:
    worker.kill()
    worker.wait()
    database = report(environment)["databases"]["default"]

    [found] = database["workers"]
    assert (found["pid"], found["alive"], found["open"]) == (worker.pid, False, [])
    assert database["demand"]["peak_in_use"] == SIZE
    text = run(environment).stdout
    assert "no process that used it runs any more" in text
    assert "Workers (all ended)" in text


def test_a_worker_that_runs_with_other_settings_is_named(
    environment: dict[str, str], worker: subprocess.Popen[str]
) -> None:
    text = run({**environment, "SHOP_MAX_SIZE": "9"}).stdout

    assert f"PID {worker.pid} runs with max_size {SIZE}, other than settings.py says now: restart it." in " ".join(
        text.split()
    )


def test_a_file_that_cannot_be_read_is_one_line_on_stderr(
    environment: dict[str, str], worker: subprocess.Popen[str]
) -> None:
    Path(environment["SHOP_DIRECTORY"], "broken\x1b[2J.ring").write_bytes(b"not a ring")
    done = run(environment)

    assert done.returncode == 0
    assert done.stderr.startswith("broken?[2J.ring was skipped: ")
    assert done.stderr.count("\n") == 1
    assert str(worker.pid) in done.stdout


def test_a_span_leaves_out_what_ended_before_it(environment: dict[str, str], worker: subprocess.Popen[str]) -> None:
    worker.kill()
    worker.wait()
    give_up = time.monotonic() + DEADLINE
    while (document := report(environment, "--since", "1s"))["databases"]["default"]["workers"]:
        assert time.monotonic() < give_up
    assert document["window"]["seconds"] == pytest.approx(1, abs=0.5)
    assert len(report(environment, "--since", "1d")["databases"]["default"]["workers"]) == 1


def test_with_nothing_recorded_it_says_what_to_do_and_where(environment: dict[str, str]) -> None:
    done = run(environment)

    assert done.returncode == 0
    said = " ".join(done.stdout.split())
    assert f'Nothing is recorded in {environment["SHOP_DIRECTORY"]} yet: add "pool_doctor" to' in said
    assert "Configuration" in said
    assert "PostgreSQL" in said
    assert report(environment)["databases"]["default"]["workers"] == []


def test_a_bad_argument_is_one_sentence_and_status_1(environment: dict[str, str]) -> None:
    done = run(environment, "--since", "yesterday")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "CommandError: --since yesterday is no span of time; use a number with s, m, h or d, such as 10m.\n"
    )


def test_the_output_of_another_format_goes_to_a_file(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    done = run(environment, "--format", "markdown", "--output", str(path))

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert path.read_text().startswith("# pool_report at ")


class Terminal:
    """A pseudo-terminal with a command on it."""

    def __init__(self, environment: dict[str, str], *arguments: str, rows: int = 50, columns: int = 100) -> None:
        try:
            self._master, slave = pty.openpty()
        except OSError as error:
            pytest.skip(f"This machine has no pseudo-terminals: {error}.")
        termios.tcsetwinsize(slave, (rows, columns))
        self.process = subprocess.Popen(
            [*MANAGE, *arguments], env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.text = ""

    def read_until(self, done: Callable[[str], bool]) -> str:
        """Read what is shown until it is enough, or all there is."""
        while not done(self.text):
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # Linux says so where the other end is closed
                break
            if not data:
                break
            self.text += data.decode()
        return self.text

    def end(self) -> int:
        """Read all that is left, and return the exit status."""
        self.read_until(lambda _: False)
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    terminals: list[Terminal] = []

    def start(*arguments: Any, **options: Any) -> Terminal:
        terminals.append(Terminal(*arguments, **options))
        return terminals[-1]

    yield start
    for opened in terminals:
        opened.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watch_redraws_until_it_is_interrupted_and_leaves_the_terminal_as_it_was(
    environment: dict[str, str], terminal: Callable[..., Terminal], number: signal.Signals
) -> None:
    shown = terminal(environment, "--watch", "0.1")
    shown.read_until(lambda text: text.count(REDRAWN) >= 3)
    shown.process.send_signal(number)

    assert shown.end() == 0
    assert shown.text.count(ENTERED) == shown.text.count(LEFT) == 1
    assert shown.text.endswith(LEFT)
    assert "Traceback" not in shown.text


def test_watch_leaves_out_what_does_not_fit_the_terminal_and_says_so(
    environment: dict[str, str], terminal: Callable[..., Terminal]
) -> None:
    shown = terminal(environment, "--watch", rows=8)
    shown.read_until(lambda text: "\x1b[J" in text)
    shown.process.send_signal(signal.SIGINT)

    frame = shown.text[shown.text.index(REDRAWN) : shown.text.index("\x1b[J")]
    assert frame.count("\n") == 7
    assert "more lines do not fit this terminal" in frame.splitlines()[-1]
    assert shown.end() == 0


@pytest.mark.parametrize(
    ("arguments", "extra", "coloured"),
    [((), {}, True), ((), {"NO_COLOR": "1"}, False), (("--no-color",), {}, False), (("--format", "json"), {}, False)],
)
def test_colours_are_for_terminals_that_want_them(
    environment: dict[str, str],
    terminal: Callable[..., Terminal],
    arguments: tuple[str, ...],
    extra: dict[str, str],
    coloured: bool,
) -> None:
    shown = terminal({**environment, **extra}, *arguments)

    assert shown.end() == 0
    assert "Server" in shown.text or "server" in shown.text
    assert (COLOUR in shown.text) is coloured


@pytest.fixture
def here(settings: SettingsWrapper, tmp_path: Path) -> Path:
    """Make this process's own commands look at an empty directory, and at a server that is not there."""
    settings.POOL_DOCTOR = {"DIRECTORY": str(tmp_path / "recordings")}
    return tmp_path


def call(*arguments: str, **options: Any) -> str:
    out = StringIO()
    call_command("pool_report", *arguments, stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--format", "xml"], "--format xml is not known; use table, json or markdown."),
        (
            ["--database", "nosuch"],
            "There is no database 'nosuch' in settings.DATABASES, which has 'default', 'other'.",
        ),
        (["--since", "0s"], "--since 0s is no span of time; use a number with s, m, h or d, such as 10m."),
        (["--since", "10"], "--since 10 is no span of time; use a number with s, m, h or d, such as 10m."),
        (["--since", "²s"], "--since ²s is no span of time; use a number with s, m, h or d, such as 10m."),
        (["--watch", "0"], "--watch 0 is no interval; use a number of seconds from 0.1 on."),
        (["--watch", "nan"], "--watch nan is no interval; use a number of seconds from 0.1 on."),
        (["--watch", "often"], "--watch often is no interval; use a number of seconds from 0.1 on."),
        (["--watch"], "--watch needs a terminal to show the report on."),
        (
            ["--watch", "--output", "x"],
            "--watch shows the report on a terminal, so it cannot be used with --output.",
        ),
        (
            ["--watch", "--format", "json"],
            "--watch shows the table on a terminal, so it cannot be used with --format json.",
        ),
    ],
)
def test_each_mistake_has_a_sentence_of_its_own(here: Path, arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError) as caught:
        call(*arguments)
    assert str(caught.value) == sentence


def test_only_the_databases_asked_for_are_reported(here: Path) -> None:
    assert list(json.loads(call("--format", "json"))["databases"]) == ["default", "other"]
    assert list(json.loads(call("--format", "json", "--database", "other"))["databases"]) == ["other"]
    both = json.loads(call("--format", "json", "--database", "other", "--database", "default"))
    assert list(both["databases"]) == ["other", "default"]


def test_a_setting_of_the_pool_that_is_no_number_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connections

    monkeypatch.setitem(connections["default"].settings_dict["OPTIONS"], "pool", {"max_size": "8"})
    with pytest.raises(CommandError, match=r"^The pool of DATABASES\['default'\] has a setting .* no number: '8'\.$"):
        call()


def test_a_file_is_replaced_in_one_step_and_keeps_its_mode(here: Path) -> None:
    path = here / "report.json"
    path.write_text("old")
    path.chmod(0o640)
    with path.open() as old:
        call("--format", "json", "--output", str(path))
        assert old.read() == "old"

    assert json.loads(path.read_text())["schema"] == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [found.name for found in here.iterdir()] == ["report.json"]


def test_a_new_file_has_the_mode_that_the_umask_leaves(here: Path) -> None:
    before = os.umask(0o027)
    try:
        call("--output", str(here / "new.txt"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((here / "new.txt").stat().st_mode) == 0o640


def test_a_link_stays_a_link(here: Path) -> None:
    (here / "link").symlink_to("target")
    call("--output", str(here / "link"))

    assert (here / "link").is_symlink()
    assert (here / "target").read_text().startswith("pool_report at ")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing/report.txt", "No such file or directory"),
        ("file/report.txt", "Not a directory"),
        ("directory", "it is not a regular file"),
        ("pipe", "it is not a regular file"),
    ],
)
def test_a_file_that_cannot_be_written_is_one_sentence(here: Path, path: str, reason: str) -> None:
    (here / "file").touch()
    (here / "directory").mkdir()
    os.mkfifo(here / "pipe")
    with pytest.raises(CommandError) as caught:
        call("--output", str(here / path))
    assert str(caught.value) == f"Cannot write {here / path}: {reason}."
    assert stat.S_ISFIFO((here / "pipe").stat().st_mode)
