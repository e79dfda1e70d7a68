"""What the recorded traffic would meet in pools of other sizes: collected, and as a table, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tabulate import tabulate

from pool_doctor.adapters.conf import get_settings
from pool_doctor.analysis.simulate import knee
from pool_doctor.analysis.wording import duration, percent
from pool_doctor.recording.reader import read_directory
from pool_doctor.report.collect import postgresql
from pool_doctor.report.model import ReportError
from pool_doctor.report.traces import Traces
from pool_doctor.report.words import clean, count, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pool_doctor.analysis.simulate import SizeOutcome, WhatIf
    from pool_doctor.report.traces import Traffic

SCHEMA = 1


@dataclass(frozen=True)
class Simulated:
    """The outcomes of some sizes, and what was asked."""

    traffic: Traffic
    what_if: WhatIf
    wanted: Sequence[int]
    rows: Sequence[SizeOutcome]
    """Of the sizes that were replayed: all that were wanted, unless somebody stopped it."""

    @property
    def knee(self) -> int | None:
        """The size beyond which more connections help little; None without rows."""
        return knee(self.rows)

    @property
    def left(self) -> Sequence[int]:
        """The sizes that were not replayed any more."""
        return self.wanted[len(self.rows) :]


def recorded_traffic(alias: str | None, *, last: float | None = None, threads: int | None = None) -> Traffic:
    """Return the traffic of a database: of the one PostgreSQL alias, or of the one named.

    ``last`` limits it to the last so many seconds; ``threads`` takes the place of what the web servers said. Raises
    ReportError where that cannot be, or nothing is recorded.
    """
    wrappers = postgresql([alias] if alias else [])
    if len(wrappers) > 1:
        names = ", ".join(wrappers)
        raise ReportError(f"There are several PostgreSQL databases; name one with --database: {names}.")
    (name,) = wrappers
    since = None if last is None else time.time() - last
    settings = get_settings()
    recordings = read_directory(settings.directory, since)
    traffic = Traces(recordings, since).traffic(name, threads=threads or settings.threads)
    if traffic is None or not any(request.checkouts for request in traffic.trace.requests):
        raise ReportError(
            f"No checkout of {name!r} is recorded in {settings.directory}: send traffic through the workers, and see "
            "pool_report for what is recorded."
        )
    return traffic


def simulation_as_text(simulated: Simulated) -> str:
    """Return the table, with the knee and the recorded size marked, and what it is of."""
    trace, what_if = simulated.traffic.trace, simulated.what_if
    headers = ["Size", "P(wait)", "95 % interval", "p50 wait", "p95 wait", "p99 wait", "Timeouts", "Use", ""]
    marks = {simulated.knee: "knee"}
    if trace.max_size is not None and what_if.policy == trace.policy:
        marks[trace.max_size] = f"{marks[trace.max_size]}, recorded" if trace.max_size in marks else "recorded"
    cells = [
        (
            str(row.max_size),
            percent(row.p_wait.value),
            f"{percent(row.p_wait.low)} to {percent(row.p_wait.high)}",
            *(duration(wait) for wait in (row.wait_p50, row.wait_p95, row.wait_p99)),
            count(row.timeouts),
            percent(row.utilisation),
            marks.get(row.max_size, ""),
        )
        for row in simulated.rows
    ]
    table = tabulate(cells, headers, "simple", disable_numparse=True, colalign=["right"] * 8 + ["left"])
    return "\n".join([_title(simulated), "", *(line.rstrip() for line in table.splitlines())]) + "\n"


def _title(simulated: Simulated) -> str:
    trace, what_if = simulated.traffic.trace, simulated.what_if
    threads = what_if.threads or trace.threads
    recorded = f"recorded in {duration(trace.seconds)} under policy {trace.policy}"
    workers = plural(what_if.workers or len(trace.processes), "worker")
    limit = f"{plural(threads, 'thread')} each" if threads else "any number of threads"
    load = "" if what_if.load == 1 else f", {what_if.load:g} times as fast"
    return (
        f"{clean(trace.alias)}: {plural(len(trace.requests), 'request')}, {recorded}{load}.\n"
        f"Replayed under policy {what_if.policy} on {workers} with {limit}; sizes are connections of one worker."
    )


def simulation_as_json(simulated: Simulated) -> str:
    """Return everything as one JSON document that ends with a newline; durations are seconds."""
    trace, what_if = simulated.traffic.trace, simulated.what_if
    document = {
        "schema": SCHEMA,
        "database": trace.alias,
        "recorded": {
            "policy": trace.policy,
            "max_size": trace.max_size,
            "seconds": round(trace.seconds, 9),
            "requests": len(trace.requests),
            "workers": len(trace.processes),
        },
        "what_if": {
            "policy": what_if.policy,
            "load": what_if.load,
            "threads": what_if.threads or trace.threads,
            "workers": what_if.workers or len(trace.processes),
            "timeout": what_if.timeout,
            "target_wait": what_if.target_wait,
        },
        "knee": simulated.knee,
        "sizes": [row.as_dict() for row in simulated.rows],
        "not_simulated": list(simulated.left),
        "notes": list(simulated.traffic.notes),
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def simulation_as_csv(simulated: Simulated) -> str:
    """Return one line for each size, with the same names as in JSON, and whether it is the knee."""
    output = io.StringIO()
    lines = [{**row.as_dict(), "knee": row.max_size == simulated.knee} for row in simulated.rows]
    writer = csv.DictWriter(output, list(lines[0]) if lines else ["max_size"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return output.getvalue()
