"""Switching observation on and off as a whole."""

from __future__ import annotations

import sys
from pathlib import Path

from pool_doctor.adapters import jobs, observe, requests
from pool_doctor.adapters.conf import get_settings
from pool_doctor.adapters.lifecycle import forget_checkouts
from pool_doctor.recording.recorder import Options, recorder

_DJANGO_COMMANDS = {"manage.py", "django-admin", "django"}


def install() -> None:
    """Observe and record as settings.POOL_DOCTOR says.

    Raises ImproperlyConfigured where the settings are wrong.
    """
    settings = get_settings()
    if not settings.enabled:
        return
    recorder.start(Options(settings.directory, settings.ring_size, settings.retention, command_name(sys.argv)))
    observe.install()
    requests.install()
    jobs.install()


def uninstall() -> None:
    """Undo install(): Django is as it was, and nothing more is recorded."""
    jobs.uninstall()
    requests.uninstall()
    forget_checkouts()
    observe.uninstall()
    recorder.stop()


def command_name(arguments: list[str]) -> str:
    """Return what people call the process: its program, and for manage.py the command.

    Never the arguments that follow: there may be passwords among them.
    """
    path = Path(arguments[0] if arguments and arguments[0] not in {"", "-", "-c"} else "python")
    # python -m gunicorn runs .../gunicorn/__main__.py
    program = path.parent.name if path.name == "__main__.py" else path.name
    if program in _DJANGO_COMMANDS and len(arguments) > 1 and not arguments[1].startswith("-"):
        return f"manage.py {arguments[1]}"
    return program
