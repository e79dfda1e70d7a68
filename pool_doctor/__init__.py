"""See, measure and size the PostgreSQL connection pools of a Django project."""

from pool_doctor.recording.work import scope

__all__ = ["__version__", "scope"]

__version__ = "0.1.0"
