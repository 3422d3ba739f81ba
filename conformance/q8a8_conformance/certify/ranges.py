"""Which points of a domain are covered: intervals, the pieces of a sweep, shards and samples of it.

A domain's points are numbered from 0. A sweep takes them in pieces, whose borders are multiples of the
domain's chunk::

    points   0 ........ chunk ........ 2·chunk ........ ... ........ size
    shards   |  shard 1/3: pieces 0 .. a  |  shard 2/3: a .. b  |  shard 3/3: b .. the last  |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Interval: TypeAlias = tuple[int, int]
"""From the first point to behind the last one."""


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """Join intervals that touch or overlap; the result is sorted and has no empty ones."""
    joined: list[Interval] = []
    for start, stop in sorted(interval for interval in intervals if interval[0] < interval[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def count(intervals: Iterable[Interval]) -> int:
    """Return how many points the intervals hold, each counted once."""
    return sum(stop - start for start, stop in merged(intervals))


def covers(covered: Iterable[Interval], wanted: Interval) -> bool:
    """Tell whether every point of one interval is covered."""
    start, stop = wanted
    return start >= stop or any(first <= start and stop <= last for first, last in merged(covered))


def missing(covered: Iterable[Interval], wanted: Iterable[Interval]) -> list[Interval]:
    """Return those of the wanted intervals that are not covered as a whole, in their order."""
    done = merged(covered)
    return [interval for interval in wanted if not covers(done, interval)]


def shard(size: int, chunk: int, number: int, total: int) -> list[Interval]:
    """Cut a shard of a domain into pieces.

    Parameters
    ----------
    size, chunk
        Points of the domain; points of a piece.
    number, total
        Which shard, from 1, of how many.

    Returns
    -------
    Pieces of `chunk` points, the domain's last one maybe shorter. Every point is in exactly one shard.

    Raises
    ------
    ValueError
        for a number outside 1 to `total`.
    """
    if not 1 <= number <= total:
        raise ValueError(f"shard {number}/{total}: write I/N with 1 <= I <= N")
    pieces = -(-size // chunk)
    first, last = pieces * (number - 1) // total, pieces * number // total
    return [(piece * chunk, min((piece + 1) * chunk, size)) for piece in range(first, last)]


SAMPLE_PIECES = 64
"""Places of a domain that a sample looks at."""


def sample(pieces: list[Interval], points: int, grain: int) -> list[Interval]:
    """Choose about so many points of these pieces: runs spread evenly, the first and the last among them.

    Parameters
    ----------
    pieces
        What to choose from, in order.
    points
        How many, at least one.
    grain
        Runs start at multiples of it, and are as long, but at the domain's end.
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
