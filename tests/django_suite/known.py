"""Reads the file of known differences."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.django_suite.errors import SuiteError
from tests.django_suite.variants import VARIANTS

DEFAULT_FILE = Path(__file__).with_name("known_differences.toml")


@dataclass(frozen=True, slots=True)
class KnownDifference:
    """A test that may fail on some variants, and why that is right."""

    test: str
    variants: tuple[str, ...]
    reason: str


def read_known_differences(path: Path = DEFAULT_FILE) -> list[KnownDifference]:
    """Return the entries of the file; SuiteError says which entry is wrong and what is accepted."""
    try:
        document = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise SuiteError(f"{path.name} is not TOML: {error}.") from None
    if unknown := document.keys() - {"difference"}:
        raise SuiteError(f"{path.name} has {min(unknown)!r}; it may only have [[difference]] entries.")
    return [_entry(number, given, path) for number, given in enumerate(document.get("difference", []), 1)]


def _entry(number: int, given: dict[str, object], path: Path) -> KnownDifference:
    where = f"Entry {number} of {path.name}"
    if given.keys() != {"test", "variants", "reason"}:
        raise SuiteError(f"{where} has {', '.join(sorted(given))}; it must have test, variants and reason.")
    test, variants, reason = given["test"], given["variants"], given["reason"]
    if not (isinstance(test, str) and isinstance(reason, str) and test.strip() and reason.strip()):
        raise SuiteError(f"{where} has an empty test or reason; both must be text.")
    compared = {name for name, variant in VARIANTS.items() if variant.baseline}
    if not (isinstance(variants, list) and variants and compared.issuperset(variants)):
        raise SuiteError(f"{where} has variants {variants!r}; there are {', '.join(sorted(compared))}.")
    return KnownDifference(test, tuple(variants), reason)
