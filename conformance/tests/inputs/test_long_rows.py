"""Long rows: exact by construction, and their results the specification's, wherever a row starts."""

from __future__ import annotations

import numpy as np
import pytest

from q8a8 import as_blocks, dequantize_row, layout, quantize_activation, quantize_row, vec_dot, vec_dot_real
from q8a8_conformance.inputs import calls, dot_rows, long_rows
from q8a8_conformance.suite.test_lengths import SIZES


@pytest.mark.rule("Q8A8-DOT-4")
def test_no_order_rounds() -> None:
    """All terms of the longest row are below 2^24 units, of each two rows; every block has its own unit's."""
    sums = long_rows.dots().sums
    for i in (0, 1):
        for j in (0, 1):
            unit = 2**i * 4**j
            ends = sums[i, j, long_rows.LONGEST :] - sums[i, j, : -long_rows.LONGEST]
            assert ends.max() <= unit << 24
            assert (np.diff(sums[i, j]) % unit == 0).all()
            assert np.diff(sums[i, j]).min() > 0


@pytest.mark.parametrize("nb", [0, 1, 2, 33, 130, 1025])
def test_results_of_dot_products(nb: int) -> None:
    """The differences of sums are the reference's results, for one row, v2 blocks and two rows."""
    rows = long_rows.dots()
    x, y = (as_blocks(calls.inputs_of(rows.call(nb))[name]) for name in ("vx", "vy"))
    assert dot_rows.is_exact(x, y)
    assert vec_dot(x, y).tobytes() == rows.result(nb)
    v2 = calls.inputs_of(rows.call_v2(nb))
    x, y = (np.frombuffer(v2[name], layout.BLOCK_Q8_A8_V2) for name in ("vx", "vy"))
    assert vec_dot_real(x, y).tobytes() == rows.result(nb)
    call = rows.call_pair(nb, bs=3, x_gap=34, y_gap=2)
    pair = calls.inputs_of(call)
    expected = bytearray(calls.poison(20))
    for i in (0, 1):
        for j in (0, 1):
            x = as_blocks(pair["vx"][i * call.bx : i * call.bx + 34 * nb])
            y = as_blocks(pair["vy"][j * call.by : j * call.by + 34 * nb])
            place = 4 * (3 * j + i)
            expected[place : place + 4] = vec_dot(x, y).tobytes()
    assert rows.results(call, nb) == bytes(expected)


@pytest.mark.parametrize("nb", [0, 1, 5, 130, 4100])
def test_results_of_blocks(nb: int) -> None:
    """Parts of the long results are the reference's results for the parts of the rows."""
    x, expected = long_rows.elements().part(nb)
    assert quantize_row(np.frombuffer(x, "<f4")).tobytes() == expected
    x, expected = long_rows.quantized().part(nb)
    assert dequantize_row(as_blocks(x)).astype("<f4").tobytes() == expected


@pytest.mark.parametrize(("size", "place"), [(0, 0), (1, 0), (33, 32), (5000, 4096), (140_000, 139_999)])
def test_results_of_vectors(size: int, place: int) -> None:
    """The codes beside a peak are the reference's, wherever it is."""
    call, expected = long_rows.vector().call(size, place)
    codes, scale = quantize_activation(np.frombuffer(calls.inputs_of(call)["input"], "<f4"))
    assert expected == {"output": codes.tobytes(), "scale": np.float16(scale).tobytes()}


def test_every_length() -> None:
    """Every count up to 130 comes, every remainder by 16 behind a tile of 4096, and what 16 bits count.

    The widths of models are a range beside the others.
    """
    assert long_rows.RANGES["widths"] == tuple(sorted(set(long_rows.WIDTHS)))
    counts = [nb for name, of in long_rows.RANGES.items() if name != "widths" for nb in of]
    assert counts == sorted(set(counts))
    assert counts[:131] == list(range(131))
    assert {nb % 16 for nb in counts if 4096 < nb < 8192} == set(range(16))
    assert {2**k + side for k in range(7, 17) for side in (-1, 0, 1)} <= set(counts)
    assert max(counts) == long_rows.LONGEST
    tiles = [m * 2**k for m in (3, 5, 15) for k in range(5, 13)] + [7 * 2**k for k in range(5, 10)]
    for tile in (*tiles, 1000, 1500, 2500, 6000, 10_000, 30_000):
        for lengths in (long_rows.RANGES, long_rows.LARGE, SIZES):
            tails = {nb % tile for of in lengths.values() for nb in of if nb > tile}
            assert 3 in tails, tile
    sizes = [size for name, of in SIZES.items() if name != "widths" for size in of]
    assert sizes == sorted(set(sizes))
    assert max(sizes) > 2**20


def test_rows_of_edges_are_exact() -> None:
    """Rows full of -128 and 127 are exact at every length; of 127 alone 32 blocks are, and 33 are not."""
    assert all(dot_rows.is_exact(x, y) for x, y in dot_rows.minus_128_pairs())
    assert dot_rows.is_exact(*2 * (dot_rows.filled(32, 127),))
    assert not dot_rows.is_exact(*2 * (dot_rows.filled(33, 127),))
