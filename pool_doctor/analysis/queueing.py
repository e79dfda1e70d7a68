"""Two textbook queues, as cross-checks of the replay.

Both assume what real traffic seldom keeps: arrivals at random and exponential holds. Where they agree with
the replay, the traffic is of that kind; where they do not, the replay is right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import accumulate

from pool_doctor.analysis._checks import number, share, whole


@dataclass(frozen=True, slots=True)
class ErlangC:
    """M/M/c: random arrivals from an endless crowd, ``servers`` connections, first come, first served.

    ``arrival_rate`` is in checkouts a second, ``service_time`` the mean hold in seconds. With as much work as
    the servers can do, or more, the queue grows for ever: ``p_wait`` is 1, ``mean_wait`` and all quantiles
    are infinite.

    Source: A. K. Erlang, "Solution of some problems in the theory of probabilities" (1917), computed by the
    recursion of the loss formula, which neither over- nor underflows.
    Raise ValueError for a number that cannot be.
    """

    arrival_rate: float
    service_time: float
    servers: int
    p_wait: float = field(init=False)
    """The share of checkouts that have to wait."""
    mean_wait: float = field(init=False)
    """The mean wait over all checkouts, those without a wait included, in seconds."""

    def __post_init__(self) -> None:
        rate = number("arrival_rate", self.arrival_rate, "checkouts a second")
        service = number("service_time", self.service_time, "seconds", positive=True)
        servers = whole("servers", self.servers, 1)
        load = rate * service
        if load >= servers:
            p_wait, mean_wait = 1.0, math.inf
        else:
            blocked = 1.0
            for busy in range(1, servers + 1):
                blocked = load * blocked / (busy + load * blocked)
            p_wait = blocked / (1 - load / servers * (1 - blocked))
            mean_wait = p_wait * service / (servers - load)
        object.__setattr__(self, "p_wait", p_wait)
        object.__setattr__(self, "mean_wait", mean_wait)

    def wait_quantile(self, p: float) -> float:
        """Return the wait in seconds that the share ``p`` of all checkouts do not exceed."""
        if share("p", p) <= 1 - self.p_wait:
            return 0.0
        load = self.arrival_rate * self.service_time
        if p == 1 or load >= self.servers:
            return math.inf
        return math.log(self.p_wait / (1 - p)) * self.service_time / (self.servers - load)


@dataclass(frozen=True, slots=True)
class FiniteSource:
    """M/M/c//N: ``population`` threads that think, then want one of ``servers``, as arrivals see it.

    ``service_time`` is the mean hold and ``think_time`` the mean time between the end of a hold and the next
    checkout of the same thread, both in seconds. A thread that arrives sees the queue as it would be without
    it: the arrival theorem (Sevcik and Mitrani, "The distribution of queuing network states at input and
    output instants", 1981; Lavenberg and Reiser 1980). Raise ValueError for a number that cannot be.
    """

    population: int
    servers: int
    service_time: float
    think_time: float
    p_wait: float = field(init=False)
    """The share of checkouts that have to wait."""
    mean_wait: float = field(init=False)
    """The mean wait over all checkouts, those without a wait included, in seconds."""
    throughput: float = field(init=False)
    """Checkouts a second."""
    _queued: tuple[float, ...] = field(init=False, repr=False)
    """The share of arrivals that find all servers busy and 0, 1, 2... others queued."""

    def __post_init__(self) -> None:
        population = whole("population", self.population, 1)
        servers = whole("servers", self.servers, 1)
        service = number("service_time", self.service_time, "seconds", positive=True)
        think = number("think_time", self.think_time, "seconds")
        queued = tuple(_states(population - 1, servers, service, think)[servers:])
        mean_wait = sum(found * (ahead + 1) for ahead, found in enumerate(queued)) * service / servers
        object.__setattr__(self, "_queued", queued)
        object.__setattr__(self, "p_wait", min(1.0, math.fsum(queued)))
        object.__setattr__(self, "mean_wait", mean_wait)
        object.__setattr__(self, "throughput", population / (think + mean_wait + service))

    def wait_quantile(self, p: float) -> float:
        """Return the wait in seconds that the share ``p`` of all checkouts do not exceed."""
        if share("p", p) <= 1 - self.p_wait:
            return 0.0
        if p == 1:
            return math.inf
        low, high = 0.0, self.service_time
        while self._share_above(high) > 1 - p:
            low, high = high, 2 * high
        while high - low > 1e-12 * high:
            middle = (low + high) / 2
            if not low < middle < high:
                break
            low, high = (middle, high) if self._share_above(middle) > 1 - p else (low, middle)
        return high

    def _share_above(self, wait: float) -> float:
        """Who finds k queued waits for k + 1 departures: the tail of an Erlang distribution."""
        departures = wait * self.servers / self.service_time
        log_departures = math.log(departures)
        fewer = accumulate(
            math.exp(count * log_departures - departures - math.lgamma(count + 1)) for count in range(len(self._queued))
        )
        return math.fsum(found * tail for found, tail in zip(self._queued, fewer, strict=True))


def _states(population: int, servers: int, service: float, think: float) -> list[float]:
    """Return how likely 0, 1... ``population`` of them are at the servers, at any time."""
    if think == 0:
        return [0.0] * population + [1.0]
    # Ratios of neighbours, summed as logarithms: the weights themselves overflow for a few hundred threads.
    ratio = math.log(service) - math.log(think)
    logs = [0.0]
    for there in range(population):
        logs.append(logs[-1] + ratio + math.log((population - there) / min(there + 1, servers)))
    top = max(logs)
    weights = [math.exp(log - top) for log in logs]
    total = math.fsum(weights)
    return [weight / total for weight in weights]
