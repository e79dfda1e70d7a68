"""The server's limit, shared by all workers."""

from __future__ import annotations

import pytest

from pool_doctor.analysis.budget import Budget, per_worker


def test_the_known_answers(oracles):
    for known in oracles["budget"]:
        assert (
            per_worker(
                max_connections=known["max_connections"],
                superuser_reserved=known["superuser_reserved_connections"],
                reserved=known["reserved_connections"],
                others=known["others"],
                hosts=known["hosts"],
                workers=known["workers"],
                deploy_surge=known["deploy_surge"],
            )
            == known["per_worker"]
        )


def test_all_workers_together_fit():
    for workers in range(1, 30):
        size = per_worker(200, 3, 2, 15, 2, workers, 1.0)
        assert size * 2 * workers * 2 <= 180 < (size + 1) * 2 * workers * 2


def test_a_tenth_is_a_tenth():
    assert per_worker(110, 0, 0, 0, 1, 10, 0.1) == 10


def test_a_server_that_is_too_small_gives_nothing():
    assert per_worker(20, 3, 0, 10, 4, 4, 0) == 0
    assert per_worker(20, 3, 0, 30, 1, 1, 0) == 0


def test_the_sentence_has_the_calculation():
    assert Budget(100, 3, 0, 10, 3, 4, 0.25).sentence == (
        "The server takes 100 connections; 3 are reserved and 10 belong to others, which leaves 87 for 3 x 4 workers "
        "plus 25% while a deployment runs: 5 for each worker."
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0, 3, 0, 0, 1, 1, 0), "^max_connections must be a whole number of at least 1, not 0"),
        ((100, -3, 0, 0, 1, 1, 0), "^superuser_reserved must be a whole number of at least 0, not -3"),
        ((100, 3, 0.5, 0, 1, 1, 0), "^reserved must be"),
        ((100, 3, 0, "x", 1, 1, 0), "^others must be"),
        ((100, 3, 0, 0, 0, 1, 0), "^hosts must be"),
        ((100, 3, 0, 0, 1, 0, 0), "^workers must be"),
        ((100, 3, 0, 0, 1, 1, -0.1), "^deploy_surge must be a number of extra processes for each process, 0 or more"),
    ],
)
def test_a_number_that_cannot_be_gets_one_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        per_worker(*arguments)
