"""Tests that drive known traffic over real web servers and compare what was recorded with it."""
