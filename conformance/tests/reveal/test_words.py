"""Trees, programs, descriptions and drawings of orders."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from q8a8.order import ORDERS, WHOLE, Order, Program, Tail, TreeOrder, halves, pairwise, sequential
from q8a8_conformance.report.trees import nested_svg, tree_svg
from q8a8_conformance.reveal.asking import NoTreeError
from q8a8_conformance.reveal.candidates import Candidate, names_of
from q8a8_conformance.reveal.describe import blocks_shown, order_json, words_of
from q8a8_conformance.reveal.dots import Piece, Revealed
from q8a8_conformance.reveal.loops import lanes_words
from q8a8_conformance.reveal.programs import meaning, program, terms_of
from q8a8_conformance.reveal.trees import as_fold, nested, reveal_tree, same

if TYPE_CHECKING:
    from q8a8.order import Fold

QUADS = ORDERS["neon-dotprod"].lanes
OCTET = ORDERS["avx2"].lanes


def _words(order: Order) -> str:
    return words_of(Candidate(order))


def test_words_of_the_catalogue() -> None:
    """Lanes, accumulators, fused products, fold and tail, in words."""
    assert _words(ORDERS["scalar"]) == "whole blocks summed in integers, one accumulator, not fused"
    assert _words(ORDERS["neon-dotprod-gcc"]) == (
        "4 lanes, each 8 codes (the first 0-3, 16-19), two accumulators by even and odd block, not fused, "
        "folded (l0 + l1) + (l2 + l3) in each accumulator, then a0 + a1, blocks left over one by one after "
        "the fold, fused"
    )
    assert _words(ORDERS["sve-256"]) == (
        "8 lanes, each 4 consecutive codes, two accumulators by even and odd block, fused, folded a0 + a1 "
        "lane by lane, then ((l0 + l1) + (l2 + l3)) + ((l4 + l5) + (l6 + l7)), blocks left over one by one "
        "after the fold"
    )
    assert "folded ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))" in _words(ORDERS["avx2"])


def test_words_of_others() -> None:
    """What the catalogue does not have."""
    order = Order("mine", tuple((c,) for c in range(32)), (0,), pairwise(0, 32), True, "body", True, 1, "")
    assert (
        _words(order)
        == "32 lanes, one for each code, one accumulator, fused, folded neighbours in pairs over 32 lanes"
    )
    mixed: Fold = ((0, 31), sequential(1, 30))
    assert "folded 32 lanes in a tree" in _words(replace(order, fold=mixed))
    order = Order("mine", WHOLE, (0, 0, 1, 2), sequential(0, 3), False, "scalar", False, 1, "")
    assert "3 accumulators that take the blocks of a step as 0, 0, 1, 2" in _words(order)
    assert "folded (a0 + a1) + a2" in _words(order)
    crossed: Fold = ((0, 3), (1, 2))
    order = Order(
        "mine", (tuple(range(16)), tuple(range(16, 32))), (0, 1), crossed, False, "body", False, 1, ""
    )
    assert "folded (r0 + r3) + (r1 + r2)" in _words(order)
    assert "blocks left over as if the step went on" in _words(order)
    assert "times y's scale, rounded, then times x's" in _words(replace(order, scales="y"))
    assert lanes_words(((0, 1, 4), tuple(c for c in range(32) if c not in {0, 1, 4}))).endswith(
        "(the first 0-1, 4)"
    )


@pytest.mark.parametrize(
    ("tail", "fold", "words"),
    [
        (Tail(OCTET, tuple(range(16)), (0,)), halves(0, 16), "blocks left over in accumulator 0, not fused"),
        (
            Tail(WHOLE, (halves(0, 16), None), (1,)),
            (0, 1),
            "blocks left over in a sum of their own, not fused",
        ),
        (
            Tail(OCTET, tuple((lane, lane + 8) for lane in range(8)), (0,)),
            halves(0, 8),
            "blocks left over in the lanes of the joined accumulators, not fused",
        ),
    ],
)
def test_tails(tail: Tail, fold: Fold, words: str) -> None:
    """Tails of their own, in words and as JSON."""
    order = Order("mine", OCTET, (0, 1), fold, True, tail, False, 1, "")
    assert words in _words(order)
    data = order_json(Candidate(order), 7)
    assert data["tail"]["body"] == list(tail.body)
    assert len(data["tail"]["start"]) == len(tail.start)


def test_json() -> None:
    """The trees of the specification's document, in nested arrays of block numbers."""
    assert order_json(Candidate(ORDERS["scalar"]), 5)["tree"] == [[[[0, 1], 2], 3], 4]
    data = order_json(Candidate(ORDERS["neon-dotprod"], ("neon-dotprod",)), 7)
    assert data["tree"] == [[[[0, 2], 4], [[1, 3], 5]], 6]
    assert data["name"] == "neon-dotprod"
    assert data["fold"] == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert order_json(Candidate(ORDERS["scalar"]), 0)["tree"] == []


