"""The generator of the golden vectors.

Builders draft the cases; a case is written only if three independent implementations agree on it; a minimal
subset of the cases is kept.
"""
