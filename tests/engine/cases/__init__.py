"""Tests as projects write them, which test_django_testing.py runs on the stock and on the releasing engine."""
