"""Ways to add that are no tree of float32 sums are recognized as such, and named where they have a name."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8.dot import lane_sums, vec_dot
from q8a8.order import ORDERS, WHOLE, Program, TreeOrder
from q8a8_conformance.reveal import dots
from q8a8_conformance.reveal.asking import Dot, NoTreeError
from q8a8_conformance.reveal.dots import reveal_dot
from q8a8_conformance.reveal.elements import reveal_program
from q8a8_conformance.reveal.summations import SUMMATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.reveal.dots import Revealed

    Reveal = Callable[..., Revealed]
    Make = Callable[..., Any]

Array = NDArray[Any]

pytestmark = pytest.mark.rule("Q8A8-ORD-2")

DOT = "ggml_vec_dot_q8_a8_q8_a8"
SHORT = (1, 2, 3, 5, 8, 13)


def by(cause: str, order: str) -> Callable[[Array, Array], Array]:
    """Return the dot product that adds in another way."""
    (way,) = (each for each in SUMMATIONS if each.cause == cause)

    def multiply(x: Array, y: Array) -> Array:
        x, y = (np.atleast_2d(rows) for rows in (x, y))
        d = x["weight_scale"].astype(np.float32) * y["weight_scale"].astype(np.float32)
        return way.total(ORDERS[order], x["weight_qs"], y["weight_qs"], d)

    return multiply


@pytest.mark.parametrize(
    ("cause", "order", "bits"),
    [
        ("sums-in-double", "scalar", 53),
        ("sums-in-double", "neon-dotprod", 53),
        ("exact-sum", "scalar", 74),
        ("compensated-sum", "scalar", 25),
        ("compensated-at-the-end", "scalar", 74),
    ],
)
def test_other_sums(reveal: Reveal, cause: str, order: str, bits: int) -> None:
    """Sums that keep more than float32 does are named, with how many bits they keep."""
    found = reveal(by(cause, order), (*SHORT, 29))
    assert found.summation is not None
    assert found.summation.cause == cause
    assert (found.bits, found.unexplained, found.kind) == (bits, 0, "other-sum")
    assert "no tree of float32 sums" in found.text()


@pytest.mark.parametrize(
    ("cause", "words"), [("toward-zero", "toward zero"), ("upward", "up"), ("downward", "down")]
)
def test_directions(reveal: Reveal, cause: str, words: str) -> None:
    """Sums that are rounded in a direction are so reported."""
    found = reveal(by(f"sums-{cause}", "scalar"), SHORT)
    assert found.rounding == words
    assert found.kind != "tree"


def test_by_size(reveal: Reveal, of_terms: Make) -> None:
    """A kernel that sorts its terms adds in no tree of blocks."""
    found = reveal(of_terms(lambda t: np.add.accumulate(np.sort(np.abs(t)) * np.sign(t))[-1:].sum()), SHORT)
    assert found.kind == "unknown"
    assert "no order: " in found.text()
    assert "rows" in found.to_json()


def test_smallest_first(reveal: Reveal, of_terms: Make) -> None:
    """So does one that begins with the smallest."""

    def total(terms: Array) -> Array:
        return np.asarray(np.add.accumulate(terms[np.argsort(np.abs(terms), kind="stable")])[-1])

    found = reveal(of_terms(total), SHORT)
    assert found.kind == "unknown"
    assert found.pieces[0].why
    assert found.svg() == ""


def test_varies(asker: Make) -> None:
    """A kernel whose results vary from call to call has no order."""
    orders = itertools.cycle(["scalar", "neon", "avx2"])
    found = reveal_dot(asker(lambda x, y: vec_dot(x, y, next(orders))), DOT)
    assert found.kind == "unknown"
    assert "gives other bits each time" in found.text()
    assert found.to_json()["tree"] is None


def test_equal_scales(reveal: Reveal) -> None:
    """A kernel that sums blocks with the same scales in integers has an order that depends on the values."""

    def multiply(x: Array, y: Array) -> Array:
        equal = x.size > 1 and all((r["weight_scale"] == r["weight_scale"][:1]).all() for r in (x, y))
        if not equal:
            return vec_dot(x, y)
        sums = lane_sums(x["weight_qs"][np.newaxis], y["weight_qs"][np.newaxis], WHOLE).sum()
        return np.asarray(sums * np.float32(x["weight_scale"][0]) * np.float32(y["weight_scale"][0]))

    found = reveal(multiply, SHORT)
    assert found.kind == "unknown"
    assert "the order depends on the values" in found.text()
    assert found.pieces[0].found is not None


def test_no_answer() -> None:
    """A kernel that does not return is reported."""
    found = reveal_dot(lambda *_: None, DOT)
    assert found.died == f"not measured to the end: {DOT} did not return from a row of 67 blocks"
    assert found.notes == [found.died]
    assert found.kind == "unknown"


def test_four_products_differ(asker: Make) -> None:
    """With equal rows, the four products of two rows at a time must be equal."""
    ask = asker(lambda x, y: vec_dot(x, y) * np.array([[1, 1], [1, 2]], np.float32))
    found = reveal_dot(ask, DOT, 2, calls=1)
    assert "the four products of nrc = 2 differ where their rows are equal" in found.text()


def test_half_products(reveal: Reveal) -> None:
    """Products that are rounded to half precision fit no experiment with exact ones."""

    def multiply(x: Array, y: Array) -> Array:
        d = (x["weight_scale"].astype(np.float32) * y["weight_scale"].astype(np.float32)).astype(np.float16)
        sums = (x["weight_qs"].astype(np.int32) * y["weight_qs"]).sum(axis=-1)
        return np.asarray(np.add.accumulate(sums.astype(np.float32) * d.astype(np.float32))[-1])

    with np.errstate(all="ignore"):
        found = reveal(multiply, SHORT)
    assert found.kind == "unknown"


def test_other_products(reveal: Reveal) -> None:
    """Products that are rounded to 27 bits and then fused are reported, with what was seen."""

    def multiply(x: Array, y: Array) -> Array:
        d = x["weight_scale"].astype(np.float64) * y["weight_scale"]
        product = d * (x["weight_qs"].astype(np.int32) * y["weight_qs"]).sum(axis=-1)
        fraction, exponent = np.frexp(product)
        total = np.float32(0)
        for term in np.ldexp(np.rint(np.ldexp(fraction, 27)), exponent - 27):
            total = np.float32(total + term)
        return np.asarray(total)

    found = reveal(multiply, SHORT)
    assert "products are rounded to other than 24 bits" in found.text()


def _by_size(x: Array, y: Array) -> Array:
    """Add the terms from the smallest to the largest."""
    d = x["weight_scale"].astype(np.float32) * y["weight_scale"].astype(np.float32)
    terms = d * (x["weight_qs"].astype(np.int32) * y["weight_qs"]).sum(axis=-1).astype(np.float32)
    return np.asarray(np.add.accumulate(terms[np.argsort(np.abs(terms), kind="stable")])[-1])


def test_no_tree_from_a_length_on(reveal: Reveal) -> None:
    """Where only longer rows add in no tree, the order of the shorter ones is there."""
    found = reveal(lambda x, y: vec_dot(x, y) if x.size <= 20 else _by_size(x, y), (*range(1, 31), 40))
    first, second = found.pieces
    assert (first.first, first.last, second.first) == (1, 20, 21)
    assert second.found is None
    assert "by one experiment" in second.why
    assert 0 < found.unexplained < found.of


def test_too_many_orders(reveal: Reveal, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that changes more often than that is not followed further."""
    monkeypatch.setattr(dots, "MAX_PIECES", 1)
    found = reveal(lambda x, y: vec_dot(x, y, "scalar" if x.size <= 20 else "wasm"), range(1, 31))
    assert [(piece.first, piece.last) for piece in found.pieces] == [(1, 20)]
    assert found.unexplained


