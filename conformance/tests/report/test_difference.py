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
        "row 0 of w: empty",
    ),
    (calls.MUL_MAT, {"m": 1, "n": 1, "k": 32}, {"w": BLOCK, "x": bytes(128)}, "out", 4, "row 1 of x: empty"),
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


TWO = BLOCK[:2] + b"\0\x40" + BLOCK[2:]
CODES = " ".join(map(str, range(32)))
WHOLE = [
    # What lies behind a row, where another one follows at a stride, is no block.
    (calls.DOT, {"n": 32}, {"vx": BLOCK + b"\xff\xff"}, f"vx: scale 0x3c00 (1), codes {CODES}; … (36 bytes)"),
    (calls.DOT, {"n": 96}, {"vx": 3 * BLOCK}, "; … (102 bytes)"),
    (calls.DOT_REAL, {"n": 32}, {"vy": TWO}, f"vy: scales 0x3c00 (1), 0x4000 (2), codes {CODES} (36 bytes)"),
    (calls.MUL_MAT, {"k": 32}, {"x": b"\0\0\x80\xbf" * 17}, f"x: {' '.join(16 * ['-1'])} … (17 floats)"),
    (calls.ACTIVATION, {"size": 1}, {"scale": b"\0\xc0"}, "scale: 0xc000 (-2)"),
    (calls.ACTIVATION, {"size": 2}, {"output": b"\x80\x7f"}, "output: -128 127"),
]


@pytest.mark.parametrize(("function", "args", "buffers", "shown"), WHOLE)
def test_whole_buffers_are_numbers(
    function: str, args: dict[str, int], buffers: dict[str, bytes], shown: str
) -> None:
    """A buffer is shown as scales, codes and floats; of a long one, how it begins."""
    (text,) = difference.whole(CallData(function, args), buffers)
    assert text.endswith(shown)
