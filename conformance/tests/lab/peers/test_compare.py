"""The counters count: kernels that are wrong on purpose, and by how much is known."""

from __future__ import annotations

import numpy as np
import pytest

from q8a8.dot import vec_dot
from q8a8.layout import BLOCK_Q8_A8, Blocks, as_bytes
from q8a8.order import ORDERS
from q8a8.quantize import quantize_row
from q8a8_lab.peers import compare, families, rows
from q8a8_lab.peers.kernels import QUANTIZE, QUANTIZE_REF


class Wrong:
    """The reference, but for what is asked for.

    Parameters
    ----------
    flip
        Byte 5 of every block is off by one; the lowest bit of every dot product is flipped.
    flawed
        The sign of x * -128 is lost.
    """

    def __init__(self, *, order: str = "scalar", flip: bool = False, flawed: bool = False) -> None:
        self.order, self.flip, self.flawed = order, flip, flawed

    def quantize(
        self, function: str, x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """Quantize by `ggml-ref`, whatever the function."""
        assert function in {QUANTIZE, QUANTIZE_REF}
        y = as_bytes(quantize_row(x, "ggml-ref")).copy()
        y[:, 5] += self.flip
        return y

    def dot(self, x: Blocks, y: Blocks) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Multiply pairwise."""
        if self.flawed:
            lost = (x["weight_qs"] < 0) & (y["weight_qs"] == -128) & (x["weight_qs"] != -128)
            x = x.copy()
            x["weight_qs"] = np.where(lost, -x["weight_qs"], x["weight_qs"])
        out = vec_dot(x, y, self.order)
        return (out.view(np.uint32) ^ np.uint32(self.flip)).view(np.float32)

    def dot2(self, x: Blocks, y: Blocks) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Multiply two by two: x_i . y_j at [pair, i, j]."""
        nb = x.shape[1]
        x, y = (np.repeat(x.reshape(-1, 2, nb), 2, axis=1), np.tile(y.reshape(-1, 2, nb), (1, 2, 1)))
        return self.dot(x.reshape(-1, nb), y.reshape(-1, nb)).reshape(-1, 2, 2)


def test_bits_are_counted_by_hand() -> None:
    """+0 and -0 differ in one bit, 1 and 2 in eight of the exponent, equal NaNs in none."""
    a = np.array([0.0, 1.0, np.nan], np.float32)
    b = np.array([-0.0, 2.0, np.nan], np.float32)
    # 0x3f800000 and 0x40000000
    assert compare.differing_bits(a, b) == 1 + 8
    assert compare.differing_bits(a[:0], b[:0]) == 0


def test_every_wrong_byte_is_counted() -> None:
    """One byte of each block is off: as many bytes differ as there are blocks, over chunks too."""
    n = families.CHUNK + 3
    counts = compare.quantize_counts(Wrong(flip=True), {QUANTIZE_REF: "ggml-ref"}, n, ["gaussian"])
    assert counts == [compare.FamilyCount(QUANTIZE_REF, "ggml-ref", "gaussian", n, n)]
    right = compare.quantize_counts(Wrong(), {QUANTIZE: "ggml-ref"}, 100, ["uniform", "bf16"])
    assert [(count.family, count.differing_bytes) for count in right] == [("uniform", 0), ("bf16", 0)]


def test_another_recipe_is_seen() -> None:
    """Exact ties tell half-even from half-away in every block."""
    count = compare.quantize_counts(Wrong(), {QUANTIZE: "ggml-neon"}, 500, ["exact-tie"])[0]
    assert count.differing_bytes > 500 * 10
    assert compare.shares(500, ["exact-tie"])["exact-tie"]["ggml-neon"] == 1
    assert compare.shares(500, ["exact-tie"])["exact-tie"]["design"] == 0


@pytest.mark.parametrize("nrc", [1, 2])
def test_every_wrong_bit_is_counted(nrc: int) -> None:
    """One bit of each dot product is off, with one and two rows a call."""
    for count in compare.row_counts(Wrong(flip=True), "scalar", 100, nrc=nrc):
        assert count.dots >= 100
        assert count.differing_bits == count.dots
    assert all(c.differing_bits == 0 for c in compare.row_counts(Wrong(), "scalar", 100, nrc=nrc))


@pytest.mark.parametrize("name", ORDERS)
def test_each_order_is_told_from_the_others(name: str) -> None:
    """An order's kernel matches that order, and of the others only one with the same arithmetic."""
    twins = {"scalar": "i8mm", "i8mm": "scalar", "scalar-fma": "i8mm-fma", "i8mm-fma": "scalar-fma"}
    found = set(compare.matching_orders(Wrong(order=name), 100))
    assert found == {name} | ({twins[name]} if name in twins else set())


def test_the_flaw_is_expected_and_its_rows_counted() -> None:
    """A kernel with the sign error differs nowhere from what that explains, and in most rows with -128."""
    kernel = Wrong(flawed=True)
    plain, _, flawed = compare.row_counts(kernel, "scalar", 200, flawed=True)
    assert (plain.flaw, plain.differing_rows_unflawed) == ("", 0)
    assert (flawed.kind, flawed.flaw, flawed.differing_bits) == ("int8-128", "sign-128", 0)
    assert flawed.differing_rows_unflawed > flawed.dots // 2
    unexplained = compare.row_counts(kernel, "scalar", 200)[2]
    assert unexplained.differing_bits > 0


def test_wrong_products_are_listed() -> None:
    """The sign error is seen in 127 products: here -128 * -128 is right."""
    assert compare.differing_products(Wrong()) == ()
    wrong = compare.differing_products(Wrong(flawed=True))
    assert wrong == tuple((x, -128, 128.0 * x) for x in range(-127, 0))


def test_rows_are_blocks() -> None:
    """What kernels get are rows of whole blocks."""
    batch = next(rows.batches("int8", 2))
    assert batch.x.dtype == batch.y.dtype == BLOCK_Q8_A8
