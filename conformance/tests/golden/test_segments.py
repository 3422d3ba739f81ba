"""Bytes as runs of hex: compact, reversible and deterministic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from q8a8_golden import segments


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 40)), max_size=6))
def test_decode_undoes_encode(runs: list[tuple[bytes, int]]) -> None:
    """Decoding the encoding of any bytes gives the bytes."""
    data = b"".join(unit * times for unit, times in runs)
    assert segments.decode(segments.encode(data)) == data


def test_repeats_are_written_once() -> None:
    """A repeated block is one run; other bytes are literal."""
    block = bytes(range(1, 35))
    assert segments.encode(b"\x00\x01" + block * 257 + b"\xff") == [
        {"hex": "0001", "times": 1},
        {"hex": block.hex(), "times": 257},
        {"hex": "ff", "times": 1},
    ]


def test_short_repeats_are_literal() -> None:
    """A repetition shorter than the text of a run is literal."""
    assert segments.encode(b"\x00" * 8 + b"\x01") == [{"hex": "00" * 8 + "01", "times": 1}]


def test_empty_buffer() -> None:
    """An empty buffer is an empty list."""
    assert segments.encode(b"") == []
    assert segments.decode([]) == b""
