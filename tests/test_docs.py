"""The documentation names what exists, and its links lead somewhere."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

import pool_doctor
from pool_doctor.adapters.conf import Settings
from pool_doctor.recording import layout

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="this is no checkout: the package is installed")


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _text(page)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in _anchors(file)):
            broken.append(target)
    assert broken == []


def test_each_setting_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+?) \|", _text(DOCS / "settings.md"), re.MULTILINE))
    fields = {field.name.upper(): field.default for field in dataclasses.fields(Settings)}
    assert set(rows) == set(fields)
    for name, written in rows.items():
        default = fields[name]
        if name == "DIRECTORY":
            continue
        shown = {(): "[]"}.get(default, f"{default:g}" if isinstance(default, float) else repr(default))
        assert written == f"`{shown}`", name


def test_the_readme_names_no_setting_that_does_not_exist() -> None:
    rows = set(re.findall(r"^\| `([A-Z_]+)` \|", _text(ROOT / "README.md"), re.MULTILINE))
    assert rows
    assert rows <= {field.name.upper() for field in dataclasses.fields(Settings)}


def test_each_check_has_the_heading_that_its_hint_points_to() -> None:
    sources = [path.read_text(encoding="utf-8") for path in Path(pool_doctor.__file__).parent.rglob("*.py")]
    known = {number for source in sources for number in re.findall(r'id="pool_doctor\.([WE]\d{3})"', source)}
    assert known
    assert {anchor.upper() for anchor in _anchors(DOCS / "checks.md") if re.fullmatch(r"[we]\d{3}", anchor)} == known


def test_the_layout_has_the_sizes_that_the_page_on_architecture_gives() -> None:
    default = {field.name: field.default for field in dataclasses.fields(Settings)}["ring_size"]
    page = _text(DOCS / "architecture.md")
    assert f"{layout.Geometry(default).size:,} bytes" in page
    for count, bytes_each in (
        (layout.MAX_SCOPES, layout.NAME.size),
        (layout.MAX_SITES, layout.NAME.size),
        (layout.MAX_SCOPES, layout.WORD),
        (layout.MAX_OPEN, layout.OPEN_ROW.size),
        (layout.MAX_ALIASES, layout.ALIAS_WORDS * layout.WORD),
        (default, layout.EVENT_BYTES),
    ):
        assert f"| {count:,} x {bytes_each:,} |" in page
