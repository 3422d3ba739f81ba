"""Products of scales that are kept under keys which other scales have, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.diagnosis.dots import dot_facts
from q8a8_conformance.faults.kernel import DOT
from q8a8_conformance.inputs import calls, dot_rows

from .dot_calls import SECONDS, FourResults, failed, own, probe_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call

    Key = Callable[[int, int], int]

KEYS: dict[str, Key] = {
    "the exclusive or of x's bits and y's": lambda x, y: x ^ y,
    "the sum of their bits": lambda x, y: x + y & 0xFFFF,
    "the sum of 31 times x's bits and y's": lambda x, y: 31 * x + y & 0xFFFF,
    "x's scale": lambda x, _y: x,
    "the low 8 bits of x's scale and the low 8 bits of y's scale": lambda x, y: (x & 255) << 8 | y & 255,
    "x's scale without its sign and y's scale without its sign": lambda x, y: (x & 0x7FFF) << 16 | y & 0x7FFF,
    "the bits that are set in one of both": lambda x, y: x | y,
}
"""Keys, by what is said of them."""


def _rows() -> Iterator[Call]:
    """Yield calls on rows whose scales have something in common with those before, or are any."""
    rng = dot_rows.generator("scale keys of tests")
    for _ in range(40):
        nb = int(rng.integers(2, 9))
        bits = rng.integers(0x3000, 0x4C00, (2, nb))
        for b in range(1, nb):
            by, kind = int(rng.integers(1, 0x300)), rng.integers(6)
            x, y = bits[:, b - 1].tolist()
            ways = ((x ^ by, y ^ by), (x + by, y - by), (x, y ^ by), (x ^ 0x8000, y), (x + 1, y - 31))
            bits[:, b] = (*ways, bits[:, b])[kind]
        scales = (bits & 0xFFFF).astype(np.uint16).view(np.float16).astype(np.float64)
        codes = rng.integers(-3, 4, (2, nb, 32))
        yield calls.dot(dot_rows.blocks(scales[0], codes[0]), dot_rows.blocks(scales[1], codes[1]))


def _kernel(key: Key) -> FourResults:
    held: dict[str, tuple[int, float]] = {}

    def product(x: np.float16, y: np.float16) -> float:
        now = key(int(x.view(np.uint16)), int(y.view(np.uint16)))
        if held.get("last", (None, 0.0))[0] != now:
            held["last"] = now, float(x) * float(y)
        return held["last"][1]

    def result(_nrc: int, number: int, rows: list[Array]) -> float:
        x, y = own(number, rows)
        sums = (x["weight_qs"].astype(int) * y["weight_qs"]).sum(axis=1)
        pairs = zip(x["weight_scale"], y["weight_scale"], sums.tolist(), strict=True)
        return float(sum(product(dx, dy) * total for dx, dy, total in pairs))

    return FourResults(result)


@pytest.mark.parametrize("words", KEYS)
def test_the_key_of_a_product_that_is_kept(words: str) -> None:
    """The key is named, and nothing else is said."""
    probe = probe_of(_kernel(KEYS[words]))
    failures = failed(_rows(), probe)
    (fact,) = dot_facts(DOT, {1: failures}, probe, SECONDS)
    assert (fact.fact, fact.where["kept_under"], fact.where["across_calls"]) == ("scale-product", words, True)
    assert fact.explained(failures)


def test_signs_that_are_lost() -> None:
    """The product of scales of the other sign is the same, after any others: nothing is kept."""

    def result(_nrc: int, number: int, rows: list[Array]) -> float:
        x, y = own(number, rows)
        sums = (x["weight_qs"].astype(int) * y["weight_qs"]).sum(axis=1)
        return float((sums * np.abs(x["weight_scale"].astype(float) * y["weight_scale"])).sum())

    probe = probe_of(FourResults(result))
    facts = dot_facts(DOT, {1: failed(_rows(), probe)}, probe, SECONDS)
    assert [fact.cause for fact in facts] == ["negative-scales-lost"]
