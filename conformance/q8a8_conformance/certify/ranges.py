"""Intervals of a domain's points: the pieces of a sweep, shards and samples.

A domain's points are numbered from 0. A sweep divides them into pieces whose ends are multiples of the
domain's chunk::

    points   0 ........ chunk ........ 2·chunk ........ ... ........ size
    shards   |  shard 1/3: pieces 0 .. a  |  shard 2/3: a .. b  |  shard 3/3: b .. the last  |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Interval: TypeAlias = tuple[int, int]
"""First point, and one past the last point."""


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """Merge intervals that touch or overlap; the result is sorted, without empty intervals."""
    joined: list[Interval] = []
    for start, stop in sorted(interval for interval in intervals if interval[0] < interval[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def count(intervals: Iterable[Interval]) -> int:
    """Return the number of distinct points in the intervals."""
    return sum(stop - start for start, stop in merged(intervals))


def covers(covered: Iterable[Interval], wanted: Interval) -> bool:
    """Return whether every point of one interval is covered."""
    start, stop = wanted
    return start >= stop or any(first <= start and stop <= last for first, last in merged(covered))


def missing(covered: Iterable[Interval], wanted: Iterable[Interval]) -> list[Interval]:
    """Return the wanted intervals that are not fully covered, in their order."""
    done = merged(covered)
    return [interval for interval in wanted if not covers(done, interval)]


def shard(size: int, chunk: int, number: int, total: int) -> list[Interval]:
    """Return the pieces of a shard of a domain.

    Parameters
    ----------
    size, chunk
        Points of the domain; points of a piece.
    number, total
        The shard's number, from 1, and the number of shards.

    Returns
    -------
    Pieces of `chunk` points; the domain's last piece may be shorter. Every point is in exactly one shard.

    Raises
    ------
    ValueError
        The number is not in 1 to `total`.
    """
    if not 1 <= number <= total:
        raise ValueError(f"shard {number}/{total}: write I/N with 1 <= I <= N")
    pieces = -(-size // chunk)
    first, last = pieces * (number - 1) // total, pieces * number // total
    return [(piece * chunk, min((piece + 1) * chunk, size)) for piece in range(first, last)]


SAMPLE_PIECES = 64
"""The most runs of points in a sample."""


def sample(pieces: list[Interval], points: int, grain: int) -> list[Interval]:
    """Choose about `points` points of these pieces: evenly spread runs that include the first and last point.

    Parameters
    ----------
    pieces
        The pieces to choose from, in order.
    points
        How many points, at least one.
    grain
        Runs start at its multiples, and their length is a multiple of it, except at the domain's end.
    """
    if not pieces or count(pieces) <= points:
        return pieces
    start, stop = pieces[0][0], pieces[-1][1]
    runs = min(SAMPLE_PIECES, max(2, points // grain))
    length = max(1, points // (runs * grain)) * grain
    last = max(start, (stop - length + grain - 1) // grain * grain)
    step = (last - start) // grain
    starts = [start + step * run // (runs - 1) * grain for run in range(runs)]
    return merged((first, min(first + length, stop)) for first in starts)
