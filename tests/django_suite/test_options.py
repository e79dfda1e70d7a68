"""The command line and the file of known differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.django_suite.__main__ import check_labels, main
from tests.django_suite.errors import SuiteError
from tests.django_suite.known import KnownDifference, read_known_differences
from tests.django_suite.options import DEFAULT_LABELS, parse_options
from tests.django_suite.variants import VARIANTS, with_baselines

if TYPE_CHECKING:
    from pathlib import Path


def test_the_relevant_part_is_the_default_and_the_whole_has_no_labels() -> None:
    assert parse_options([]).labels == list(DEFAULT_LABELS)
    assert parse_options(["--whole"]).labels == []
    assert parse_options(["basic", "queries.tests"]).labels == ["basic", "queries.tests"]


def test_baselines_come_first() -> None:
    assert [variant.name for variant in with_baselines(["release-plain", "release"])] == [
        "pool",
        "release",
        "plain",
        "release-plain",
    ]
    assert [variant.name for variant in with_baselines(["plain"])] == ["plain"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--variants", "pool,fast"], "'fast' is no variant; there are pool,"),
        (["--parallel", "0"], "'0' is not a whole number"),
        (["--parallel", "two"], "'two' is not a whole number"),
        (["--stall-timeout", "nan"], "'nan' is not a number of seconds above 0"),
        (["--stall-timeout", "-1"], "'-1' is not a number of seconds above 0"),
        (["--whole", "basic"], "--whole runs all tests and takes no labels."),
        (["--nonsense"], "Unrecognized arguments: --nonsense."),
    ],
)
def test_a_bad_argument_gets_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options(arguments)
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        ("nothing.tests", "'nothing.tests' is no test of Django"),
        ("../basic", "'../basic' is no test of Django"),
        ("gis_tests", "gis_tests needs an engine for PostGIS"),
    ],
)
def test_a_label_has_to_begin_with_a_package(label: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "basic").mkdir()
    (tmp_path / "basic" / "__init__.py").touch()
    check_labels(["basic", "basic.tests"], tmp_path)
    with pytest.raises(SuiteError, match=sentence):
        check_labels(["basic", label], tmp_path)


def test_an_unreachable_server_gets_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import django

    package = tmp_path / f"django-{django.__version__}" / "basic"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    url = "postgresql://127.0.0.1:1/postgres"
    arguments = ["basic", "--database-url", url, "--cache", str(tmp_path), "--output", str(tmp_path / "logs")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("The PostgreSQL server cannot be reached: ")
    assert error.count("\n") == 1


def test_the_projects_own_file_of_known_differences_can_be_read() -> None:
    assert all(VARIANTS[name].baseline for entry in read_known_differences() for name in entry.variants)


def test_an_entry_of_known_differences(tmp_path: Path) -> None:
    path = tmp_path / "known.toml"
    path.write_text('[[difference]]\ntest = "a.B.c"\nvariants = ["release"]\nreason = "It is."\n')
    assert read_known_differences(path) == [KnownDifference("a.B.c", ("release",), "It is.")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[difference]", "is not TOML"),
        ("[[differences]]\n", "'differences'; it may only have"),
        ('[[difference]]\ntest = "a"\n', "Entry 1 of known.toml has test; it must have"),
        ('[[difference]]\ntest = "a"\nvariants = ["release"]\nreason = " "\n', "empty test or reason"),
        ('[[difference]]\ntest = "a"\nvariants = ["pool"]\nreason = "b"\n', "variants ['pool']; there are"),
        ('[[difference]]\ntest = "a"\nvariants = []\nreason = "b"\n', "variants []; there are"),
    ],
)
def test_a_bad_file_of_known_differences_gets_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "known.toml"
    path.write_text(text)
    with pytest.raises(SuiteError) as raised:
        read_known_differences(path)
    assert sentence in str(raised.value)
