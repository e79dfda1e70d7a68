"""The panel in the real toolbar: what it stores of requests, and what it shows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.panel.conftest import Site

both_policies = pytest.mark.parametrize("policy", ["request", "query"], indirect=True)


def test_a_held_connection(site: Site) -> None:
    database = site.database("/several/?n=2&ms=50")
    totals = database["totals"]
    assert (totals["checkouts"], totals["queries"]) == (1, 2)
    assert 0.05 < totals["hold"]
    print(database)
