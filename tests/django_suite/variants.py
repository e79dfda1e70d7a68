"""The ways to run the suite, and which of them each is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from example_project.databases import django_database
from example_project.postgres import with_database

STOCK_ENGINE = "django.db.backends.postgresql"
RELEASING_ENGINE = "pool_doctor.backends.postgresql"
# Two connections from the start, so that what a query leaves on its connection is missed by, or met by, the next.
# The timeout is short because a test that waits for a connection has lost one.
POOL = {"min_size": 2, "max_size": 8, "timeout": 10.0}


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the suite."""

    name: str
    meaning: str
    engine: str = STOCK_ENGINE
    pooled: bool = True
    installed: bool = False
    """Whether pool_doctor's app is ready in the process, as with "pool_doctor" in INSTALLED_APPS."""
    baseline: str | None = None
    """The variant whose passing tests have to pass here too."""

    def databases(self, url: str, prefix: str) -> dict[str, dict[str, Any]]:
        """Return DATABASES for Django's suite; Django puts test_ before the names, which are the variant's own."""
        options: dict[str, Any] = {"pool": dict(POOL)} if self.pooled else {}
        names = {alias: f"{prefix}_{self.name.replace('-', '_')}_{alias}" for alias in ("default", "other")}
        return {
            alias: django_database(with_database(url, name), engine=self.engine, **options)
            for alias, name in names.items()
        }


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("pool", "Django's engine with a pool"),
        Variant("pool-observed", "the same, observed by pool_doctor", installed=True, baseline="pool"),
        Variant("release", "the releasing engine with a pool", RELEASING_ENGINE, installed=True, baseline="pool"),
        Variant(
            "release-alone",
            "the releasing engine with a pool, the app not installed",
            RELEASING_ENGINE,
            baseline="pool",
        ),
        Variant("plain", "Django's engine without a pool", pooled=False),
        Variant(
            "plain-observed",
            "the same, observed by pool_doctor",
            pooled=False,
            installed=True,
            baseline="plain",
        ),
        Variant(
            "release-plain",
            "the releasing engine without a pool",
            RELEASING_ENGINE,
            pooled=False,
            installed=True,
            baseline="plain",
        ),
    )
}
DEFAULT_VARIANTS = ("pool", "pool-observed", "release")


def with_baselines(names: list[str]) -> list[Variant]:
    """Return the named variants and what they are compared with, in the order of the table."""
    wanted = set(names) | {VARIANTS[name].baseline for name in names}
    return [variant for name, variant in VARIANTS.items() if name in wanted]
