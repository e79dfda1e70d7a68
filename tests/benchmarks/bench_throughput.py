"""Requests per second of the shop under load, with four connections a worker: all engines in turns, in one run.

    python -m tests.benchmarks.bench_throughput [--rounds 5] [--seconds 5]

Each engine is served by two gunicorn workers of 24 threads (gthread). `/api-call/?ms=50` runs a query, works for 50 ms
without the database, and runs another; 48 clients ask for it. `/quick/` runs one short query; 50 clients ask for it,
and persistent connections (CONN_MAX_AGE, one connection a thread) stand beside the pools.

The server is that of DATABASE_URL, else one of the run's own. The peer is django-pg-real-pool, of the dependency group
`benchmark`. pool_doctor records beside its own engine, and is not installed beside the others.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from tabulate import tabulate

from tests.benchmarks.serving import OURS, PEER, STOCK, Variant, ask_in_turns, database, served, versions

FOREVER = 10**9


def pooled() -> list[Variant]:
    """Return the engines with a pool."""
    return [
        Variant("stock pool", STOCK, max_size=4),
        Variant("django-pg-real-pool", PEER, max_size=4),
        Variant("pool_doctor", OURS, max_size=4),
    ]


def measure(variants: list[Variant], path: str, clients: int, rounds: int, seconds: float) -> str:
    """Return a table of the rates of all ways to serve one page."""
    with ExitStack() as stack, database() as url:
        for variant in variants:
            stack.enter_context(served(variant, url))
        ask_in_turns(variants, path, clients=clients, rounds=rounds, seconds=seconds)
        stack.close()
    stock = variants[0].median
    rows = [(variant.name, *variant.quartiles(), variant.median / stock, variant.failures) for variant in variants]
    headers = ("engine", "min req/s", "lower quartile", "median", "upper quartile", "times the stock pool", "failed")
    return tabulate(rows, headers, floatfmt=("", ".0f", ".0f", ".0f", ".0f", ".2f", ""), tablefmt="github")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each engine is measured (default 5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each time (default 5)")
    options = parser.parse_args()
    print(versions())
    print("\n/api-call/?ms=50, 48 clients\n")
    print(measure(pooled(), "/api-call/?ms=50", 48, options.rounds, options.seconds), flush=True)
    print("\n/quick/, 50 clients\n")
    persistent = Variant("persistent connections", STOCK, max_size=0, max_age=FOREVER)
    print(measure([*pooled(), persistent], "/quick/", 50, options.rounds, options.seconds))


if __name__ == "__main__":
    main()
