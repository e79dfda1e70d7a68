"""One short prediction, so that the whole way from a real load to a comparison is walked; all: see `__main__`."""

from __future__ import annotations

import pytest

from tests.prediction.judging import Comparison, compare
from tests.prediction.running import run
from tests.prediction.scenarios import SCENARIOS, Pool

pytestmark = pytest.mark.heavy
SECONDS = 4.0


def test_a_pool_is_predicted_from_another_ones_recording(shop_database_url: str) -> None:
    """With a wide margin: a machine that is busy with other things delays what the recording knows nothing of."""
    scenario = SCENARIOS[0]
    recorded = run(scenario, scenario.recorded, shop_database_url, seconds=SECONDS, seed=3)
    found: dict[Pool, Comparison] = {}
    for pool in (Pool("request", 2), Pool("query", 2)):
        measured = run(scenario, pool, shop_database_url, seconds=SECONDS, seed=3)
        found[pool] = compare(scenario, pool, recorded, measured)
    few, releasing = found.values()
    assert few.p_wait > 0.8
    assert few.error == pytest.approx(0.0, abs=0.2)
    assert releasing.p_wait < 0.5
    assert releasing.error == pytest.approx(0.0, abs=0.35)


def test_there_are_enough_different_loads() -> None:
    assert len(SCENARIOS) >= 12
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    both = {(scenario.recorded.policy, pool.policy) for scenario in SCENARIOS for pool in scenario.predicted}
    assert both == {("request", "request"), ("request", "query"), ("query", "request"), ("query", "query")}
