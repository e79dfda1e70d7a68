"""The tests: real PostgreSQL, real threads, real processes."""
