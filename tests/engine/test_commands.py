"""manage.py on the releasing engine: migrate, flush, inspectdb, check, dbshell and the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from example_project import postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def manage(postgres_url: str) -> Iterator[Callable[..., str]]:
    """A function that runs a command on a database of its own, and returns what it says."""
    name = f"test_commands_{os.getpid()}"
    url = postgres.create_database(postgres_url, name)
    environment = {**os.environ, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "tests.engine.settings"}

    def run(*arguments: str, text: str | None = None) -> str:
        command = [sys.executable, "-W", "error", "-m", "django", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, input=text, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    run("migrate", "--verbosity", "0")
    yield run
    postgres.drop_database(postgres_url, name)


def test_migrations_go_forth_and_back(manage: Callable[..., str]) -> None:
    assert "[ ]" not in manage("showmigrations", "shop")
    manage("migrate", "shop", "zero")
    assert "[X]" not in manage("showmigrations", "shop")
    assert "No planned" not in manage("migrate", "--plan")
    manage("migrate")
    assert "[ ]" not in manage("showmigrations", "shop")
    assert 'CREATE TABLE "shop_product"' in manage("sqlmigrate", "shop", "0001")


def test_checks(manage: Callable[..., str]) -> None:
    assert "no issues" in manage("check", "--tag", "database", "--database", "default")


def test_inspectdb(manage: Callable[..., str]) -> None:
    said = manage("inspectdb", "shop_customer")
    assert "class ShopCustomer(models.Model):" in said
    assert "email = models.CharField(unique=True" in said


def test_data_goes_out_in_and_away(manage: Callable[..., str], tmp_path: Path) -> None:
    rows = [{"model": "shop.customer", "pk": 7, "fields": {"name": "Ada", "email": "ada@shop"}}]
    fixture = tmp_path / "customers.json"
    fixture.write_text(json.dumps(rows))
    manage("loaddata", str(fixture))
    assert json.loads(manage("dumpdata", "shop.customer")) == rows
    assert "setval" in manage("sqlsequencereset", "shop")
    manage("flush", "--noinput")
    assert json.loads(manage("dumpdata", "shop.customer")) == []


def test_dbshell(manage: Callable[..., str]) -> None:
    try:
        subprocess.run(["psql", "--version"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no psql")
    assert manage("dbshell", "--", "-Atc", "SELECT 6 * 7").strip() == "42"


def test_shell(manage: Callable[..., str]) -> None:
    program = "from example_project.shop.models import Customer; print('found', Customer.objects.count())"
    assert "found 0" in manage("shell", "-c", program)


def test_cache_table(manage: Callable[..., str]) -> None:
    manage("createcachetable", "engine_cache")
    assert "class EngineCache(models.Model):" in manage("inspectdb", "engine_cache")
