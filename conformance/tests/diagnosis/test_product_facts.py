"""Facts about matrix products: the arithmetic, its shapes, and the failed calls that it explains."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8_conformance.diagnosis.facts import Fact
from q8a8_conformance.diagnosis.products.facts import product_facts, product_orders
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults import catalogue
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import calls
from q8a8_conformance.results.observations import CallResult, Failure
from q8a8_conformance.reveal.products import shapes

Array = NDArray[Any]


def failures(slug: str) -> list[Failure]:
    """Return failed calls of a kernel of the catalogue, with results past 65504 among them."""
    found = []
    for m, n, k, large in ((3, 1, 64, 1), (17, 11, 96, 1), (2, 3, 32, 5e4), (3, 1, 32, 0)):
        x = shapes.activations(n, k, "facts") * np.float32(large)
        x[:, 0], x[:, 1] = (127, 40.5) if not large else x[0, :2]
        call = calls.mul_mat(shapes.weights(m, k, "facts"), x)
        outputs, expected = replay(catalogue.make(slug), call), replay(catalogue.make(), call)
        if outputs != expected:
            found.append(Failure(call, outputs, expected))
    return found


class Device:
    """A device of floats, and for three rows of x of halves; for more, the scale is multiplied first."""

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply."""
        blocks = w[: m * k // 32 * 34].reshape(m, -1, 34)
        scale = np.ascontiguousarray(blocks[..., :2]).view(np.float16)
        codes, rows = blocks[..., 2:].view(np.int8), x[: n * k].reshape(n, 1, -1, 32)
        kind = np.float16 if n == 3 else np.float32
        weights = (codes * scale.astype(np.float32)).astype(kind)
        with np.errstate(all="ignore"):
            terms = (weights * rows.astype(kind)).reshape(n, m, k)
            total = np.zeros((n, m), kind)
            for term in np.moveaxis(terms[..., :: -1 if n > 3 else 1], -1, 0):
                total = total + term
        out[: m * n] = total.reshape(-1)


def test_orders_of_a_right_product() -> None:
    """Where a product conforms in an order that no catalogue has, or in several, they are named by shape."""

    def orders(slug: str) -> list[tuple[str, str, int]]:
        return product_orders(InProcessSession(lambda: catalogue.make(slug), (calls.MUL_MAT,)))

    (alone, where, of), (many, _, _) = orders("matrix-one-row-otherwise")
    assert (alone, many) == ("order:revealed", "scalar")
    assert where.startswith("every row of x where n = 1: ")
    assert ", from the last to the first, 1 sum, " in where
    assert of
    assert orders("matrix-neighbour") == []


class OddOutputs:
    """A product that rounds halves to even; outputs in odd rows and odd columns are three times as large."""

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply."""
        catalogue.make("matrix-rounds-even").mul_mat_q8_a8(m, n, k, w, x, out)
        out[: m * n].reshape(n, m)[1::2, 1::2] *= 3


def test_a_recipe_beside_outputs_that_are_wrong_otherwise() -> None:
    """Activations and single outputs that are wrong in one call explain it together."""

    def odd(result: Failure) -> Array:
        m, n = result.call.bs, result.call.bx
        return np.asarray(np.logical_and.outer(np.arange(n) % 2 == 1, np.arange(m) % 2 == 1))

    x = shapes.activations(4, 64, "beside").copy()
    x[:, 0], x[:, 1] = 127, 40.5
    call = calls.mul_mat(shapes.weights(4, 64, "beside"), x)
    failed = [Failure(call, replay(OddOutputs(), call), replay(catalogue.make(), call))]
    known = Fact(
        "outputs-added", {}, "Q8A8-MUL-6", "Odd outputs.", "", "", function=calls.MUL_MAT, outputs=odd
    )
    session = InProcessSession(OddOutputs, (calls.MUL_MAT,))
    (fact,) = product_facts(session, failed, known=[known])
    assert fact.slug == "recipe:ggml-avx2"
    assert "row" not in fact.sentence
    assert fact.explained(failed) == failed
    assert product_facts(session, failed) == []


def test_facts_of_several_shapes() -> None:
    """What holds in several shapes is one fact; a call outside the domain is explained by none."""
    kernel, failed = Device(), []
    for n, value in ((1, 1.3), (3, 1.3), (7, 1.3), (1, np.nan)):
        x = np.full((n, 64), value, np.float32)
        x[:, 5] = 9.7
        call = calls.mul_mat(shapes.weights(4, 64, "device"), x)
        expected = replay(catalogue.make(), call)
        failed.append(Failure(call, replay(kernel, call), expected))
    facts = product_facts(InProcessSession(Device, (calls.MUL_MAT,)), failed)
    kept, half, *sums = facts
    assert (kept.slug, half.slug) == ("activations:float32", "activations:float16")
    assert [fact.slug for fact in sums] == ["accumulator:float16", "weights:float16"]
    first, _ = kept.where["shapes"]
    assert first["text"] == "every row of x where n <= 2"
    assert kept.explained(failed) == [failed[0], failed[2]]
    assert [failed.index(one) for one in half.explained(failed)] == [1]
    assert not half.explained([CallResult(failed[1].call, failed[1].outputs)])
    assert "past 65504 they are infinite" in sums[0].sentence


@pytest.mark.parametrize(
    ("slug", "cause", "rule", "explained"),
    [
        ("matrix-float-activations", "activations:float32", "Q8A8-MUL-4", 4),
        ("matrix-scale-of-row", "activations:int8-per-row", "Q8A8-MUL-4", 2),
        ("matrix-half-sum", "accumulator:float16", "Q8A8-MUL-5", 4),
        ("matrix-half-scales", "fp16-scale-product", "Q8A8-MUL-5", 3),
        ("matrix-columns-lost", "not-written", "Q8A8-MUL-6", 1),
        ("matrix-rounds-even", "recipe:ggml-avx2", "Q8A8-MUL-4", 1),
        ("matrix-neighbour", "", "", 0),
    ],
)
def test_facts(slug: str, cause: str, rule: str, explained: int) -> None:
    """The arithmetic of a wrong product is its cause, with evidence, and explains the failed calls."""
    failed = failures(slug)
    session = InProcessSession(lambda: catalogue.make(slug), (calls.MUL_MAT,))
    facts = product_facts(session, failed)
    assert [fact.slug for fact in facts][:1] == ([cause] if explained else [])
    for fact in facts[:1]:
        assert (fact.rule, len(fact.explained(failed))) == (rule, explained)
        assert fact.fix
        nan = calls.mul_mat(shapes.weights(1, 32), np.full((1, 32), np.nan, np.float32))
        assert not fact.explained([Failure(nan, (bytes(4),), (b"\1\0\0\0",))])
        assert fact.where["shapes"]
        json.dumps(fact.to_json(), allow_nan=False)
        for evidence in fact.evidence:
            assert evidence.actual != evidence.expected
