"""Smoke test: whether a kernel is set up correctly, by one simple call of each function."""
