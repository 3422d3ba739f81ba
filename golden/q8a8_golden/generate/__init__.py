"""How the golden vectors are made.

Builders draft the cases; a case is written only where three independent implementations agree on it; and of
the cases a minimal set is kept.
"""
