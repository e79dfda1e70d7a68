"""Tests of the adapters: the lifecycle of connections, scopes, settings, checks."""
