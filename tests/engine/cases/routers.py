"""A router that keeps customers in the other database."""

from __future__ import annotations

from typing import Any

from example_project.shop.models import Customer


class CustomersElsewhere:
    """Customers are in `other`."""

    def db_for_read(self, model: type, **_: Any) -> str | None:
        """Return where to read."""
        return "other" if model is Customer else None

    db_for_write = db_for_read
