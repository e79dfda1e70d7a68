"""A small shop on real PostgreSQL: a demonstration of pool_doctor, and the ground of its tests."""
