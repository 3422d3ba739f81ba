"""Shards, samples and intervals."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from q8a8_conformance.certify import ranges
from q8a8_conformance.certify.catalogue import default_domains


@given(size=st.integers(1, 2000), chunk=st.integers(1, 300), total=st.integers(1, 40))
def test_shards_partition_the_domain(size: int, chunk: int, total: int) -> None:
    """Every point is in exactly one piece of exactly one shard, and pieces are in order."""
    pieces = [piece for number in range(1, total + 1) for piece in ranges.shard(size, chunk, number, total)]
    points = [point for start, stop in pieces for point in range(start, stop)]
    assert points == list(range(size))
    assert all(start % chunk == 0 and 0 < stop - start <= chunk for start, stop in pieces)


@pytest.mark.parametrize("domain", default_domains(), ids=lambda domain: domain.name)
def test_shards_of_real_domains(domain: object) -> None:
    """The real domains' shards are adjacent and cover the whole domain."""
    size, chunk = domain.size, domain.chunk  # type: ignore[attr-defined]  # a parameter is an object
    shards = [ranges.shard(size, chunk, number, 7) for number in range(1, 8)]
    joined = [piece for shard in shards for piece in shard]
    assert ranges.merged(joined) == [(0, size)]
    assert sum(stop - start for start, stop in joined) == size


def test_invalid_shard_numbers() -> None:
    """Shard 0 and shard N + 1 are refused."""
    for number in (0, 4):
        with pytest.raises(ValueError, match="1 <= I <= N"):
            ranges.shard(10, 1, number, 3)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60))))
def test_merged_keeps_the_points(intervals: list[tuple[int, int]]) -> None:
    """Merging keeps the set of points, and the merged intervals do not touch."""
    points = {point for start, stop in intervals for point in range(start, stop)}
    joined = ranges.merged(intervals)
    assert {point for start, stop in joined for point in range(start, stop)} == points
    assert all(first[1] < second[0] for first, second in pairwise(joined))
    assert ranges.count(intervals) == len(points)
    for start, stop in intervals:
        assert ranges.covers(joined, (start, stop))


@given(
    size=st.integers(1, 5000),
    grain=st.sampled_from([1, 4, 31, 32]),
    points=st.integers(1, 400),
    shard=st.integers(1, 3),
)
def test_samples(size: int, grain: int, points: int, shard: int) -> None:
    """A sample is within its shard, starts at multiples of the grain, and has the first and last point."""
    pieces = ranges.shard(size, 10 * grain, shard, 3)
    chosen = ranges.sample(pieces, points, grain)
    assert bool(chosen) == bool(pieces)
    for start, stop in chosen:
        assert start % grain == 0
        assert ranges.covers(pieces, (start, stop))
    if pieces:
        assert chosen[0][0] == pieces[0][0]
        assert chosen[-1][1] == pieces[-1][1]
        assert ranges.count(chosen) <= max(points, 3 * grain) + grain