def test_no_tree_at_some_lengths(asker: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trees of each length are no answer where one length has none."""
    monkeypatch.setattr(dots, "SHORT", (*range(1, 8), 9))
    monkeypatch.setattr(dots, "LONG", ())

    def multiply(x: Array, y: Array) -> Array:
        if x.size == 9:
            return _by_size(x, y)
        return vec_dot(x, y, "scalar" if x.size % 2 else "wasm") if x.size < 7 else vec_dot(x, y)

    assert reveal_dot(asker(multiply), DOT, calls=1).unexplained


def test_impossible_counts(asker: Make) -> None:
    """Results that are no number of units are refused."""
    for value, words in (
        (0.3, "of 64 units beside two masks"),
        (0, "of 15 units beside two masks of their block"),
    ):
        dot = Dot(asker(lambda *_, value=value: np.float32(value)), DOT)
        with pytest.raises(NoTreeError, match=words):
            reveal_program(dot, 3 if value else 1)


def test_odd_block_first(reveal: Reveal) -> None:
    """A block left over may be taken before the others."""

    def tree(nb: int) -> tuple[tuple[int, int], ...]:
        if nb < 3:
            return tuple((k, k + 1) for k in range(nb - 1))
        order = [nb - 1, *range(nb - 1)] if nb % 2 else list(range(nb))
        chains = [order[: nb % 2] + [b for b in range(nb - nb % 2) if b % 2 == a] for a in (0, 1)]
        additions: list[tuple[int, int]] = []
        ends = []
        for k, chain in enumerate([chains[0], chains[1][nb % 2 :]]):
            del k
            total = chain[0]
            for block in chain[1:]:
                additions.append((total, block))
                total = nb + len(additions) - 1
            ends.append(total)
        additions.append((ends[0], ends[1]))
        return tuple(additions)

    def multiply(x: Array, y: Array) -> Array:
        return vec_dot(
            x,
            y,
            TreeOrder(
                "odd first", {x.shape[-1]: Program.of_blocks(x.shape[-1], WHOLE, tree(x.shape[-1]))}, ""
            ),
        )

    found = reveal(multiply, (1, 2, 3, 4, 5, 7, 9))
    assert found.is_tree, found.text()
