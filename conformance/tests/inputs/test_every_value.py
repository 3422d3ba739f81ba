"""Inputs that go through a finite set leave nothing of it out."""

from __future__ import annotations

import numpy as np
import pytest

from q8a8 import layout, quantize_row
from q8a8_conformance.inputs import blocks, dot_rows, every_value


def test_pairs_at_every_place() -> None:
    """Each place of a block meets all 65,536 pairs of codes, and no row can round."""
    seen = np.zeros((32, 65_536), np.int64)
    for x, y in every_value.pairs_at_every_place():
        assert dot_rows.is_exact(x, y)
        numbers = x["weight_qs"].view(np.uint8).astype(np.int64) << 8 | y["weight_qs"].view(np.uint8)
        for place in range(32):
            np.add.at(seen[place], numbers[:, place], 1)
    assert (seen == 1).all()


@pytest.mark.parametrize("seed", [0, 1, 4, 5])
def test_pairs_once(seed: int) -> None:
    """All pairs of codes come once, and neither row by row nor across do the products round."""
    pairs = list(every_value.pairs_once(seed))
    together = [np.concatenate(side) for side in zip(*pairs, strict=True)]
    numbers = together[0]["weight_qs"].view(np.uint8).astype(np.int64) << 8 | together[1]["weight_qs"].view(
        np.uint8
    )
    assert np.unique(numbers).size == 65_536
    for (x, y), (other_x, other_y) in zip(pairs, every_value.pairs_once(5), strict=True):
        assert dot_rows.is_exact(x, y)
        assert dot_rows.is_exact(x, other_y)
        assert dot_rows.is_exact(other_x, y)


@pytest.mark.parametrize("binade", range(every_value.BINADES))
def test_halves_of_binade(binade: int) -> None:
    """Every half of one exponent is a scale of each side, no order rounds, and no result is a zero."""
    x, y = every_value.halves_of_binade(binade)
    for row in (x[0], y[1]):
        bits = np.unique(row["weight_scale"][:-1].view(np.uint16) & 0x7FFF)
        assert bits.tolist() == list(range(max(binade << 10, 1), (binade + 1) << 10))
    for row in x:
        for column in y:
            assert dot_rows.is_exact(row, column)
            d = row["weight_scale"].astype(np.float64) * column["weight_scale"].astype(np.float64)
            assert (d * (row["weight_qs"].astype(np.int64) * column["weight_qs"]).sum(axis=1)).sum() != 0


def test_amax() -> None:
    """Both neighbours of every scale's first and last amax come, and the results are the reference's."""
    amax = every_value.every_amax()
    scales = (amax / np.float32(127)).astype(np.float16).view(np.uint16)
    assert np.unique(scales).tolist() == list(range(0x7C00))
    x, scale, codes = every_value.blocks_of_amax(amax[::7])
    assert layout.pack(scale, codes).tobytes() == quantize_row(x.reshape(-1)).tobytes()
    assert {6, 127, 448} <= set(amax.tolist()) & set(every_value.USUAL_AMAX.tolist())


def test_every_tie() -> None:
    """All ties between two codes come, of both signs, with the floats beside them."""
    values = set(np.ldexp(blocks.every_tie()[25 * 4 : 25 * 5], 0).reshape(-1).tolist())
    assert {sign * (code + 0.5) for code in range(127) for sign in (1, -1)} <= values


def test_products_meet_every_pair_of_codes() -> None:
    """Each row of x goes through all codes but -128, which no element gets, under a scale of 1, and w too."""
    w, x = every_value.codes_by_codes()
    assert sorted(w["weight_qs"][:, 0, 0].tolist()) == list(range(-128, 128))
    for row in x:
        blocks_of_row = quantize_row(row)
        assert (blocks_of_row["weight_scale"] == 1).all()
        assert set(blocks_of_row["weight_qs"].ravel().tolist()) == set(range(-127, 128))
        assert all(dot_rows.is_exact(each, blocks_of_row) for each in w)


def test_products_meet_every_scale() -> None:
    """Every finite half but zero is the scale of a row of w, and what is multiplied is exact."""
    w, x = every_value.halves_of_rows()
    bits = np.arange(1, 0x7C00)
    assert set(w["weight_scale"].view(np.uint16).ravel().tolist()) == {
        *bits.tolist(),
        *(bits + 2**15).tolist(),
    }
    (block,) = quantize_row(x[0])
    assert block["weight_scale"] == 1
    products = w["weight_qs"].astype(int) * block["weight_qs"]
    assert (products.sum(axis=2) == 32 * 127).all()


def test_rows_of_amax() -> None:
    """The rows have the usual amax and ones beside scales' ends, and each is shown by one product."""
    w, x = every_value.rows_of_amax()
    found = np.abs(x).max(axis=1)
    assert set(every_value.USUAL_AMAX.tolist()) <= set(found.tolist())
    assert found.size > 20_000
    assert (w["weight_qs"] == 1).all()
