"""Where the outputs of wrong matrix products come from: the mistakes of the catalogue, and two others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.abi import Reference
from q8a8.matmul import mul_mat
from q8a8.recipe import quantize_blocks
from q8a8_conformance.diagnosis.facts import left_of
from q8a8_conformance.diagnosis.products.experiments import facts_of_products
from q8a8_conformance.diagnosis.products.places import place_facts
from q8a8_conformance.diagnosis.products.shared import amax_facts
from q8a8_conformance.diagnosis.products.words import KINDS
from q8a8_conformance.faults.catalogue import MUTANTS, make
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import mul_mat_rows
from q8a8_conformance.inputs.calls import MUL_MAT, float_bytes
from q8a8_conformance.inputs.calls import mul_mat as product_call
from q8a8_conformance.results.observations import Failure

from .product_calls import failed_products

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.protocol.messages import Call

Array = NDArray[Any]

SHAPES = (
    (1, 3, 2),
    (3, 1, 4),
    (5, 7, 1),
    (9, 17, 3),
    (17, 9, 5),
    (8, 8, 0),
    (2, 1, 2048),
    (1, 2, 3077),
    (65_537, 1, 1),
    (1, 65_537, 1),
)
"""m, n and blocks of a row."""

PLACED = {
    "matrix-columns-lost": "outputs-not-written",
    "matrix-rows-lost": "outputs-not-written",
    "matrix-corner-lost": "outputs-not-written",
    "matrix-m-in-sixteen-bits": "outputs-not-written",
    "matrix-n-in-sixteen-bits": "outputs-not-written",
    "matrix-neighbour": "outputs-of-other-rows",
    "matrix-first-row-for-all": "outputs-of-other-rows",
    "matrix-tile-stale": "outputs-of-other-rows",
    "matrix-scales-of-first-row": "scales-of-other-rows",
    "matrix-k-tail-lost": "blocks-miscounted",
    "matrix-last-k-tile-twice": "blocks-miscounted",
    "matrix-k-in-sixteen-bits": "blocks-miscounted",
    "matrix-added": "outputs-added",
    "matrix-empty-unwritten": "empty-not-written",
}
"""The fact that each mistake of the catalogue is which is about places."""


def measured(
    kernel: Callable[[], object], shapes: Sequence[tuple[int, int, int]] = SHAPES
) -> tuple[list[Fact], list[Failure]]:
    """Return the facts about a kernel, and its failed calls on exact matrices of some shapes."""
    session = InProcessSession(kernel, [MUL_MAT])
    failures = []
    for m, n, nb in shapes:
        w, x = mul_mat_rows.exact(m, n, nb)
        call: Call = product_call(w, x, out=float_bytes(3.0) * (m * n))
        expected = (mul_mat(w, x).astype("<f4").tobytes(),)
        outputs = tuple(bytes(out) for out in session.call(call).outputs)
        if outputs != expected:
            failures.append(Failure(call, outputs, expected))
    return amax_facts(session, failures) or place_facts(session, failures), failures


@pytest.mark.parametrize("slug", PLACED)
def test_a_mistake_is_measured(slug: str) -> None:
    """The fact is the mutation: its kind, its name, its rule, and every failed call has it as its cause."""
    (fact,), failures = measured(lambda: make(slug))
    assert (fact.fact, fact.slug, fact.rule) == (PLACED[slug], slug, MUTANTS[slug].rule)
    assert fact.rule == KINDS[fact.fact][0]
    assert fact.explained(failures) == failures
    assert fact.evidence
    assert fact.where["shapes"]


@pytest.mark.parametrize(
    "slug", ["matrix-rounds-even", "matrix-scale-of-row", "matrix-half-scales", "matrix-float-activations"]
)
def test_arithmetic_is_no_place(slug: str) -> None:
    """A mistake in the arithmetic puts nothing in a wrong place."""
    facts, _ = measured(lambda: make(slug))
    assert facts == []


class Rotated(Reference):
    """A kernel that stores each row of outputs one place on."""

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply, and rotate the outputs of each row."""
        super().mul_mat_q8_a8(m, n, k, w, x, out)
        out[: m * n] = np.roll(out[: m * n].reshape(n, m), 1, axis=1).reshape(-1)


