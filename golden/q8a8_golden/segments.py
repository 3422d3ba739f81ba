"""Bytes as JSON: a list of ``{"hex": ..., "times": n}`` runs, so that a repeated block is written once.

`encode` is deterministic (the same bytes always give the same text), so that `q8a8 vectors check` can compare
files. `decode` is its inverse and refuses malformed runs.
"""

from __future__ import annotations

from typing import Final, TypedDict

__all__ = ["Segment", "decode", "encode"]


class Segment(TypedDict):
    """A run: bytes in lowercase hex, and the number of repetitions."""

    hex: str
    times: int


# The periods in this project's data: a byte, a half, a float, a few floats, blocks of both layouts and of
# floats, and short cycles of blocks.
_PERIODS: Final = (1, 2, 4, 8, 16, 32, 34, 36, 128, 148, 68, 72, 102, 170, 180, 238, 252)
# A run gets its own segment if it saves more text than a segment costs.
_OVERHEAD: Final = 24


def encode(data: bytes) -> list[Segment]:
    """Encode bytes as runs: at each position the run that saves most, other bytes literally."""
    segments: list[Segment] = []
    plain = 0
    at = 0
    while at < len(data):
        period, times = _best_run(data, at)
        if times == 1:
            at += 1
            continue
        if plain < at:
            segments.append({"hex": data[plain:at].hex(), "times": 1})
        segments.append({"hex": data[at : at + period].hex(), "times": times})
        at += period * times
        plain = at
    if plain < len(data):
        segments.append({"hex": data[plain:].hex(), "times": 1})
    return segments


def _best_run(data: bytes, at: int) -> tuple[int, int]:
    """Return (period, times) of the run at a position that saves most; times is 1 if none saves enough."""
    best, saved = (1, 1), _OVERHEAD
    for period in _PERIODS:
        if not data.startswith(data[at : at + 1], at + period):
            continue  # the first byte does not repeat
        times = 1
        unit = data[at : at + period]
        while len(unit) == period and data.startswith(unit, at + period * times):
            times += 1
        if 2 * period * (times - 1) > saved:
            best, saved = (period, times), 2 * period * (times - 1)
    return best


def decode(segments: object) -> bytes:
    """Decode runs; ValueError with the number of a malformed run."""
    data = bytearray()
    for number, segment in enumerate(segments if isinstance(segments, list) else [segments]):
        if not isinstance(segment, dict) or set(segment) != {"hex", "times"}:
            raise ValueError(f"run {number} is not of the form {{hex, times}}")
        text, times = segment["hex"], segment["times"]
        if not isinstance(text, str) or not isinstance(times, int) or isinstance(times, bool) or times < 1:
            raise ValueError(f"run {number}: hex is a string and times a positive integer")
        try:
            unit = bytes.fromhex(text)
        except ValueError as error:
            raise ValueError(f"run {number}: {error}") from None
        if unit.hex() != text or not unit:
            raise ValueError(f"run {number}: {text!r} is not plain lowercase hex")
        data += unit * times
    return bytes(data)
