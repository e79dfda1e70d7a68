"""Mistakes that a type checker finds: each `type: ignore` names the error, and is an error where there is none."""

from __future__ import annotations

import pool_doctor
from pool_doctor import hold, scope
from pool_doctor.analysis.queueing import ErlangC
from pool_doctor.analysis.replay import Request, replay

scope()  # type: ignore[call-arg]
scope(42)  # type: ignore[arg-type]
scope("import", kind="thread")  # type: ignore[call-arg]
hold(None)  # type: ignore[arg-type]
hold(alias="default")  # type: ignore[call-arg]
pool_doctor.unhold()  # type: ignore[attr-defined]


@scope("nightly import")
def imported(path: str) -> int:
    return len(path)


@hold  # type: ignore[arg-type]
def bare(path: str) -> int:
    return len(path)


imported(b"a.csv")  # type: ignore[arg-type]
number: str = imported("a.csv")  # type: ignore[assignment]

ErlangC(90.0, 0.05)  # type: ignore[call-arg]
ErlangC("90", 0.05, 8)  # type: ignore[arg-type]
ErlangC(90.0, 0.05, 8).servers = 9  # type: ignore[misc]
replay([(0.0, ((0.0, 0.1),), 0.0)], 4)  # type: ignore[list-item]
replay([Request(0.0, (0.1,))], 4)  # type: ignore[arg-type]
