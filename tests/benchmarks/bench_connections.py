"""How many connections each engine needs for what 48 give on the stock pool: pools of all sizes in turns, in one run.

    python -m tests.benchmarks.bench_connections [--rounds 5] [--seconds 5]

Each is served by two gunicorn workers of 24 threads (gthread); 48 clients ask for `/api-call/?ms=50`: a query, 50 ms of
work without the database, another query. The stock pool with a connection for each thread is the measure.

The server is that of DATABASE_URL, else one of the run's own. The peer is django-pg-real-pool, of the dependency group
`benchmark`. pool_doctor records beside its own engine, and is not installed beside the others.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from tabulate import tabulate

from tests.benchmarks.serving import (
    OURS,
    PEER,
    STOCK,
    THREADS,
    WORKERS,
    Variant,
    ask_in_turns,
    database,
    served,
    versions,
)

ENOUGH = 0.95
SIZES = {STOCK: (THREADS, 4), PEER: (1, 2, 4), OURS: (1, 2, 4)}
NAMES = {STOCK: "stock pool", PEER: "django-pg-real-pool", OURS: "pool_doctor"}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each pool is measured (default 5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each time (default 5)")
    options = parser.parse_args()
    print(versions(), end="\n\n")
    variants = [Variant(NAMES[engine], engine, max_size=size) for engine, sizes in SIZES.items() for size in sizes]
    with ExitStack() as stack, database() as url:
        for variant in variants:
            stack.enter_context(served(variant, url))
        ask_in_turns(variants, "/api-call/?ms=50", clients=48, rounds=options.rounds, seconds=options.seconds)
        stack.close()
    measure = variants[0].median
    rows = [
        (variant.name, variant.max_size * WORKERS, *variant.quartiles(), variant.median / measure, variant.failures)
        for variant in variants
    ]
    headers = ("engine", "connections", "min req/s", "lower quartile", "median", "upper quartile", "share", "failed")
    print(tabulate(rows, headers, floatfmt=("", "", ".0f", ".0f", ".0f", ".0f", ".2f", ""), tablefmt="github"))
    for engine, name in NAMES.items():
        enough = [v.max_size * WORKERS for v in variants if v.engine == engine and v.median >= ENOUGH * measure]
        print(f"{name}: {min(enough, default='more')} connections for {ENOUGH:.0%} of {measure:.0f} requests a second")


if __name__ == "__main__":
    main()
