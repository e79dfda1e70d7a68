"""The loads to predict: who asks when for what, which pool records it, and which pools are predicted from that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from example_project.traffic import shop_requests

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

Arrival = tuple[float, str]
"""When, in seconds from the beginning, and which path."""


class Pool(NamedTuple):
    """A policy, and how many connections each worker has."""

    policy: str
    size: int

    def __str__(self) -> str:
        return f"{self.policy} {self.size}"


@dataclass(frozen=True)
class Scenario:
    """One load. `arrivals` makes it, for a source of chance and a number of seconds."""

    name: str
    arrivals: Callable[[random.Random, float], Iterator[Arrival]]
    recorded: Pool
    predicted: tuple[Pool, ...]
    threads: int = 16
    workers: int = 1
    server: str = "gunicorn"
    saturated: bool = False
    """Whether the recorded pool hides the demand, so that nobody can predict from it."""


def at_random(rate: float, *paths: str) -> Callable[[random.Random, float], Iterator[Arrival]]:
    """Requests that come at random, `rate` a second, each for one of `paths`."""

    def arrivals(chance: random.Random, seconds: float) -> Iterator[Arrival]:
        moment = chance.expovariate(rate)
        while moment < seconds:
            yield moment, chance.choice(paths)
            moment += chance.expovariate(rate)

    return arrivals


def in_bursts(number: int, every: float, path: str) -> Callable[[random.Random, float], Iterator[Arrival]]:
    """So many requests at once, at intervals that are random around `every` seconds."""

    def arrivals(chance: random.Random, seconds: float) -> Iterator[Arrival]:
        moment = 0.1
        while moment < seconds:
            yield from ((moment, path) for _ in range(number))
            moment += every * chance.uniform(0.7, 1.3)

    return arrivals


def together(*parts: Callable[[random.Random, float], Iterator[Arrival]]) -> Callable[..., Iterator[Arrival]]:
    """Several loads at once."""

    def arrivals(chance: random.Random, seconds: float) -> Iterator[Arrival]:
        yield from sorted(arrival for part in parts for arrival in part(chance, seconds))

    return arrivals


def shop(rate: float) -> Callable[[random.Random, float], Iterator[Arrival]]:
    """The mix of the demonstration, at random."""

    def arrivals(chance: random.Random, seconds: float) -> Iterator[Arrival]:
        moments = [moment for moment, _ in at_random(rate, "")(chance, seconds)]
        yield from zip(moments, shop_requests(len(moments), chance.randrange(1_000_000)), strict=True)

    return arrivals


def request(*sizes: int) -> tuple[Pool, ...]:
    """Pools under the policy `request`."""
    return tuple(Pool("request", size) for size in sizes)


def query(*sizes: int) -> tuple[Pool, ...]:
    """Pools under the policy `query`."""
    return tuple(Pool("query", size) for size in sizes)


API = "/api-call/?ms=100"
SCENARIOS = (
    Scenario("steady", at_random(35, API), Pool("request", 10), request(4, 5) + query(1)),
    Scenario("bursts of 10", in_bursts(10, 0.8, API), Pool("request", 12), request(6) + query(2)),
    Scenario("long transactions", at_random(30, "/atomic/?ms=100"), Pool("request", 10), request(4) + query(4)),
    Scenario(
        "one slow report",
        together(at_random(0.8, "/sql/?ms=1500"), at_random(30, "/quick/")),
        Pool("request", 8),
        request(2) + query(2),
    ),
    Scenario("mixed views", shop(35), Pool("request", 10), request(3) + query(2)),
    Scenario("on_commit hooks", at_random(30, "/on-commit/?ms=100"), Pool("request", 10), request(4) + query(1)),
    Scenario("statements only", at_random(30, "/sql/?ms=50"), Pool("request", 8), request(2) + query(2)),
    Scenario("two workers", at_random(50, API), Pool("request", 8), request(3) + query(1), workers=2),
    Scenario("few threads", at_random(25, API), Pool("request", 4), request(3) + query(1), threads=4),
    Scenario("one thread", at_random(12, "/api-call/?ms=40"), Pool("request", 2), request(1) + query(1), threads=1),
    Scenario(
        "async views", at_random(20, "/async/?ms=100"), Pool("request", 10), request(3) + query(1), server="uvicorn"
    ),
    Scenario("recorded while releasing", at_random(30, API), Pool("query", 4), request(4) + query(1)),
    Scenario("saturated", at_random(40, API), Pool("request", 2), request(6) + query(2), saturated=True),
)
