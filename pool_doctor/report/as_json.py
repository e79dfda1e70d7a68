"""The report as JSON, schema 1 (docs/report-schema.json). Durations are seconds, absent facts are null."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pool_doctor.report.model import (
    Configuration,
    DatabaseReport,
    Demand,
    Distribution,
    Report,
    Scope,
    ServerError,
    ServerFacts,
    Worker,
)

if TYPE_CHECKING:
    from pool_doctor.analysis.advice import Advice

SCHEMA = 1


def render_json(report: Report) -> str:
    """Return the report as one JSON document that ends with a newline."""
    return json.dumps(as_dict(report), indent=2, allow_nan=False) + "\n"


def as_dict(report: Report) -> dict[str, Any]:
    """Return the report as plain values that JSON knows."""
    return {
        "schema": SCHEMA,
        "generated_at": _moment(report.generated_at),
        "window": {
            "start": _moment(report.window.start),
            "end": _moment(report.window.end),
            "seconds": _number(report.window.seconds),
        },
        "databases": {alias: _database(database) for alias, database in report.databases.items()},
    }


def _database(database: DatabaseReport) -> dict[str, Any]:
    advice = database.advice
    return {
        "engine": database.configuration.engine,
        "policy": database.configuration.policy,
        "pool": _pool(database.configuration),
        "workers": [_worker(worker) for worker in database.workers],
        "demand": _demand(database.demand),
        "scopes": [_scope(scope) for scope in database.scopes],
        "server": _server(database.server),
        **({} if advice is None else {"advice": {policy: _advice(own) for policy, own in advice.advice.items()}}),
    }


def _pool(configuration: Configuration) -> dict[str, Any] | None:
    pool = configuration.pool
    if pool is None:
        return None
    return {
        "min_size": pool.min_size,
        "max_size": pool.max_size or None,
        "timeout": _number(pool.timeout),
        "max_waiting": pool.max_waiting,
        "max_lifetime": _number(pool.max_lifetime),
        "max_idle": _number(pool.max_idle),
    }


def _worker(worker: Worker) -> dict[str, Any]:
    return {
        "pid": worker.pid,
        "kind": worker.kind,
        "command": worker.command,
        "started_at": _moment(worker.started_at),
        "alive": worker.alive,
        "size": worker.size,
        "available": worker.available,
        "in_use": worker.in_use,
        "waiting": worker.waiting,
        "peak_in_use": worker.peak_in_use,
        "open": [
            {
                "scope": checkout.scope,
                "held_for": _number(checkout.held_for),
                "idle_for": _number(checkout.idle_for),
                "site": checkout.site or None,
            }
            for checkout in worker.open
        ],
    }


def _demand(demand: Demand) -> dict[str, Any]:
    return {
        "checkouts": demand.checkouts,
        "timeouts": demand.timeouts,
        "rate": _number(demand.rate),
        "busy_mean": _number(demand.busy_mean),
        "peak_in_use": demand.peak_in_use,
        "wait": _distribution(demand.wait),
        "hold": _distribution(demand.hold),
        "needed": _distribution(demand.needed),
    }


def _distribution(distribution: Distribution) -> dict[str, float | None]:
    return {
        "p50": _number(distribution.p50),
        "p95": _number(distribution.p95),
        "p99": _number(distribution.p99),
        "max": _number(distribution.max),
        "mean": _number(distribution.mean),
    }


def _scope(scope: Scope) -> dict[str, Any]:
    return {
        "name": scope.name,
        "requests": scope.requests,
        "checkouts_per_request": _number(scope.checkouts_per_request),
        "hold": _number(scope.hold),
        "needed": _number(scope.needed),
        "idle_while_held": _number(scope.idle_while_held),
    }


def _server(server: ServerFacts | ServerError) -> dict[str, Any]:
    if isinstance(server, ServerError):
        return {"error": server.error}
    return {
        "version": server.version,
        "max_connections": server.max_connections,
        "reserved": server.reserved,
        "in_use": server.in_use,
        "by_state": server.by_state,
        "by_application": server.by_application,
        "pooler": server.pooler,
    }


def _advice(advice: Advice) -> dict[str, Any]:
    predicted = advice.predicted
    return {
        **advice.as_dict(),
        "timeout": _number(advice.timeout),
        "predicted": predicted
        and {
            "p_wait": _number(predicted.p_wait),
            "wait_p99": _number(predicted.wait_p99),
            "interval": [_number(bound) for bound in predicted.interval],
        },
    }


def _moment(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")


def _number(value: float | None) -> float | None:
    """Round to the nanosecond, below which nothing is measured. JSON has no infinity: that becomes null."""
    return round(float(value), 9) if value is not None and math.isfinite(value) else None
