"""Products that round weights or activations to other numbers: these, and which elements share a scale."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8_conformance.diagnosis.products.facts import product_facts
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults import catalogue
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import calls
from q8a8_conformance.inputs.calls import MUL_MAT
from q8a8_conformance.results.observations import Failure
from q8a8_conformance.reveal.products import shapes
from q8a8_conformance.reveal.products.revealed import Extent, reveal_product

Array = NDArray[Any]
F16, F32 = np.float16, np.float32
Change = Callable[[Array], Array]

BRIEF = Extent((1, 2, 3, 4), 64, 30, (1, 2, 5), (32,))


def groups(size: int, change: Change) -> Change:
    """Return what changes groups of so many elements of a row; 0 for a whole row, -1 for all rows."""

    def changed(v: Array) -> Array:
        width = {0: v.shape[1], -1: v.size}.get(size, size)
        flat = v.reshape(1, -1) if size == -1 else np.pad(v, ((0, 0), (0, -v.shape[1] % width)))
        found = change(flat.reshape(len(flat), -1, width).astype(F32)).reshape(len(flat), -1)
        return found.reshape(v.shape) if size == -1 else found[:, : v.shape[1]]

    return changed


def amax(v: Array) -> Array:
    """Return the largest magnitudes of groups, 1 for zeros."""
    largest = np.abs(v).max(axis=2, keepdims=True)
    return np.where(largest == 0, F32(1), largest).astype(F32)


def integers(top: int) -> Change:
    """Return what quantizes to integers up to a largest one."""

    def change(v: Array) -> Array:
        d = amax(v) / F32(top)
        return np.rint(v / d) * d

    return change


def with_zero_point(v: Array) -> Array:
    """Quantize to 4 bits from the smallest to the largest element, by the product with the inverse."""
    low, high = v.min(axis=2, keepdims=True), v.max(axis=2, keepdims=True)
    d = ((high - low) / F32(15)).astype(F32)
    q = np.trunc((v - low) * np.where(d == 0, F32(0), F32(1) / np.maximum(d, F32(1e-30))) + F32(0.5))
    return np.asarray(q * d.astype(F16).astype(F32) + low.astype(F16).astype(F32))


def e4m3(v: Array) -> Array:
    """Round to the nearest number of e4m3."""
    return np.asarray(np.clip(v, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(F32))


def unevenly(v: Array) -> Array:
    """Round to 7 numbers that no format has."""
    numbers, largest = np.array([-1, -0.41, -0.1533, 0, 0.1533, 0.41, 1]), amax(v)
    return np.asarray(numbers[np.abs((v / largest)[..., np.newaxis] - numbers).argmin(axis=-1)] * largest)


def kept(v: Array) -> Array:
    """Change nothing."""
    return v


def specified(x: Array) -> Array:
    """Quantize activations as specified: 1 / d is 127 / amax, and the scale a half."""
    blocks = x.reshape(len(x), -1, 32)
    largest = amax(blocks)
    v = (blocks * (F32(127) / largest)).astype(F32)
    q = np.trunc(v) + np.copysign(np.abs(v - np.trunc(v)) >= 0.5, v)
    return (q * (largest / F32(127)).astype(F16).astype(F32)).reshape(x.shape)


class Changed:
    """A product of changed elements, whose blocks are added in double: right but for the last rounding."""

    weights: Change = staticmethod(kept)
    activations: Change = staticmethod(specified)

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply."""
        blocks = w[: m * k // 32 * 34].reshape(m, -1, 34)
        scale = np.ascontiguousarray(blocks[..., :2]).view(F16)[..., 0].astype(F32)
        floats = self.of_codes(scale, blocks[..., 2:].view(np.int8).astype(F32)).reshape(m, k)
        given = self.activations(x[: n * k].reshape(n, k))
        out[: m * n] = (given.astype(float) @ self.weights(floats).astype(float).T).reshape(-1)

    def of_codes(self, scale: Array, codes: Array) -> Array:
        """Return the weights of codes [m, nb, 32] under scales [m, nb]."""
        return scale[..., np.newaxis] * codes


def changing(weights: Change = kept, activations: Change = specified) -> type[Changed]:
    """Return a product that changes weights and activations."""
    return type(
        "Case", (Changed,), {"weights": staticmethod(weights), "activations": staticmethod(activations)}
    )


class Offset(Changed):
    """A product that takes codes for unsigned ones."""

    def of_codes(self, scale: Array, codes: Array) -> Array:
        """Add 128 to every code."""
        return np.asarray(scale[..., np.newaxis] * (codes + 128))


class HighBits(Changed):
    """A product of the high four bits of codes."""

    def of_codes(self, scale: Array, codes: Array) -> Array:
        """Drop the low bits."""
        return np.asarray(scale[..., np.newaxis] * (np.floor(codes / 16) * 16))


class SharedScales(Changed):
    """A product that takes the first scale of every four."""

    def of_codes(self, scale: Array, codes: Array) -> Array:
        """Repeat scales."""
        first = np.repeat(scale[:, ::4], 4, axis=1)[:, : scale.shape[1]]
        return first[..., np.newaxis] * codes


@pytest.mark.parametrize(
    ("product", "names"),
    [
        (changing(groups(16, integers(127))), "recipe:design weights:int8-per-16"),
        (changing(groups(128, integers(127)), kept), "activations:float32 weights:int8-per-128"),
        (changing(groups(48, integers(7))), "recipe:design weights:int4-per-48"),
        (changing(groups(0, integers(7))), "recipe:design weights:int4-per-row"),
        (changing(groups(32, with_zero_point)), "recipe:design weights:int4-per-32-zero-point"),
        (changing(groups(32, unevenly)), "recipe:design weights:7-levels-per-32"),
        (changing(e4m3, e4m3), "activations:e4m3 weights:e4m3"),
        (
            changing(activations=groups(-1, lambda v: e4m3(v / amax(v) * 448) * amax(v) / 448)),
            "activations:e4m3-per-matrix",
        ),
        (changing(activations=groups(16, integers(127))), "activations:int8-per-16"),
        (Offset, "recipe:design weights:zero-point"),
        (HighBits, "recipe:design weights:16-levels"),
        (SharedScales, "recipe:design weights:scale-per-128"),
    ],
)
def test_numbers(product: type[Changed], names: str) -> None:
    """Numbers and groups are named, and every random result is the sum of the numbers that were found."""
    (regime,) = reveal_product(InProcessSession(product, (MUL_MAT,)), BRIEF).regimes
    assert regime.names == tuple(names.split())
    assert regime.of
    assert not regime.unexplained
    assert "are these sums, but for their roundings" in "\n".join(regime.lines())
    document = json.loads(json.dumps(regime.to_json(), allow_nan=False))
    assert (document["weights"] is None) == ("weights" not in names)


def test_facts() -> None:
    """Weights under scales of another group are the first cause, with a call that shows them."""
    product = changing(groups(16, integers(127)))
    failed = []
    for m, n, k in ((3, 1, 64), (9, 5, 96), (2, 3, 1024)):
        call = calls.mul_mat(shapes.weights(m, k, "grids"), shapes.activations(n, k, "grids"))
        failed.append(Failure(call, replay(product(), call), replay(catalogue.make(), call)))
    session = InProcessSession(product, (MUL_MAT,))
    (fact,) = product_facts(session, failed, reveal_product(session, BRIEF))
    assert (fact.slug, fact.rule) == ("weights:int8-per-16", "Q8A8-MUL-5")
    assert fact.explained(failed) == failed
    assert "quantized to integers of 8 bits, with a scale for 16 elements" in fact.sentence
    (evidence,) = fact.evidence
    # 37 is the multiple 117 of 40/127, rounded: 36.85.
    assert evidence.text == "127 * 37, beside a weight of 40, is 4680, expected 4699"
