"""Two laws of a quantizer at once, and effects that are measured first: orders, formulas, lanes, signs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8_conformance.diagnosis.quantizers.counted_blocks import NONE, counted_effect, uncounted_sentence
from q8a8_conformance.diagnosis.quantizers.counted_trees import tree_of
from q8a8_conformance.diagnosis.quantizers.orders import order_text
from q8a8_conformance.faults import steps as plain
from q8a8_conformance.faults.kernel import Kernel, Steps
from q8a8_conformance.inputs.calls import ACTIVATION

from .test_quantizer_facts import ROW, facts_about

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.inputs.arrays import Array

F32 = np.float32


def row_of(change: Callable[[Array, Array], None]) -> type[Kernel]:
    """Return a kernel whose rows are changed after they were quantized."""

    class Changed(Kernel):
        """Quantizes a row, and changes its blocks [nb, 34], which it has from elements [nb, 32]."""

        def quantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
            """Quantize the row."""
            super().quantize_row_q8_a8(x, y, k)
            change(x[:k].reshape(-1, 32), y[: k // 32 * 34].reshape(-1, 34))

    return Changed


def vector_of(change: Callable[[Array, Array, Array], None]) -> type[Kernel]:
    """Return a kernel whose vectors are changed after they were quantized."""

    class Changed(Kernel):
        """Quantizes a vector, and changes codes and scale."""

        def quantize_activation_q8_a8(
            self,
            input: Array,  # noqa: A002 - the C parameter's name
            output: Array,
            scale: Array,
            size: int,
        ) -> None:
            """Quantize the vector."""
            super().quantize_activation_q8_a8(input, output, scale, size)
            change(input[:size], output[:size], scale)

    return Changed


def _truncated_lanes_and_odd_scales(x: Array, y: Array) -> None:
    amax = plain.amax(x)
    h = y[:, :2].copy().view(np.float16)[:, 0]
    with np.errstate(all="ignore"):
        inverse = np.where(h == 0, F32(0), F32(127) / amax)
    y[:, 10:18] = np.trunc(x[:, 8:16] * inverse[:, np.newaxis]).astype(np.int8).view(np.uint8)
    d = amax / F32(127)
    cut = np.where(h.astype(F32) > d, np.nextafter(h, np.float16(0)), h).astype(np.float16)
    y[1::2, :2] = cut[1::2, np.newaxis].view(np.uint8)


def _one_alone_and_zeros_from_64(x: Array, q: Array, _scale: Array) -> None:
    if x.size == 1:
        q[0] = -127 if x[0] < 0 else 127
    elif x.size > 64:
        q[64:] = 0


def _coded_as_the_block_before(x: Array, y: Array) -> None:
    amax = plain.amax(x)
    for b in range(3, len(x), 4):
        inverse = F32(127) / amax[b - 1] if plain.to_half(amax[b - 1] / F32(127)) else F32(0)
        with np.errstate(over="ignore"):
            v = x[b] * inverse
        y[b, 2:] = np.clip(plain.to_integer(v), -128, 127).astype(np.int8).view(np.uint8)


def _tail_without_permutation(_x: Array, y: Array) -> None:
    rest = y[len(y) // 4 * 4 :, 2:].reshape(-1, 8, 4)
    rest[:] = rest[:, [0, 2, 4, 6, 1, 3, 5, 7]]


def _tail_from_overlap(x: Array, q: Array, _scale: Array) -> None:
    rest = x.size % 16
    if x.size > 16 and rest:
        q[-rest:] = q[-16 : x.size - 16 + rest].copy()


def _zero_by_some(x: Array, y: Array) -> None:
    y[(x[:, [0, 8, 16, 24]] == 0).all(axis=1)] = 0


def _amax_of_next_end(x: Array, y: Array) -> None:
    for b in range(0, len(x) - 1, 2):
        seen = np.concatenate([x[b, :28], x[b + 1, 28:]])
        requantized(x[b], np.abs(seen).max(), y[b])


def requantized(x: Array, amax: Array, block: Array) -> None:
    """Quantize elements [32] with an amax of others, clipped."""
    h = plain.to_half(amax / F32(127))
    with np.errstate(all="ignore"):
        v = np.where(h == 0, F32(0), x * (F32(127) / amax))
    block[:2] = np.frombuffer(np.float16(h).tobytes(), np.uint8)
    block[2:] = np.clip(plain.to_integer(v), -127, 127).astype(np.int8).view(np.uint8)


def _last_scales_exchanged(_x: Array, y: Array) -> None:
    if len(y) % 2 == 0:
        y[-2:, :2] = y[-2:, :2][::-1].copy()


def _packed_in_pairs(_x: Array, y: Array) -> None:
    whole = y[: len(y) // 2 * 2, 2:].reshape(-1, 2, 2, 16)
    whole[:] = whole.transpose(0, 2, 1, 3).copy()


def _scales_of_four_first(_x: Array, y: Array) -> None:
    for four in y[: len(y) // 4 * 4].reshape(-1, 4, 34):
        four.reshape(-1)[:] = np.concatenate([four[:, :2].reshape(-1), four[:, 2:].reshape(-1)])


def _small_elements_lost(x: Array, y: Array) -> None:
    y[:, 2:][np.abs(x) < plain.amax(x)[:, np.newaxis] / F32(128)] = 0


def _signs_of_a_tail(x: Array, q: Array, scale: Array) -> None:
    seen = x.copy()
    tail = seen[x.size // 4 * 4 :]
    tail[tail < 0] = 0
    held = np.zeros(2 + x.size, np.uint8)
    requantized(x, np.abs(seen).max(initial=F32(0)), held)
    q[:], scale[:] = held[2:].view(np.int8), held[:2].view(scale.dtype)


def _amax_by_halves(x: Array, q: Array, scale: Array) -> None:
    seen = np.abs(x)
    s = seen.size // 2
    while s:
        seen[:s] = np.maximum(seen[:s], seen[s : 2 * s])
        s //= 2
    held = np.zeros(2 + x.size, np.uint8)
    requantized(x, seen.max(initial=F32(0), where=np.arange(x.size) == 0), held)
    q[:], scale[:] = held[2:].view(np.int8), held[:2].view(scale.dtype)


def _biased(v: Array) -> Array:
    return np.floor(v + F32(128.5)) - F32(128)


LAWS: dict[str, tuple[str, Callable[[], Kernel], list[tuple[str, dict[str, Any], str]]]] = {
    "two-in-a-row": (ROW, row_of(_truncated_lanes_and_odd_scales), [
        ("value-recipe", {"elements": list(range(8, 16))},
         "Elements are truncated, not rounded: a C cast, in elements 8 to 15 of a block."),
        ("place-half", {"position": {"kind": "last-of-tile", "tile": 2}},
         "The scale is cut off to a half, not rounded; the codes are right, in every odd block."),
    ]),
    "two-in-a-vector": (ACTIVATION, vector_of(_one_alone_and_zeros_from_64), [
        ("place-zero", {"what": "codes"},
         "The codes are zero, in every element from element 64 on."),
        ("place-codes", {"codes": "largest"},
         "Codes are 127 or -127, by the element's sign, where size = 1."),
    ]),
    "inverse-of-another": (ROW, row_of(_coded_as_the_block_before), [
        ("amax-of", {"part": "inverse", "offset": -1},
         ("A block's codes, and not its scale, are computed with the amax of the block before, in the last "
          "block of every 4.")),
    ]),
    "order-in-a-tail": (ROW, row_of(_tail_without_permutation), [
        ("place-order", {"of": "codes"},
         ("The codes of a block stand in groups of 4 in the order 0, 2, 4, 6, 1, 3, 5, 7, in the blocks "
          "beyond a multiple of 4.")),
    ]),
    "overlap": (ACTIVATION, vector_of(_tail_from_overlap), [
        ("place-code-of", {"of-rest": 1, "modulus": 16, "offset": -16},
         ("Element j has the code of element j + size % 16 - 16, in the elements beyond a multiple of 16 "
          "where size >= 17.")),
    ]),
    "elements-of-the-next": (ROW, row_of(_amax_of_next_end), [
        ("amax-of", {"1": [28, 29, 30, 31]},
         ("Of the block after, if there is one, and not of its own, elements 28 to 31 count in a block's "
          "amax, in every even block.")),
    ]),
    "scales-exchanged": (ROW, row_of(_last_scales_exchanged), [
        ("place-of-block", {"what": "scale", "group": 2},
         "A block has the scale of the other block of its pair, in the last 2 blocks where nb is even."),
    ]),
    "crossed": (ROW, row_of(_packed_in_pairs), [
        ("layout", {"group": 2},
         ("Whole groups of 2 blocks are stored as their codes, 16 of each block in turn, with each block's "
          "scale in its place.")),
    ]),
    "scales-of-four": (ROW, row_of(_scales_of_four_first), [
        ("layout", {"group": 4}, "Whole groups of 4 blocks are stored as their scales, then their codes."),
    ]),
    "small-elements": (ROW, row_of(_small_elements_lost), [
        ("value-zero", {"values": "product-below"},
         "A block's codes are zero, of products whose magnitude is less than 0.9921875."),
    ]),
    "signs-of-a-tail": (ACTIVATION, vector_of(_signs_of_a_tail), [
        ("place-not-counted", {"negative": {"position": {"kind": "left-over", "modulus": 4}, "length": []}},
         "The elements beyond a multiple of 4 do not count in amax where they are negative."),
    ]),
    "tree-of-halves": (ACTIVATION, vector_of(_amax_by_halves), [
        ("place-not-counted", {"tree": "halves"},
         ("Some elements do not count in amax, as in a tree of halves, which loses the last one of an odd "
          "count, where size is no power of two: of size 3 element 2, of size 5 element 4, of size 6 "
          "elements 2, 5.")),
    ]),
    "zero-by-some": (ROW, row_of(_zero_by_some), [
        ("value-zero", {"zero": [0, 8, 16, 24]},
         "A block is zero, where elements 0, 8, 16, 24 are all zero."),
    ]),
    "bias": (ROW, lambda: Kernel({ROW: Steps(to_integer=_biased)}), [
        ("step", {"step": "rounding", "value": "offset-add-half"},
         ("Codes are x · inv + 128.5 in float32 without its fraction, less 128: halves go up, and so does "
          "what the sum rounds to a half.")),
    ]),
}  # fmt: skip
"""What a quantizer does: the facts, their parameters, and their sentences."""


@pytest.mark.parametrize("name", LAWS)
def test_what_happens_and_where(name: str) -> None:
    """The laws are the only facts, each says its condition, and together they explain every failed call."""
    function, make, expected = LAWS[name]
    facts, failed = facts_about(function, make)
    assert [(fact.fact, fact.sentence) for fact in facts] == [(slug, text) for slug, _, text in expected]
    for fact, (_, where, _) in zip(facts, expected, strict=True):
        assert where.items() <= fact.where.items()
        assert len(fact.evidence) == 1
    explained = {id(one) for fact in facts for one in fact.explained(failed)}
    assert len(explained) == len(failed) > 0


@pytest.mark.parametrize(
    ("places", "sentence"),
    [
        ([(0, 31), (1, 31)], "Element 31 of a block does not count in its amax."),
        ([(1, 31)], "Element 31 of a block, where it is negative, does not count in its amax."),
        ([(1, j) for j in range(16, 32)], "Negative elements 16 to 31 of a block do not count in its amax."),
    ],
)
def test_signs_that_do_not_count(places: list[tuple[int, int]], sentence: str) -> None:
    """The sign is said where one alone does not count."""
    counted = np.ones((2, 32), np.bool_)
    for place in places:
        counted[place] = False
    assert uncounted_sentence(counted) == sentence


@pytest.mark.parametrize(
    ("first", "last", "text"),
    [
        ((0, 8, 1), (0, 8, 1), "Amax is taken from elements that begin 8 elements too late"),
        ((3, 4, 2), (3, 4, 2),
         "Of the block +2 from it, if there is one, and not of its own, element 3 counts in a block's amax"),
        ((30, 32, -1), (0, 0, 0),
         ("Of the block before, if there is one, besides a block's own elements, elements 30 to 31 count in "
          "its amax")),
        ((0, 4, NONE), (0, 4, NONE), "Elements 0 to 3 of a block do not count in its amax"),
    ],
)  # fmt: skip
def test_words_of_elements(first: tuple[int, int, int], last: tuple[int, int, int], text: str) -> None:
    """What counts is said of the first and the last block of which an element does."""
    pattern = np.zeros((2, 2, 32), int)
    for of, (begin, end, distance) in zip(pattern, (first, last), strict=True):
        of[:, begin:end] = distance
    assert counted_effect(pattern).what == text


@pytest.mark.parametrize(
    ("order", "text"),
    [
        (np.arange(32)[::-1], "The codes of a block stand in the reversed order"),
        (np.roll(np.arange(32), -1), "The codes of a block stand 1 place too early, the first at the end"),
        (np.arange(32).reshape(-1, 4)[:, [1, 0, 3, 2]].reshape(-1),
         "The codes of a block stand with every two exchanged"),
        (np.arange(32).reshape(-1, 4)[:, [0, 2, 1, 3]].reshape(-1),
         "The codes of a block stand, within every 4, in the order 0, 2, 1, 3"),
        (np.r_[np.arange(27), 0, 1, 2, 3, 4], "At codes 27 to 31 of a block stand codes 0 to 4"),
        (np.r_[np.arange(31), 5], "At code 31 of a block stands code 5"),
    ],
)  # fmt: skip
def test_words_of_an_order(order: Array, text: str) -> None:
    """An order has the shortest words that it has."""
    assert order_text(order, "codes") == text


def test_elements_that_no_known_tree_loses() -> None:
    """What is lost is said by the sizes and their elements, with what the sizes have in common."""
    found = {n: (np.arange(n) >= n - n % 3, np.ones(n, np.bool_)) for n in range(1, 12)}
    found |= {n: (np.arange(n) == n - 1, np.ones(n, np.bool_)) for n in (8, 10)}
    lost = tree_of(found)
    assert lost is not None
    assert lost.counted is None
    assert lost.text == (
        "Some elements do not count in amax, where size is no multiple of 3: of size 1 element 0, of size 2 "
        "elements 0 to 1, of size 4 element 3"
    )
    assert tree_of({n: (np.zeros(n, np.bool_), np.ones(n, np.bool_)) for n in (1, 2)}) is None
