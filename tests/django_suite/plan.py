"""What one run of Django's runtests.py is told, through its environment."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from typing import Any

VARIABLE = "DJANGO_SUITE_PLAN"


@dataclass(frozen=True, slots=True)
class Plan:
    """The databases to use, where to write outcomes, and whether pool_doctor's app is to be ready."""

    databases: dict[str, dict[str, Any]]
    outcomes: str
    installed: bool

    def environment(self) -> dict[str, str]:
        """Return the variable that carries the plan."""
        return {VARIABLE: json.dumps(dataclasses.asdict(self))}


def current_plan() -> Plan:
    """Return the plan of this process."""
    return Plan(**json.loads(os.environ[VARIABLE]))
