"""Numbers with their nouns, for the texts that say why a case is there."""

from __future__ import annotations

__all__ = ["blocks", "elements", "rows"]


def blocks(number: int) -> str:
    """Return ``1 block``, ``2 blocks``."""
    return _counted(number, "block")


def elements(number: int) -> str:
    """Return ``1 element``, ``2 elements``."""
    return _counted(number, "element")


def rows(number: int) -> str:
    """Return ``1 row``, ``2 rows``."""
    return _counted(number, "row")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"
