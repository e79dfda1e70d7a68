#!/usr/bin/env python3
"""Django's manage.py of the shop; `run.py manage` calls it with a database."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str]) -> None:
    """Run one management command in this process."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.shop.settings")
    from django.core.management import execute_from_command_line  # noqa: PLC0415

    execute_from_command_line([str(ROOT / "example_project" / "manage.py"), *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
