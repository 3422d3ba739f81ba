"""Smoke: whether the way to a kernel works, by one simple call of each function."""
