"""Bytes as runs of hex: compact, reversible, always the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from q8a8_golden import segments


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 40)), max_size=6))
def test_decode_undoes_encode(runs: list[tuple[bytes, int]]) -> None:
    """Whatever repeats in the bytes, or does not."""
    data = b"".join(unit * times for unit, times in runs)
    assert segments.decode(segments.encode(data)) == data


def test_repeats_are_written_once() -> None:
    """A block over and over is one run; what comes before and after stays as it is."""
    block = bytes(range(1, 35))
    assert segments.encode(b"\x00\x01" + block * 257 + b"\xff") == [
        {"hex": "0001", "times": 1},
        {"hex": block.hex(), "times": 257},
        {"hex": "ff", "times": 1},
    ]


def test_short_repeats_are_not_worth_a_run() -> None:
    """The text of a run is longer than what it saves."""
    assert segments.encode(b"\x00" * 8 + b"\x01") == [{"hex": "00" * 8 + "01", "times": 1}]


def test_nothing_is_no_run() -> None:
    """An empty buffer is an empty list."""
    assert segments.encode(b"") == []
    assert segments.decode([]) == b""
