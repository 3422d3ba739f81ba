"""Orders that keep to no step, that change with the length, and terms that are formed in other ways."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8.dot import vec_dot
from q8a8.order import ORDERS, WHOLE, Order, Program, Tail, TreeOrder
from q8a8_conformance.reveal import candidates as module
from q8a8_conformance.reveal.programs import program
from q8a8_conformance.reveal.trees import families

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8.order import Lanes
    from q8a8_conformance.reveal.dots import Revealed
    from q8a8_conformance.reveal.trees import Tree

    Reveal = Callable[..., Revealed]
    Make = Callable[..., Any]

Array = NDArray[Any]

pytestmark = pytest.mark.rule("Q8A8-ORD-1")

FAMILIES = {f"{family.name}: {family.words}": family for family in families()}
SCALAR, AVX2 = ORDERS["scalar"], ORDERS["avx2"]
FOUR = Order("four", WHOLE, (0, 1, 2, 3), ((0, 2), (1, 3)), False, "body", False, 1, "")


def of_tree(tree: Tree, *, fused: bool = False, lanes: Lanes = WHOLE) -> Callable[[Array, Array], Array]:
    """Return the dot product that adds the lanes of blocks along trees."""

    def multiply(x: Array, y: Array) -> Array:
        nb = x.shape[-1]
        return vec_dot(x, y, TreeOrder("tree", {nb: Program.of_blocks(nb, lanes, tree(nb), fused=fused)}, ""))

    return multiply


KINDS = [
    *(name for name in FAMILIES if name.startswith(("reversed", "outside", "even", "neighbours", "parts"))),
    *(name for name in FAMILIES if "tiles of 4" in name or ("halves" in name and "down to 2" in name)),
]


@pytest.mark.parametrize("name", KINDS)
def test_family(reveal: Reveal, name: str) -> None:
    """A tree by rule explains all results; it is the rule's, or another one's with the same trees."""
    found = reveal(of_tree(FAMILIES[name].tree), (1, 2, 3, 5, 8, 13, 21))
    assert found.is_tree, found.text()


@pytest.mark.parametrize("name", KINDS[:2])
def test_fused_family(reveal: Reveal, name: str) -> None:
    """Fused products show in trees by rule, too."""
    found = reveal(of_tree(FAMILIES[name].tree, fused=True), (1, 2, 3, 5, 8))
    assert found.is_tree, found.text()
    assert found.to_json()["fused"] is True


def _backwards(nb: int) -> tuple[tuple[int, int], ...]:
    """Add the blocks from the last to the first."""
    return tuple((nb + k - 1 if k else nb - 1, nb - 2 - k) for k in range(nb - 1))


def test_switch(reveal: Reveal) -> None:
    """An order that changes with the length is several, with the lengths at which it changes."""

    def multiply(x: Array, y: Array) -> Array:
        nb = x.shape[-1]
        if nb <= 16:
            return vec_dot(x, y, SCALAR)
        return vec_dot(x, y, FOUR) if nb <= 40 else of_tree(_backwards)(x, y)

    found = reveal(multiply, (*range(1, 26), 31, 33, 38, 45, 50, 61))
    assert found.is_tree
    assert [(piece.first, piece.last) for piece in found.pieces] == [(1, 16), (17, 40), (41, None)]
    text = found.text()
    assert (
        "1 to 16 blocks: scalar = i8mm: whole blocks summed in integers, one accumulator, not fused" in text
    )
    assert "from 41 blocks on: not in the catalogue: steps of 1 block, from the last to the first" in text
    assert found.to_json(20)["tree"][0][0] == [[[[0, 4], 8], 12], 16]


def test_switch_of_accumulators(reveal: Reveal) -> None:
    """Of the orders that explain short rows the one that explains the most lengths is taken."""
    five = replace(FOUR, body=tuple(range(5)), fold=((((0, 1), 2), 3), 4))
    found = reveal(lambda x, y: vec_dot(x, y, SCALAR if x.size < 8 else five), (*range(1, 14), 23, 32))
    assert found.is_tree, found.text()
    assert [(piece.first, piece.last) for piece in found.pieces] == [(1, 7), (8, None)]


@pytest.mark.parametrize("at", [16, 12])
def test_early_switch(reveal: Reveal, at: int) -> None:
    """An order of short rows alone is found, and one whose blocks left over alone are fused."""
    four = replace(FOUR, tail=Tail(WHOLE, (0, 1, 2, 3), (0, 0, 0)), tail_fused=True)
    two = replace(SCALAR, body=(0, 0), tail=Tail(WHOLE, (0,), (0,)), tail_fused=True)
    found = reveal(lambda x, y: vec_dot(x, y, four if x.shape[-1] < at else two), (*range(1, 20), 23, 32, 41))
    assert found.is_tree, found.text()
    assert [(piece.first, piece.last) for piece in found.pieces] == [(1, at - 1), (at, None)]


def test_numpy_pairwise(reveal: Reveal) -> None:
    """Halves of a row down to short ones that are added with accumulators: the rule has both."""
    eight = replace(FOUR, body=tuple(range(8)), fold=(((0, 1), (2, 3)), ((4, 5), (6, 7))))

    def leaf(nb: int) -> Any:  # noqa: ANN401 (a tree)
        return program(eight, nb).additions

    split = next(family for family in families(25, leaf) if "multiple of 8 blocks" in family.words)
    found = reveal(of_tree(split.tree), (*range(1, 35), 40, 49, 63))
    assert found.is_tree
    assert found.pieces[-1].found is not None
    assert "each as shorter rows are" in found.pieces[-1].found.words


@pytest.mark.parametrize("scales", ["x", "y"])
def test_scales_one_by_one(reveal: Reveal, in_order: Make, scales: Literal["x", "y"]) -> None:
    """The integer sum times one scale, rounded, then times the other: shown, and explained."""
    found = reveal(in_order(replace(AVX2, scales=scales)), (1, 2, 3, 5, 8))
    assert found.is_tree
    assert found.to_json()["scales"] == scales
    assert f"times {scales}'s scale, rounded, then times" in found.text()


def _elements(total: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
    """Return the dot product that rounds each product of two codes, and adds the terms [nb, 32] so."""

    def multiply(x: Array, y: Array) -> Array:
        d = x["weight_scale"].astype(np.float32) * y["weight_scale"].astype(np.float32)
        products = x["weight_qs"].astype(np.float32) * y["weight_qs"] * d[..., np.newaxis]
        return np.array([total(row) for row in products.reshape(-1, *products.shape[-2:])])

    return multiply


def _one_after_the_other(terms: Array) -> Any:  # noqa: ANN401 (a sum, or sums)
    return np.add.accumulate(terms)[-1]


def _halved(row: Array) -> Any:  # noqa: ANN401 (the sum of each block)
    while row.shape[-1] > 1:
        row = row[:, : row.shape[-1] // 2] + row[:, row.shape[-1] // 2 :]
    return row[:, 0]


@pytest.mark.parametrize(
    ("total", "words"),
    [
        (lambda row: _one_after_the_other(row.ravel()), "1 sum, 32 lanes, one for each code, not fused"),
        (lambda row: _halved(_one_after_the_other(row.reshape(-1, 4))[None])[0], "4 sums, 32 lanes, one for"),
        (lambda row: _one_after_the_other(_halved(row)), "1 sum, 32 lanes, one for each code, not fused"),
    ],
)
def test_products_of_elements(
    reveal: Reveal, monkeypatch: pytest.MonkeyPatch, total: Callable[[Array], Array], words: str
) -> None:
    """Kernels that round each product of two codes: the trees of elements are found."""
    monkeypatch.setattr(module, "LARGEST_TERMS", 5 * 32)
    found = reveal(_elements(total), (1, 2, 3, 4, 5, 9))
    assert found.is_tree, found.text()
    assert words in found.text()
    assert "tried on rows of up to 5 blocks" in found.text()


def test_tree_of_each_length(asker: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no rule fits, the trees of each length are kept as they are found."""
    from q8a8_conformance.reveal import dots  # noqa: PLC0415 (with the test that needs it)

    def tree(nb: int) -> Any:  # noqa: ANN401 (a tree)
        rng = np.random.default_rng(nb)
        parts, additions = list(range(nb)), []
        while len(parts) > 1:
            pair = [parts.pop(int(rng.integers(len(parts)))) for _ in "ab"]
            additions.append(tuple(sorted(pair)))
            parts.append(nb + len(additions) - 1)
        return tuple(additions)

    monkeypatch.setattr(dots, "SHORT", (1, 2, 3, 5, 7))
    monkeypatch.setattr(dots, "LONG", (11, module.LARGEST_FOUND + 1))
    found = dots.reveal_dot(asker(of_tree(tree)), "ggml_vec_dot_q8_a8_q8_a8", calls=2)
    assert found.pieces[0].found is not None
    assert found.pieces[0].found.words == "a tree for each length"
    # The longest row is too long for that.
    assert 0 < found.unexplained <= found.of / 6
    assert not found.is_tree
