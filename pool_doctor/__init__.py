"""See, measure and size the PostgreSQL connection pools of a Django project."""

from typing import TYPE_CHECKING, Any

from pool_doctor.recording.work import scope

__all__ = ["__version__", "hold", "scope"]

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pool_doctor.adapters.hold import hold
else:

    def __getattr__(name: str) -> Any:
        # hold() needs Django; the recording and analysis below this package are for programs without it.
        if name == "hold":
            from pool_doctor.adapters.hold import hold  # noqa: PLC0415

            return hold
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
