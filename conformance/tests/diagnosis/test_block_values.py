"""Blocks, or parts of them, that are left out for what their codes are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8_conformance.diagnosis.dots import dot_facts
from q8a8_conformance.faults import steps as plain
from q8a8_conformance.faults.kernel import DOT, Kernel, Steps
from q8a8_conformance.inputs import calls, dot_rows

from .dot_calls import SECONDS, failed, probe_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import Failure

    from .dot_calls import Probe

LEFT_OUT: dict[str, Callable[[Array, Array], Any]] = {
    "x's codes add up to zero": lambda qx, _qy: qx.sum(axis=-1) == 0,
    "y's codes add up to zero": lambda _qx, qy: qy.sum(axis=-1) == 0,
    "x's codes are all 0 or more": lambda qx, _qy: (qx >= 0).all(axis=-1),
    "y's codes are all 0 or less": lambda _qx, qy: (qy <= 0).all(axis=-1),
    "y's element 31 is zero": lambda _qx, qy: qy[..., 31] == 0,
    "any of x's codes is zero": lambda qx, _qy: (qx == 0).any(axis=-1),
    "x's codes are those of y": lambda qx, qy: (qx == qy).all(axis=-1),
    "the greatest magnitude of x's codes is 2 or less": lambda qx, _qy: np.abs(qx).max(axis=-1) < 3,
}
"""Which blocks are left out, by the condition that is said."""


def _rows() -> list[tuple[Array, Array]]:
    """Return pairs of rows whose blocks meet conditions: zeros, sums of zero, one sign, codes alike."""
    rng = dot_rows.generator("block-values")
    pairs = []
    for _ in range(30):
        codes = rng.integers(-4, 5, (2, 6, 32))
        codes[rng.integers(2), rng.integers(6), : rng.choice([1, 8, 16])] = 0
        side, block = rng.integers(2), rng.integers(6)
        codes[side, block, 31] = 0
        codes[side, block, 31] = np.clip(-codes[side, block].sum(), -128, 127)
        which = rng.permutation(6)
        codes[0, which[0]], codes[1, which[1]] = np.abs(codes[0, which[0]]), -np.abs(codes[1, which[1]])
        codes[1, which[2]], codes[0, which[3]] = codes[0, which[2]], np.clip(codes[0, which[3]], -2, 2)
        scales = np.ldexp(1.0, rng.integers(-3, 4, (2, 6)))
        pairs.append((dot_rows.blocks(scales[0], codes[0]), dot_rows.blocks(scales[1], codes[1])))
    return pairs


def _failing(products: Callable[[Array, Array], Array]) -> tuple[Probe, list[Failure]]:
    probe = probe_of(Kernel({DOT: Steps(products=products)}))
    return probe, failed((calls.dot(*pair) for pair in _rows()), probe)


@pytest.mark.parametrize("words", LEFT_OUT)
def test_blocks_that_are_taken_for_zeros(words: str) -> None:
    """The fact names what is asked instead of whether all codes are zero, and explains every failed call."""

    def products(qx: Array, qy: Array) -> Array:
        skipped = np.asarray(LEFT_OUT[words](qx.astype(np.int64), qy.astype(np.int64)))[..., np.newaxis]
        return np.asarray(np.where(skipped, 0, plain.products(qx, qy)))

    probe, failures = _failing(products)
    (fact,) = dot_facts(DOT, {1: failures}, probe, SECONDS)
    assert (fact.fact, fact.sentence) == ("block-skipped", f"A block is not counted where {words}.")
    assert len(fact.explained(failures)) == len(failures) > 0


def test_parts_of_blocks_that_are_taken_for_zeros() -> None:
    """Of every 16 elements it is asked whether one is negative."""

    def products(qx: Array, qy: Array) -> Array:
        is_counted = np.repeat((qx.reshape(-1, 2, 16) < 0).any(axis=-1), 16, axis=-1)
        return np.asarray(plain.products(qx, qy) * is_counted.reshape(qx.shape))

    probe, failures = _failing(products)
    (fact,) = dot_facts(DOT, {1: failures}, probe, SECONDS)
    assert fact.sentence == (
        "Of every 16 elements of a block none is counted where, of these 16, x's codes are all 0 or more."
    )
    assert len(fact.explained(failures)) == len(failures) > 0


def test_a_condition_that_has_no_words() -> None:
    """It is said that codes decide, and no more; the calls that it explains are predicted by the kernel."""

    def products(qx: Array, qy: Array) -> Array:
        is_counted = qx[..., :1] != qx[..., 31:]
        return np.asarray(plain.products(qx, qy) * is_counted)

    probe, failures = _failing(products)
    (fact,) = dot_facts(DOT, {1: failures}, probe, SECONDS)
    assert (fact.fact, fact.where) == ("block-skipped", {"by": "codes"})
    assert len(fact.explained(failures)) == len(failures) > 0


def test_what_is_lost_of_every_block_is_not_said_of_sums() -> None:
    """The upper half is never counted, whatever the codes add up to."""

    def products(qx: Array, qy: Array) -> Array:
        return np.asarray(np.where(np.arange(32) < 16, plain.products(qx, qy), 0))

    probe = probe_of(Kernel({DOT: Steps(products=products)}))
    failures = failed((calls.dot(*pair) for pair in _rows()), probe)
    facts = dot_facts(DOT, {1: failures}, probe, SECONDS)
    assert [fact.cause for fact in facts] == ["upper-half-lost"]