class SecondBlockTwice(Reference):
    """A kernel that counts the second block of long rows twice."""

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply, and add the second block again."""
        super().mul_mat_q8_a8(m, n, k, w, x, out)
        if k > 64:
            blocks = layout.as_blocks(w[: m * k // 32 * 34]).reshape(m, -1)
            rows = x[: n * k].reshape(n, k)
            out[: m * n] += mul_mat(np.ascontiguousarray(blocks[:, 1:2]), rows[:, 32:64].copy()).reshape(-1)


class WeightsInSevenBits(Reference):
    """A kernel that counts the blocks of w in seven bits, and those of x as they are."""

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply by weights whose first 128 blocks come again."""
        blocks = layout.as_blocks(w[: m * k // 32 * 34]).reshape(m, -1)
        again = np.ascontiguousarray(blocks[:, np.arange(k // 32) % 128])
        super().mul_mat_q8_a8(m, n, k, again.view(np.uint8).reshape(-1), x, out)


@pytest.mark.parametrize(
    ("kernel", "fact"),
    [
        (Rotated, "outputs-of-other-rows"),
        (SecondBlockTwice, "blocks-miscounted"),
        (WeightsInSevenBits, "block-meets-another"),
    ],
)
def test_what_the_catalogue_does_not_have(kernel: type[Reference], fact: str) -> None:
    """A mistake that nobody has told it is measured all the same, and has no name of the catalogue's."""
    (found,), failures = measured(kernel)
    assert found.slug == found.fact == fact
    assert found.explained(failures) == failures


class FewOfX(Reference):
    """A kernel that counts the rows of x, or the blocks of its rows, modulo four."""

    blocks = False

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Take the first rows, or blocks, again, and multiply."""
        given = x[: n * k].reshape(n, -1, 32)
        given = given[:, np.arange(k // 32) % 4] if self.blocks else given[np.arange(n) % 4]
        super().mul_mat_q8_a8(m, n, k, w, np.ascontiguousarray(given).reshape(-1), out)


class FewBlocksOfX(FewOfX):
    """The same of its blocks."""

    blocks = True


@pytest.mark.parametrize(
    ("kernel", "kind", "words"),
    [
        (FewOfX, "outputs-of-other-rows", "the rows of x are those whose number is their own modulo 4"),
        (FewBlocksOfX, "block-meets-another", "the blocks of x are those whose number is their own modulo 4"),
    ],
)
def test_numbers_that_wrap(kernel: Callable[[], object], kind: str, words: str) -> None:
    """What comes again is named by its period, on the side of x alone too."""
    facts, failures = measured(kernel, SHAPES[:6])
    assert (facts[0].fact, facts[0].fix) == (kind, MUTANTS["matrix-k-in-sixteen-bits"].fix)
    assert words in facts[0].sentence.replace("The", "the")
    assert len(facts[0].explained(failures)) == len(failures)


def _of(change: Callable[[Array, Array, Array, int], None]) -> type[Reference]:
    """Return a kernel that changes its outputs: `change` gets what stood there, the right ones, and both."""

    class Changed(Reference):
        """A kernel that is wrong in some outputs."""

        def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
            """Multiply, and change the outputs."""
            held, size = out[: m * n].copy(), m * n
            super().mul_mat_q8_a8(m, n, k, w, x, out)
            right = out[:size].reshape(n, m).copy()
            change(out[:size].reshape(n, m), right, held.reshape(n, m), k // 32)

    return Changed


def _tail_of_first(out: Array, right: Array, _held: Array, _nb: int) -> None:
    start = right.shape[1] // 4 * 4
    out[:, start:] = right[:, start : start + 1]


def _corner_kept(out: Array, right: Array, held: Array, nb: int) -> None:
    n, m = right.shape
    if nb >= 2:
        out[n // 4 * 4 :, m // 8 * 8 :] = held[n // 4 * 4 :, m // 8 * 8 :]


def _mirrored(out: Array, right: Array, _held: Array, _nb: int) -> None:
    start = len(right) // 8 * 8
    if start:
        out[start:] = right[start:, ::-1]


BEYOND = "beyond a multiple of"
RULES: tuple[tuple[Callable[[Array, Array, Array, int], None], str, dict[str, object]], ...] = (
    (
        _tail_of_first,
        "Outputs in the columns beyond a multiple of 4 are those of row j - j % 4 of w.",
        {"row": "j - j % 4"},
    ),
    (
        _corner_kept,
        f"Outputs in the columns {BEYOND} 8 and in the rows {BEYOND} 4 where nb >= 2 are not written.",
        {},
    ),
    (
        _mirrored,
        "Outputs in the rows beyond a multiple of 8 where n >= 9 are those of row m - 1 - j of w.",
        {"row": "m - 1 - j"},
    ),
)
"""What a kernel does with its outputs, the sentence about all shapes, and what programs are told."""


@pytest.mark.parametrize(("change", "sentence", "where"), RULES, ids=lambda of: getattr(of, "__name__", ""))
def test_one_rule_for_all_shapes(
    change: Callable[[Array, Array, Array, int], None], sentence: str, where: dict[str, object]
) -> None:
    """The outputs that are wrong, and what is there instead, are said of products of any shape."""
    (fact,), failures = measured(_of(change), (*SHAPES[:6], (3, 3, 2), (12, 10, 2)))
    assert fact.sentence == sentence
    assert where.items() <= fact.where.items()
    assert fact.explained(failures) == failures


class TailOfTwoLost(Reference):
    """A kernel that does not count the last block of long rows of odd length."""

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply rows without their last blocks."""
        nb = k // 32
        if nb >= 5 and nb % 2:
            blocks = layout.as_blocks(w[: m * nb * 34]).reshape(m, -1)
            rows = np.ascontiguousarray(x[: n * k].reshape(n, k)[:, :-32])
            w, x, k = (
                np.ascontiguousarray(blocks[:, :-1]).view(np.uint8).reshape(-1),
                rows.reshape(-1),
                k - 32,
            )
        super().mul_mat_q8_a8(m, n, k, w, x, out)


def test_one_rule_for_blocks() -> None:
    """Blocks that are not counted are said of rows of any length."""
    (fact,), failures = measured(TailOfTwoLost)
    assert fact.sentence == "The last block where nb >= 5 and nb is odd is not counted."
    assert fact.explained(failures) == failures


GOES_ON = (
    "All outputs also contain the products of rows 0 to i - 1 of x, in every block from block nb / 2 "
    "(rounded down) on."
)


class Multiplied(Reference):
    """A kernel that adds other products of blocks: `change` makes the sums."""

    def change(self, w: Array, x: Array) -> Array:
        """Return sums, float32 [n, m], of blocks w [m, nb] and x [n, nb]."""
        raise NotImplementedError

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply."""
        blocks = layout.as_blocks(w[: m * k // 32 * 34]).reshape(m, -1)
        out[: m * n] = self.change(blocks, quantized(x[: n * k].reshape(n, k))).reshape(-1)


def quantized(x: Array, amax: Array | None = None) -> Array:
    """Quantize rows, float32 [n, k], under their own amax or another, [n, nb]: blocks [n, nb]."""
    shaped = x.reshape(len(x), -1, 32)
    if amax is None:
        amax = np.abs(shaped).max(axis=2)
    scales, codes = quantize_blocks(np.concatenate([shaped, amax[..., np.newaxis]], axis=2))
    return layout.pack(scales, np.ascontiguousarray(codes[..., :32]))


def terms(w: Array, x: Array) -> Array:
    """Return the products of blocks w [m, nb] and x [n, nb]: float32 [n, m, nb]."""
    sums = np.einsum("nbe,mbe->nmb", x["weight_qs"].astype(np.int64), w["weight_qs"].astype(np.int64))
    scales = x["weight_scale"][:, np.newaxis].astype(np.float32) * w["weight_scale"].astype(np.float32)
    return np.asarray(sums.astype(np.float32) * scales)


class TileScales(Multiplied):
    """A kernel whose rows of w beyond a multiple of four have the scales of the first of them."""

    def change(self, w: Array, x: Array) -> Array:
        """Multiply under these scales."""
        w = w.copy()
        start = len(w) // 4 * 4
        w["weight_scale"][start:] = w["weight_scale"][start : start + 1]
        return np.asarray(terms(w, x).sum(axis=2))


class NotReset(Multiplied):
    """A kernel whose sums of the second half of a row go on from one row of x to the next."""

    def change(self, w: Array, x: Array) -> Array:
        """Multiply, and add."""
        found, half = terms(w, x), x.shape[1] // 2
        return np.asarray(found[..., :half].sum(axis=2) + np.cumsum(found[..., half:].sum(axis=2), axis=0))


class PreviousColumn(Multiplied):
    """A kernel that adds the products of the column before, too."""

    def change(self, w: Array, x: Array) -> Array:
        """Multiply, and add."""
        out = terms(w, x).sum(axis=2)
        out[:, 1:] += out[:, :-1].copy()
        return np.asarray(out)


class TailOfColumns(Multiplied):
    """A kernel that does not count the last block in the columns beyond a multiple of four."""

    def change(self, w: Array, x: Array) -> Array:
        """Multiply, and leave blocks out."""
        found = terms(w, x)
        found[:, len(w) // 4 * 4 :, -1] = 0
        return np.asarray(found.sum(axis=2))


class EdgesOverwritten(Multiplied):
    """A kernel whose edges of tiles of four by four keep the last panel of four blocks alone."""

    def change(self, w: Array, x: Array) -> Array:
        """Multiply, and leave blocks out."""
        found = terms(w, x)
        i, j = np.indices(found.shape[:2])
        edge = (i >= len(x) - len(x) % 4) | (j >= len(w) - len(w) % 4)
        found[..., : (found.shape[2] - 1) // 4 * 4][edge] = 0
        return np.asarray(found.sum(axis=2))


class Overlapping(Multiplied):
    """A kernel whose last tile of four rows by eight columns is moved back, and added to the one before."""

    def change(self, w: Array, x: Array) -> Array:
        """Multiply, and add again."""
        out, (n, m) = terms(w, x).sum(axis=2), (len(x), len(w))
        if n > 4 and n % 4:
            out[n - 4 : n - n % 4] *= 2
        if m > 8 and m % 8:
            out[:, m - 8 : m - m % 8] *= 2
        return np.asarray(out)


class Pairs(Reference):
    """A kernel in which pairs of rows of x share the amax of each block."""

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Quantize under the larger amax, and multiply."""
        blocks, rows = layout.as_blocks(w[: m * k // 32 * 34]).reshape(m, -1), x[: n * k].reshape(n, k)
        own = np.abs(rows.reshape(n, -1, 32)).max(axis=2)
        pairs = np.stack([own[i // 2 * 2 : i // 2 * 2 + 2].max(axis=0) for i in range(n)])
        out[: m * n] = terms(blocks, quantized(rows, pairs)).sum(axis=2).reshape(-1)


@pytest.mark.parametrize(
    ("kernel", "kind", "sentence"),
    [
        (
            TileScales,
            "weight-scales-of-other-rows",
            "Outputs in the columns beyond a multiple of 4 have the scales of row j - j % 4 of w.",
        ),
        (
            NotReset,
            "sums-of-other-rows",
            GOES_ON,
        ),
        (
            PreviousColumn,
            "sums-of-other-rows",
            "All outputs also contain the products of row j - 1 of w.",
        ),
        (
            TailOfColumns,
            "blocks-miscounted",
            "In outputs in the columns beyond a multiple of 4 the last block is not counted.",
        ),
        (
            Pairs,
            "amax-of-other-rows",
            "Every 2 rows of x, from a multiple of 2 on, share the largest amax of each block.",
        ),
    ],
)
def test_mistakes_of_tiles(kernel: type[Reference], kind: str, sentence: str) -> None:
    """What tiles, strides and sums that are not reset do wrong is said of products of any shape."""
    few = ((3, 1, 4), (5, 7, 1), (9, 17, 3), (17, 9, 5), (4, 6, 2), (2, 3, 8))
    (fact,), failures = measured(kernel, (*few, (2, 1300, 1), (1300, 2, 1), (1, 30_000, 1)))
    assert (fact.fact, fact.sentence) == (kind, sentence)
    assert fact.explained(failures) == failures
    assert fact.evidence


def test_edges_of_either_side() -> None:
    """What happens at the edges of rows and of columns is two laws: of columns, and of rows."""
    session = InProcessSession(EdgesOverwritten, [MUL_MAT])
    failures = failed_products(session, ((5, 7, 5), (9, 8, 6), (8, 9, 9), (4, 6, 5), (10, 3, 12)))
    facts = facts_of_products(session, failures)
    lost = "every block before the last group of 4 or fewer is not counted."
    assert {fact.sentence for fact in facts} == {
        f"In outputs in the {side} beyond a multiple of 4, {lost}" for side in ("columns", "rows")
    }
    assert not left_of(failures, facts)


def test_tiles_that_overlap_on_both_sides() -> None:
    """What is added again by row and by column is added four times where both overlap."""
    session = InProcessSession(Overlapping, [MUL_MAT])
    failures = failed_products(session, ((9, 7, 2), (10, 9, 1), (8, 5, 3), (12, 4, 2)))
    (fact,) = facts_of_products(session, failures)
    assert fact.sentence == (
        "Outputs in the columns from m - 8 to the last multiple of 8, exclusive are doubled, those in the "
        "rows from n - 4 to the last multiple of 4, exclusive doubled, and those in both counted 4 times."
    )
    assert fact.explained(failures) == failures
    assert fact.evidence
