"""The known answers."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest


@pytest.fixture(scope="session")
def oracles() -> dict[str, list[dict[str, Any]]]:
    return json.loads(pathlib.Path(__file__).with_name("oracles.json").read_text())
