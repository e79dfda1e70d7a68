"""The one error of the script."""

from __future__ import annotations


class SuiteError(Exception):
    """Nothing can be compared; the message is one sentence that says why."""
