"""Prediction against reality: record real load, predict another pool, run that pool, compare."""
