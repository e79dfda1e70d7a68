"""See, measure and size the PostgreSQL connection pools of a Django project."""

__version__ = "0.1.0"
