"""The options that pool_report and pool_simulate have in common, and how numbers are read off a command line."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError

from pool_doctor.adapters.conf import get_settings
from pool_doctor.report.advice import Targets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.core.management.base import CommandParser

_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

# Name, meta variable, help; each defaults to the setting of its name.
_OPTIONS = (
    ("target-wait", "SECONDS", "No more than a few checkouts shall wait longer (setting TARGET_WAIT: 0.005)."),
    ("target-share", "SHARE", "This share of all checkouts shall wait no longer (setting TARGET_SHARE: 0.99)."),
    ("threads", "N", "How many requests a process serves at once (setting THREADS: what its server says)."),
    ("workers", "N", "How many processes use the database on each host (setting WORKERS: as many as are seen)."),
    ("hosts", "N", "On how many machines they run (setting HOSTS: 1)."),
    ("deploy-surge", "SHARE", "How many more there are during a deployment (setting DEPLOY_SURGE: 0.25, a quarter)."),
    ("request-deadline", "SECONDS", "After how long nobody waits for an answer (setting REQUEST_DEADLINE)."),
)


def add_target_arguments(parser: CommandParser) -> None:
    """Declare the options that take the place of the settings of their names."""
    # Values are checked when they are read: argparse would end with status 2, which has a meaning of its own.
    for name, metavar, text in _OPTIONS:
        parser.add_argument(f"--{name}", metavar=metavar, help=text)


def read_targets(options: Mapping[str, Any]) -> Targets:
    """Check and convert these options; raises CommandError, or ImproperlyConfigured for a setting."""
    return Targets.of(
        get_settings(),
        target_wait=number(options, "target-wait", "a number of seconds, 0 or more", least=0.0),
        target_share=number(options, "target-share", "a share between 0 and 1, neither included", over=0.0, under=1.0),
        threads=count(options, "threads"),
        workers=count(options, "workers"),
        hosts=count(options, "hosts"),
        deploy_surge=number(options, "deploy-surge", "a number, 0 or more", least=0.0),
        request_deadline=number(options, "request-deadline", "a number of seconds greater than 0", over=0.0),
    )


def number(
    options: Mapping[str, Any],
    name: str,
    wanted: str,
    *,
    least: float = -math.inf,
    over: float = -math.inf,
    under: float = math.inf,
) -> float | None:
    """Return the number of an option, at least ``least``, above ``over`` and below ``under``; None if not given.

    Raises CommandError, which says that it has to be ``wanted``.
    """
    given = options[name.replace("-", "_")]
    if given is None:
        return None
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not (least <= value and over < value < under):
        raise CommandError(f"--{name} {given} cannot be; use {wanted}.")
    return value


def count(options: Mapping[str, Any], name: str) -> int | None:
    """Return the whole number of an option, 1 or more; None if not given. Raises CommandError."""
    given = options[name.replace("-", "_")]
    if given is None:
        return None
    text = str(given)
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise CommandError(f"--{name} {given} cannot be; use a whole number, 1 or more.")
    return int(text)


def span(text: str) -> float:
    """Return the seconds of a span such as ``10m``; raises CommandError."""
    match = _SPAN.fullmatch(text)
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < seconds < math.inf:
        raise CommandError(f"--since {text} is no span of time; use a number with s, m, h or d, such as 10m.")
    return seconds
