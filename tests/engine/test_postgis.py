"""The releasing engine for PostGIS: geometries work on each physical connection."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from tests.engine.conftest import ALIAS, POSTGIS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.engine.conftest import Database

try:
    import_module(f"{POSTGIS}.base")
except (ImproperlyConfigured, ImportError) as error:
    pytest.skip(f"PostGIS's engine needs GDAL and GEOS: {str(error).splitlines()[0]}", allow_module_level=True)

from django.contrib.gis.geos import Point


@pytest.fixture
def spatial(configure: Callable[..., Database], witness: psycopg.Connection[Any]) -> Iterator[Database]:
    """A database with the extension, whose pool has two connections."""
    try:
        witness.execute("CREATE EXTENSION postgis")
    except psycopg.errors.FeatureNotSupported as error:
        pytest.skip(f"this PostgreSQL has no PostGIS: {str(error).splitlines()[0]}")
    database = configure(POSTGIS)
    yield database
    database.connection.close()
    witness.execute("DROP EXTENSION postgis CASCADE")


def test_geometries_on_each_connection(spatial: Database) -> None:
    assert spatial.connection.ops.postgis_version
    assert spatial.in_use == 0
    adapter = spatial.connection.ops.Adapter
    for _ in range(2):
        for number in range(3):
            found = spatial.value("SELECT ST_X(%s)", [adapter(Point(number, 2, srid=4326))])
            assert found == number
            assert spatial.in_use == 0
        with spatial.pool.connection():
            assert spatial.value("SELECT ST_Y(%s)", [adapter(Point(1, 2, srid=4326))]) == 2


def test_transactions(spatial: Database, stored: Callable[[], list[int]]) -> None:
    with transaction.atomic(using=ALIAS):
        spatial.query("INSERT INTO numbers VALUES (1)")
        assert spatial.in_use == 1
    assert spatial.in_use == 0
    assert stored() == [1]


def test_the_schema_editor_is_the_spatial_one(spatial: Database) -> None:
    from django.contrib.gis.db.backends.postgis.schema import PostGISSchemaEditor

    with spatial.connection.schema_editor() as editor:
        assert isinstance(editor, PostGISSchemaEditor)
        assert editor.quote_value("it's") == "'it''s'"
    assert spatial.in_use == 0