def test_blocks_shown() -> None:
    """Two steps and what can be left over, in the range of the order."""
    assert blocks_shown(None, 1) == 7
    assert blocks_shown(Candidate(ORDERS["neon"]), 1) == 7
    assert (
        blocks_shown(Candidate(replace(ORDERS["scalar"], body=tuple(range(8)), fold=halves(0, 8))), 1) == 19
    )
    assert blocks_shown(Candidate(ORDERS["scalar"]), 300) == 300


def test_names() -> None:
    """An order has the names of all that add the same; lanes and registers may have other numbers."""
    assert names_of(ORDERS["i8mm"]) == ("scalar", "i8mm")
    order = ORDERS["avx2"]
    turned = replace(order, lanes=order.lanes[::-1], fold=(((7, 3), (5, 1)), ((6, 2), (4, 0))))
    assert names_of(turned) == ("avx2",)
    assert names_of(replace(order, fused=False)) == ()
    assert names_of(replace(order, scales="x")) == ()


def test_programs() -> None:
    """A program has a term for each lane of a block; fused where it is."""
    written = program(ORDERS["neon-dotprod-gcc"], 3)
    assert len(terms_of(written.lanes)) == 9
    assert len(written.additions) == 8
    assert [k for k, fused in enumerate(written.fused) if fused] == [7]
    chain = TreeOrder("chain", {3: Program.of_blocks(3, WHOLE, ((0, 1), (3, 2)), fused=True)}, "")
    assert meaning(program(chain, 3)) == meaning(program(ORDERS["scalar-fma"], 3))
    assert meaning(program(chain, 3)) != meaning(program(ORDERS["scalar"], 3))


def test_contradicting_sizes() -> None:
    """Sizes that no tree has are refused."""
    with pytest.raises(NoTreeError, match="by one experiment"):
        reveal_tree(4, lambda _one, _other: 4 if {_one, _other} == {0, 3} else 2)


def test_trees() -> None:
    """A tree is found from its sizes, whatever its shape."""
    tree = ((3, 1), (0, 2), (5, 4), (6, 7))
    held = [{0}, {1}, {2}, {3}, {4}]
    for left, right in tree:
        held.append(held[left] | held[right])

    def size(one: int, other: int) -> int:
        return min(len(part) for part in held if {one, other} <= part)

    assert same(5, reveal_tree(5, size), tree)
    assert reveal_tree(0, size) == reveal_tree(1, size) == ()
    assert nested(5, tree) == [[0, 2], [[3, 1], 4]] or nested(5, tree)
    assert as_fold(1, ()) == 0


def test_drawing() -> None:
    """A drawing is well-formed, names every term, and says in words what it shows."""
    tree = program(ORDERS["scalar"], 64).additions
    for alone in (False, True):
        svg = ET.fromstring(tree_svg(64, tree, "a < b", lambda term: f"b{term}", alone=alone))  # noqa: S314
        assert svg.attrib["aria-label"] == "a < b"
        labels = {element.text for element in svg.iter() if element.tag.endswith("text")}
        assert labels == {f"b{term}" for term in range(64)}
        assert float(svg.attrib["viewBox"].split()[2]) <= 1100
    assert nested_svg([[0, 1], 2], "three").count("<circle") == 2


def test_long_rows() -> None:
    """Trees of long rows are described, and neither written nor drawn."""
    found = Candidate(ORDERS["scalar"], ("scalar",))
    revealed = Revealed("f", 1, pieces=[Piece(1, 599, found), Piece(600, None, found)])
    assert revealed.svg(600) == ""
    assert revealed.svg(5).startswith("<svg")
    assert revealed.to_json(600)["tree"] is None
    assert revealed.words.startswith("1 to 599 blocks: whole blocks summed in integers")
