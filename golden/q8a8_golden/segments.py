"""Bytes as JSON: a list of ``{"hex": ..., "times": n}`` runs, so that a repeated block is written once.

`encode` is deterministic (the same bytes give the same text, for ever), which is what lets `q8a8 vectors
check` compare files. `decode` is its inverse and refuses everything that `encode` would not write.
"""

from __future__ import annotations

from typing import Final, TypedDict

__all__ = ["Segment", "decode", "encode"]


class Segment(TypedDict):
    """A run: bytes in lowercase hex, and how often they follow each other."""

    hex: str
    times: int


# What repeats in this project's data: a byte, a half, a float, a few floats, blocks of both layouts and of
# floats, and small cycles of blocks.
_PERIODS: Final = (1, 2, 4, 8, 16, 32, 34, 36, 128, 148, 68, 72, 102, 170, 180, 238, 252)
# A run is worth its own segment when it saves at least the text that a segment costs.
_OVERHEAD: Final = 24


def encode(data: bytes) -> list[Segment]:
    """Write bytes as runs: at each place the run that saves most, everything between as it is."""
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
    """Give (period, times) of the run at a place that saves most; times is 1 where none is worth it."""
    best, saved = (1, 1), _OVERHEAD
    for period in _PERIODS:
        if not data.startswith(data[at : at + 1], at + period):
            continue  # what differs in its first byte does not repeat
        times = 1
        unit = data[at : at + period]
        while len(unit) == period and data.startswith(unit, at + period * times):
            times += 1
        if 2 * period * (times - 1) > saved:
            best, saved = (period, times), 2 * period * (times - 1)
    return best


def decode(segments: object) -> bytes:
    """Read runs back; ValueError says which run is malformed."""
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
