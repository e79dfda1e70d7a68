"""The example's own Python environment: made once, remade when half-made, not made where there is no need."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from example_project import bootstrap
from example_project.bootstrap import BootstrapError, Requirements
from tests.test_example_guard import alive
from tests.waiting import until

pytestmark = pytest.mark.heavy


@pytest.fixture(autouse=True)
def checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty place for environments in place of this checkout, and no cache anywhere else."""
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path / "checkout")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "checkout").mkdir()
    real = Path(bootstrap.__file__).parent.parent / "pyproject.toml"
    (tmp_path / "checkout" / "pyproject.toml").write_bytes(real.read_bytes())
    return tmp_path / "checkout"


@pytest.fixture
def wanted(tmp_path: Path) -> Requirements:
    """A package that pip can install without any index."""
    wheel = tmp_path / "tinyshop-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        info = "tinyshop-1.0.dist-info"
        archive.writestr("tinyshop.py", "open_ = True\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinyshop\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"tinyshop.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return Requirements("example", (f"tinyshop @ {wheel.as_uri()}",))


def has_package(python: Path) -> bool:
    command = [str(python), "-c", "import tinyshop, sys; assert sys.prefix != sys.base_prefix"]
    return subprocess.run(command, check=False).returncode == 0


def test_an_environment_is_made_once(checkout: Path, wanted: Requirements, capsys: pytest.CaptureFixture[str]) -> None:
    python = bootstrap._environment(wanted)
    assert python.is_relative_to(checkout)
    assert has_package(python)
    assert bootstrap._environment(wanted) == python
    assert capsys.readouterr().out.count("Setting up") == 1


def test_pip_configured_for_other_places_installs_here(
    wanted: Requirements, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert has_package(bootstrap._environment(wanted))
    assert not (tmp_path / "elsewhere").exists()


def test_a_half_made_environment_is_remade(checkout: Path, wanted: Requirements) -> None:
    directory = next(bootstrap._directories())
    (directory / "bin").mkdir(parents=True)
    (directory / "bin" / "python").symlink_to("/nonexistent")
    (directory / "rubbish").touch()
    assert has_package(bootstrap._environment(wanted))
    assert not (directory / "rubbish").exists()


def test_other_requirements_are_added_to_it(wanted: Requirements, capsys: pytest.CaptureFixture[str]) -> None:
    bootstrap._environment(wanted)
    changed = Requirements("example", (*wanted.items, *wanted.items))
    bootstrap._environment(changed)
    assert capsys.readouterr().out.count("Setting up") == 2


def test_a_failed_installation_is_said_and_not_taken_for_complete(capfd: pytest.CaptureFixture[str]) -> None:
    broken = Requirements("example", ("nothing @ file:///nonexistent/nothing-1.0-py3-none-any.whl",))
    for _ in range(2):
        with pytest.raises(BootstrapError, match=r"^The packages could not be installed"):
            bootstrap._environment(broken)


def test_kill_9_in_the_middle_leaves_no_process_and_no_complete_environment(
    checkout: Path, wanted: Requirements, tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (slow / "backend.py").write_text(f"open({str(tmp_path / 'building')!r}, 'w').close(); import time; time.sleep(600)")
    program = (
        "import sys; from pathlib import Path; from example_project import bootstrap;"
        "bootstrap.ROOT = Path(sys.argv[1]);"
        "bootstrap._environment(bootstrap.Requirements('example', (sys.argv[2],)))"
    )
    root = Path(bootstrap.__file__).parent.parent
    with subprocess.Popen([sys.executable, "-c", program, checkout, f"slow @ {slow.as_uri()}"], cwd=root) as owner:
        until((tmp_path / "building").exists, seconds=60)
        processes = psutil.Process(owner.pid).children(recursive=True)
        owner.kill()
        until(lambda: not alive(processes), what="the end of pip")
    assert has_package(bootstrap._environment(wanted))


def test_two_runs_at_once_make_one_environment(wanted: Requirements, capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadPoolExecutor(2) as executor:
        one, other = executor.map(bootstrap._environment, [wanted, wanted])
    assert one == other
    assert capsys.readouterr().out.count("Setting up") == 1


def test_the_cache_takes_it_where_the_checkout_is_closed(
    wanted: Requirements, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Permissions do not stop root, who may be running this.
    monkeypatch.setattr("os.access", lambda path, _mode: Path(path).resolve() != checkout.resolve())
    assert bootstrap._environment(wanted).is_relative_to(tmp_path / "cache")


@pytest.mark.parametrize(
    ("requirement", "met"),
    [
        ("pytest", True),
        ("PyTest>=1.0", True),
        ("pytest>=999", False),
        ("pytest==0.1", False),
        ("no-such-distribution", False),
        ("psycopg[pool]>=3.2", True),
        ("psycopg[no-such-extra]", True),
        ("coverage[toml]>=7", True),
        ("pytest; python_version < '3'", False),
    ],
)
def test_what_this_interpreter_has(requirement: str, met: bool) -> None:
    assert bootstrap._installed(requirement) is met


def test_an_extra_needs_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_named_installed", lambda line: not line.startswith("psycopg-pool"))
    assert bootstrap._installed("psycopg") is True
    assert bootstrap._installed("psycopg[pool]") is False


def test_the_tests_need_more_than_the_demonstration() -> None:
    example, tests = bootstrap._requirements("demo"), bootstrap._requirements("test")
    assert set(example.items) < set(tests.items)
    assert any(item.startswith("pytest>") for item in tests.items)
    assert any(item.startswith("gunicorn") for item in example.items)


def test_groups_may_include_groups() -> None:
    groups: dict[str, list[Any]] = {"all": ["one", {"include-group": "more"}], "more": ["two"]}
    assert list(bootstrap._group(groups, "all")) == ["one", "two"]


def test_nothing_is_made_where_everything_is_installed(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    monkeypatch.setattr(bootstrap, "_requirements", lambda _verb: Requirements("example", ("pytest",)))
    bootstrap.enter_environment("demo", ["run.py"])
    assert not list(checkout.glob(".venv*"))


def test_the_program_goes_on_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, wanted: Requirements, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys, tinyshop; print(sys.argv[1:], tinyshop.open_)")
    monkeypatch.setattr(bootstrap, "_requirements", lambda _verb: wanted)
    called: list[list[str]] = []

    def execve(path: str, arguments: list[str], _environment: object) -> None:
        called.append([path, *arguments[1:]])

    monkeypatch.setattr("os.execve", execve)
    bootstrap.enter_environment("demo", [str(script), "a", "b"])
    answer = subprocess.run(called[0], capture_output=True, text=True, check=True)
    assert answer.stdout == "['a', 'b'] True\n"


def test_an_interpreter_without_pip_is_one_sentence(monkeypatch: pytest.MonkeyPatch, wanted: Requirements) -> None:
    monkeypatch.setattr(bootstrap, "_pip_version", lambda _python: (0,))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(BootstrapError, match=r"has no pip of version 22\.3 or newer; install it, or run .* uv\.$"):
        bootstrap._environment(wanted)
