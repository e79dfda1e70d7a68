"""Imports point down, and the two lowest layers are for programs without Django."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pool_doctor

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(pool_doctor.__file__).parent

# The first matching prefix decides. What is not listed here has no layer, and fails.
LAYERS = {
    "pool_doctor.recording": 0,
    "pool_doctor.analysis": 1,
    "pool_doctor.adapters": 2,
    "pool_doctor.backends": 2,
    "pool_doctor.report": 3,
    "pool_doctor.management": 4,
    "pool_doctor.exporters": 4,
    "pool_doctor.apps": 4,
    "pool_doctor.checks": 4,
    "pool_doctor.panel": 4,
    "pool_doctor.templatetags": 4,
    "pool_doctor.toolbar": 4,
}
PRESENTATION = 4

# Packages that not everybody has installed, and the only modules that may import them.
OPTIONAL = {
    "celery": {"pool_doctor.adapters.jobs"},
    "debug_toolbar": {"pool_doctor.panel"},
    "dj_db_conn_pool": {
        "pool_doctor.adapters.pools",
        "pool_doctor.adapters.queue_pool",
        "pool_doctor.backends.dj_db_conn_pool.base",
    },
    "opentelemetry": {"pool_doctor.exporters.opentelemetry"},
    "prometheus_client": {"pool_doctor.exporters.prometheus"},
    "rich": {"pool_doctor.management.chart"},
}
REQUIRED = {"django", "psycopg", "psycopg_pool", "tabulate"}


@dataclass(frozen=True)
class Import:
    """One import statement: where it stands, and what it names."""

    module: str
    line: int
    target: str
    deferred: bool
    """Whether it runs at a call only."""

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def layer(module: str) -> int | None:
    return next((rank for name, rank in LAYERS.items() if f"{module}.".startswith(f"{name}.")), None)


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi")]):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _imports_of(module: str, path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    deferred = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            # `from pool_doctor.adapters import pools` is an import of the module `pools` as well.
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            yield Import(module, node.lineno, target, id(node) in deferred)


MODULES = dict(_modules())
IMPORTS = [found for module, path in MODULES.items() for found in _imports_of(module, path)]


def _of_ours() -> list[Import]:
    return [found for found in IMPORTS if found.target.split(".")[0] == "pool_doctor"]


def test_each_module_has_a_layer() -> None:
    assert [module for module in MODULES if layer(module) is None] == ["pool_doctor"]


def test_imports_point_down() -> None:
    upward = [
        str(found)
        for found in _of_ours()
        if found.module != "pool_doctor" and (layer(found.target) or 0) > (layer(found.module) or 0)
    ]
    assert upward == []


def test_no_layer_imports_the_package_itself() -> None:
    """Its names are for users; below it, `from pool_doctor import x` names a module of `LAYERS`."""
    around = [
        str(found)
        for found in _of_ours()
        if layer(found.target) is None and (layer(found.module) or 0) < PRESENTATION and found.module != "pool_doctor"
    ]
    assert around == []


def test_importing_the_package_brings_the_lowest_layer_only() -> None:
    eager = [found for found in _of_ours() if found.module == "pool_doctor" and not found.deferred]
    above = {found.target for found in eager if (layer(found.target) or 0) > 0}
    assert above <= {"pool_doctor.adapters.hold.hold"}, "type checkers may see hold(); see the tests without Django"


@pytest.mark.parametrize("rank", [0, 1])
def test_the_two_lowest_layers_need_the_standard_library_only(rank: int) -> None:
    foreign = [
        str(found)
        for found in IMPORTS
        if layer(found.module) == rank and found.target.split(".")[0] not in {*sys.stdlib_module_names, "pool_doctor"}
    ]
    assert foreign == []


def test_optional_packages_are_imported_in_their_own_modules_only() -> None:
    elsewhere = [
        str(found)
        for found in IMPORTS
        if (package := found.target.split(".")[0]) not in {*sys.stdlib_module_names, *REQUIRED, "pool_doctor"}
        and found.module not in OPTIONAL.get(package, set())
    ]
    assert elsewhere == []


WITHOUT = """
import importlib, pkgutil, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
import pool_doctor
with pool_doctor.scope("work without Django"):
    pass
for name in ("recording", "analysis"):
    package = importlib.import_module(f"pool_doctor.{{name}}")
    for module in pkgutil.walk_packages(package.__path__, f"{{package.__name__}}."):
        importlib.import_module(module.name)
        print(module.name)
"""


def test_the_two_lowest_layers_work_without_django() -> None:
    blocked = {*REQUIRED, *OPTIONAL, "asgiref", "numpy"}
    program = WITHOUT.format(blocked=sorted(blocked))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    low = [module for module, path in MODULES.items() if layer(module) in {0, 1} and path.name != "__init__.py"]
    assert set(low) <= set(done.stdout.split())
