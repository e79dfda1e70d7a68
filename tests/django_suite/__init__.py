"""Runs Django's own test suite on PostgreSQL with and without pool_doctor, and compares each test's outcome."""
