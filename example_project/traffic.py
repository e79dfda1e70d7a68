"""Drives real HTTP traffic: the same requests in the same order, from clients that each wait for their answer."""

from __future__ import annotations

import http.client
import itertools
import random
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

REQUEST_TIMEOUT = 60.0
# A day in a shop, by weight: short pages, and checkouts that wait for somebody else's service.
MIX = {
    "/": 10,
    "/orders/{order}/": 18,
    "/quick/": 14,
    "/api-call/?ms=80": 40,
    "/atomic/?ms=20": 4,
    "/on-commit/?ms=80": 8,
    "/sql/?ms=20": 4,
    "/stream/": 1,
    "/nodb/": 1,
}


@dataclass
class Outcome:
    """What the clients saw. `responses` are the times from request to last byte, in seconds."""

    seconds: float = 0.0
    responses: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answered requests per second."""
        return len(self.responses) / self.seconds if self.seconds else 0.0

    def quantile(self, p: float) -> float | None:
        """The response time, in seconds, that a share `p` of the requests did not exceed; None without any."""
        if not self.responses:
            return None
        ordered = sorted(self.responses)
        return ordered[min(len(ordered) - 1, int(p * len(ordered)))]


def shop_requests(count: int, seed: int = 1) -> list[str]:
    """Return the paths of a mix of requests, the same for the same arguments."""
    chance = random.Random(seed)
    paths = chance.choices(list(MIX), weights=list(MIX.values()), k=count)
    return [path.format(order=chance.randint(1, 400)) for path in paths]


def drive(
    url: str,
    paths: Sequence[str],
    *,
    clients: int = 16,
    label: str = "",
    rate: float | None = None,
    during: Callable[[], None] | None = None,
) -> Outcome:
    """Send all requests, `clients` at a time, each on a connection of its own, and return what came back.

    With a `rate`, they come at random, so many a second, whatever the answers take; otherwise as fast as they can.
    `during` is called once, when a third of the requests is answered, while the others go on.
    """
    outcome = Outcome()
    address = urlsplit(url).netloc
    moment = len(paths) // 3
    started = time.perf_counter()
    moments = _moments(len(paths), rate, started)
    with ThreadPoolExecutor(clients) as executor:
        try:
            answers = as_completed(
                [executor.submit(_request, address, *each) for each in zip(paths, moments, strict=True)]
            )
            for number, answer in enumerate(_with_progress(answers, len(paths), label), 1):
                result = answer.result()
                outcome.failures.append(result) if isinstance(result, str) else outcome.responses.append(result)
                if during is not None and number == moment:
                    during()
            outcome.seconds = time.perf_counter() - started
        except BaseException:
            # Ctrl-C: nobody waits for the requests that have not been sent yet.
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    return outcome


def _moments(number: int, rate: float | None, start: float) -> list[float]:
    """Return when each request is to be sent; the same for the same arguments."""
    if rate is None:
        return [start] * number
    chance = random.Random(number)
    return list(itertools.accumulate((chance.expovariate(rate) for _ in range(number)), initial=start))[1:]


def _request(address: str, path: str, moment: float) -> float | str:
    """Return the seconds that a request took, or why it failed."""
    time.sleep(max(0.0, moment - time.perf_counter()))
    started = time.perf_counter()
    connection = http.client.HTTPConnection(address, timeout=REQUEST_TIMEOUT)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{path}: {type(error).__name__}"
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        return f"{path}: status {response.status}"
    return time.perf_counter() - started


def _with_progress(answers: Iterable[Future[float | str]], total: int, label: str) -> Iterator[Future[float | str]]:
    """Pass answers on under a progress bar, or with a line for each quarter where the output is no terminal."""
    if sys.stderr.isatty():
        yield from tqdm(answers, total=total, desc=label, unit="req", ncols=90)
        return
    for number, answer in enumerate(answers, 1):
        yield answer
        if number * 4 // total != (number - 1) * 4 // total:
            print(f"{label}: {number} of {total} requests", file=sys.stderr, flush=True)
