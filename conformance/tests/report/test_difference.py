"""The lines that show a failure, where its first wrong byte lies behind what the call is about."""

from __future__ import annotations

import pytest

from q8a8_conformance.inputs import calls
from q8a8_conformance.report import difference
from q8a8_conformance.results.record import CallData

BLOCK = bytes([0x00, 0x3C, *range(32)])
CALLS = [
    (calls.DEQUANTIZE, {"k": 32}, {"x": BLOCK}, "y", 128, "behind the last block of x"),
    (calls.QUANTIZERS[0], {"k": 32}, {"x": bytes(128)}, "y", 34, "x: empty"),
    (
        calls.MUL_MAT,
        {"m": 0, "n": 2, "k": 32},
        {"w": b"", "x": bytes(256)},
        "out",
        0,
        "row 0 of w:  (0 bytes)",
    ),
    (calls.MUL_MAT, {"m": 1, "n": 1, "k": 32}, {"w": BLOCK, "x": bytes(128)}, "out", 4, "(0 bytes)"),
]


@pytest.mark.parametrize(("function", "args", "inputs", "name", "size", "shown"), CALLS)
def test_a_byte_behind_the_results(
    function: str, args: dict[str, int], inputs: dict[str, bytes], name: str, size: int, shown: str
) -> None:
    """The place behind the last result has no input; the lines say so."""
    want, got = bytes(size + 4), bytes(size) + b"\x01\0\0\0"
    lines = difference.show(CallData(function, args, inputs, {name: want}, {name: got}))
    assert [line.label for line in lines][-2:] == ["want", "got"]
    assert any(shown in line.text for line in lines if line.label == "in")
