"""Blocks that are left out because their codes add up to zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

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

LEFT_OUT: dict[str, Callable[[Array, Array], Array]] = {
    "zero-sum-of-x": lambda qx, _qy: np.asarray(qx.astype(np.int64).sum(axis=-1) == 0),
    "zero-sum-of-y": lambda _qx, qy: np.asarray(qy.astype(np.int64).sum(axis=-1) == 0),
}
"""Which blocks are left out, by the value that the fact names."""


def _rows() -> list[tuple[Array, Array]]:
    """Return pairs of rows in which some blocks have zeros, or codes that add up to zero."""
    rng = dot_rows.generator("block-values")
    pairs = []
    for _ in range(30):
        codes = rng.integers(-4, 5, (2, 6, 32))
        codes[rng.integers(2), rng.integers(6), : rng.choice([1, 8, 16])] = 0
        side, block = rng.integers(2), rng.integers(6)
        codes[side, block, 31] = 0
        codes[side, block, 31] = np.clip(-codes[side, block].sum(), -128, 127)
        scales = np.ldexp(1.0, rng.integers(-3, 4, (2, 6)))
        pairs.append((dot_rows.blocks(scales[0], codes[0]), dot_rows.blocks(scales[1], codes[1])))
    return pairs


@pytest.mark.parametrize("name", LEFT_OUT)
def test_blocks_that_are_taken_for_zeros(name: str) -> None:
    """The fact names what is asked instead of whether all codes are zero, and explains every failed call."""

    def products(qx: Array, qy: Array) -> Array:
        skipped = LEFT_OUT[name](qx, qy)[..., np.newaxis]
        return np.asarray(np.where(skipped, 0, plain.products(qx, qy)))

    probe = probe_of(Kernel({DOT: Steps(products=products)}))
    failures = failed((calls.dot(*pair) for pair in _rows()), probe)
    (fact,) = dot_facts(DOT, {1: failures}, probe, SECONDS)
    assert (fact.fact, fact.where["values"], fact.where["blocks"]) == ("block-affects-others", [name], "own")
    assert fact.sentence.endswith("it is left out.")
    assert len(fact.explained(failures)) == len(failures) > 0


def test_what_is_lost_of_every_block_is_not_said_of_sums() -> None:
    """The upper half is never counted, whatever the codes add up to."""

    def products(qx: Array, qy: Array) -> Array:
        return np.asarray(np.where(np.arange(32) < 16, plain.products(qx, qy), 0))

    probe = probe_of(Kernel({DOT: Steps(products=products)}))
    failures = failed((calls.dot(*pair) for pair in _rows()), probe)
    facts = dot_facts(DOT, {1: failures}, probe, SECONDS)
    assert [fact.cause for fact in facts] == ["upper-half-lost"]
