"""The demonstration: the same traffic on Django's own engine and on the releasing one, and what pool_doctor sees."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from example_project import postgres
from example_project.databases import prepare_database
from example_project.servers import ROOT, ServerOptions, running_server
from example_project.traffic import Outcome, drive, shop_requests

REQUESTS = 1200
CLIENTS = 16
CALM_REQUESTS, CALM_RATE, CALM_SIZE = 500, 40.0, 8
NAMES = {"native": "Django's engine", "release": "releasing engine"}


@dataclass(frozen=True)
class Result:
    """One engine under the traffic: what the clients saw, and the report on the database `default`."""

    outcome: Outcome
    report: dict[str, Any]


def has_releasing_engine() -> bool:
    """Whether pool_doctor in this environment has its own engine."""
    return importlib.util.find_spec("pool_doctor.backends.postgresql") is not None


def run() -> int:
    """Run the demonstration and return the exit status: 1 when a request failed."""
    with postgres.provide() as url:
        print("Preparing the shop's database ...", flush=True)
        prepare_database(url)
        engines = [engine for engine in NAMES if engine == "native" or has_releasing_engine()]
        results = {engine: _measure(engine, url, show_report=engine == "native") for engine in engines}
        print(_comparison(results), flush=True)
        calm = _advise(url)
    outcomes = [calm, *(result.outcome for result in results.values())]
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    if failures:
        print(f"{len(failures)} requests failed; the first: {failures[0]}", file=sys.stderr)
    return 1 if failures else 0


def _measure(engine: str, url: str, *, show_report: bool) -> Result:
    options = ServerOptions(engine=engine)
    directory = Path(tempfile.mkdtemp(prefix="pool_doctor-recordings-"))
    with running_server(options, url, directory, remove=[directory]) as server:
        environment = {**os.environ, **options.environment(url, directory)}
        shown: list[str] = []
        label = f"{NAMES[engine]}, {options.workers} workers x {options.threads} threads, {CLIENTS} clients"
        outcome = drive(
            server.url,
            shop_requests(REQUESTS),
            clients=CLIENTS,
            label=label,
            during=(lambda: shown.append(_pool_report(environment, "--no-advice"))) if show_report else None,
        )
        if shown:
            print("\n$ manage.py pool_report        (another process, while the traffic went on)\n")
            print(shown[0], flush=True)
        report = json.loads(_pool_report(environment, "--format", "json", "--no-advice"))
    return Result(outcome, report["databases"]["default"])


def _advise(url: str) -> Outcome:
    """Print the advice that comes from traffic which leaves the processors and the pool some room."""
    options = ServerOptions(max_size=CALM_SIZE)
    directory = Path(tempfile.mkdtemp(prefix="pool_doctor-recordings-"))
    with running_server(options, url, directory, remove=[directory]) as server:
        label = f"{NAMES['native']} with {CALM_SIZE} connections, {CALM_RATE:g} requests a second"
        requests = shop_requests(CALM_REQUESTS)
        outcome = drive(server.url, requests, clients=4 * CLIENTS, rate=CALM_RATE, label=label)
        environment = {**os.environ, **options.environment(url, directory)}
        _, _, advice = _pool_report(environment).partition("\nAdvice\n")
    print(
        f"\n$ manage.py pool_report        (its end, after {CALM_RATE:g} requests a second)\n\nAdvice\n{advice}", end=""
    )
    return outcome


def _pool_report(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "example_project" / "manage.py"), "pool_report", *arguments]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def _comparison(results: dict[str, Result]) -> str:
    """Return the table of what the clients and the workers' pools went through, an engine a column."""
    rows: dict[str, list[str]] = {}
    for result in results.values():
        demand = result.report["demand"]
        cells = {
            "requests per second": f"{result.outcome.rate:.0f}",
            "response p50": _milliseconds(result.outcome.quantile(0.50)),
            "response p95": _milliseconds(result.outcome.quantile(0.95)),
            "wait for a connection p99": _milliseconds(demand["wait"]["p99"]),
            "connection held p50": _milliseconds(demand["hold"]["p50"]),
            "peak in use, of a worker's pool": f"{demand['peak_in_use']} of {result.report['pool']['max_size']}",
        }
        for name, cell in cells.items():
            rows.setdefault(name, []).append(cell)
    headers = [f"{REQUESTS} requests, {CLIENTS} clients", *(NAMES[engine] for engine in results)]
    table = tabulate(
        [[name, *cells] for name, cells in rows.items()],
        headers=headers,
        tablefmt="simple",
        disable_numparse=True,
        colalign=["left", *("right" for _ in results)],
    )
    return f"{table}\n"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.3g} ms"
