"""The test for a bias: legal kernels never have one, kernels that round another way always do."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8 import BLOCK_Q8_A8, ORDERS, as_blocks, block_sums, exact_dot, vec_dot
from q8a8.bound import magnitude
from q8a8_conformance import report
from q8a8_conformance.cli import main
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.results import bias
from q8a8_conformance.results.run import Request, Run
from q8a8_conformance.results.verdict import judge as judge_records
from q8a8_conformance.suite import bias_rows, test_bias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.suite.bias_rows import Sample
    from q8a8_conformance.suite.judge import Judge

    Judged = Callable[[Callable[[Call], bytes], Callable[[Judge], None]], Any]
    Rounding = Callable[[int], int]
    Array = NDArray[Any]

pytestmark = pytest.mark.rule("Q8A8-ORD-2")

UNIT = 1 << 48
SAMPLES = {kind: bias_rows.samples(kind) for kind in bias_rows.KINDS}


def chopped(units: int) -> int:
    """Cut an integer to 24 significant bits, toward zero."""
    spare = max(abs(units).bit_length() - 24, 0)
    kept = abs(units) >> spare << spare
    return -kept if units < 0 else kept


def floored(units: int) -> int:
    """Cut an integer to 24 significant bits, downward."""
    spare = max(abs(units).bit_length() - 24, 0)
    return units >> spare << spare


def nearest(units: int) -> int:
    """Round an integer to 24 significant bits, ties to even."""
    spare = max(abs(units).bit_length() - 24, 0)
    kept = round(Fraction(abs(units), 1 << spare)) << spare
    return -kept if units < 0 else kept


def summed(x: Array, y: Array, product: Rounding, total: Rounding, factor: Fraction = Fraction(1)) -> float:
    """Add a dot product in the scalar order with other roundings, in integers of 2^-48; scale it last."""
    scales = [
        int(float(a) * 2**24) * int(float(b) * 2**24)
        for a, b in zip(x["weight_scale"], y["weight_scale"], strict=True)
    ]
    result = 0
    for d, s in zip(scales, block_sums(x, y).tolist(), strict=True):
        result = total(result + product(d * s))
    return math.ldexp(nearest(int(result * factor)), -48)


def deviations(samples: Sequence[Sample], results: list[float]) -> list[bias.Deviation]:
    """Compare results with the exact ones."""
    return [
        bias.Deviation(Fraction(r) - s.product.exact, s.product.magnitude, s.product.bound, s.sign)
        for s, r in zip(samples, results, strict=True)
    ]


def in_order(samples: Sequence[Sample], name: str) -> list[float]:
    """Compute all dot products in one order, the rows of one length at a time."""
    results: list[float] = []
    for nb in dict.fromkeys(s.x.size for s in samples):
        group = [s for s in samples if s.x.size == nb]
        results += vec_dot(np.stack([s.x for s in group]), np.stack([s.y for s in group]), name).tolist()
    return results


LEGAL: dict[str, Callable[[Array, Array], float]] = {
    "double": lambda x, y: float(np.float32(float(exact_dot(x, y)))),
    "backwards": lambda x, y: float(vec_dot(x[::-1], y[::-1])),
    "backwards-fused": lambda x, y: float(vec_dot(x[::-1], y[::-1], "avx2")),
    "scales-one-by-one": lambda x, y: float(
        np.cumsum(
            block_sums(x, y).astype(np.float32) * x["weight_scale"] * y["weight_scale"], dtype=np.float32
        )[-1]
    ),
}

MIS_ROUNDED: dict[str, tuple[Rounding, Rounding, Fraction, str]] = {
    "truncated": (chopped, chopped, Fraction(1), "bias:toward-zero"),
    "truncated-sums": (nearest, chopped, Fraction(1), "bias:toward-zero"),
    "truncated-products": (chopped, nearest, Fraction(1), "bias:toward-zero"),
    "downward": (floored, floored, Fraction(1), "bias:down"),
    "upward": (lambda n: -floored(-n), lambda n: -floored(-n), Fraction(1), "bias:up"),
    "scale-too-large": (nearest, nearest, 1 + Fraction(3, 1 << 24), "bias:away-from-zero"),
    "scale-too-small": (nearest, nearest, 1 - Fraction(3, 1 << 24), "bias:toward-zero"),
}  # fmt: skip


@pytest.mark.parametrize("kind", bias_rows.KINDS)
@pytest.mark.parametrize("name", sorted(ORDERS))
def test_no_order_is_flagged(name: str, kind: str) -> None:
    """Every order of the catalogue, on the rows of the suite: no bias, and |t| stays below 4."""
    found = deviations(SAMPLES[kind], in_order(SAMPLES[kind], name))
    assert bias.find_biases("f", "case", found) == ()
    for weights in ([1] * len(found), [d.sign for d in found]):
        shares = [w * float(d.error / d.magnitude) for w, d in zip(weights, found, strict=True)]
        assert abs(bias.statistic(shares)) < 4


@pytest.mark.parametrize("kind", bias_rows.KINDS)
def test_no_order_is_flagged_on_other_rows(kind: str) -> None:
    """Three further sets of random rows in every order: the largest of 150 values of t is far from 6."""
    largest = 0.0
    for key in range(3):
        samples = bias_rows.samples(kind, key)
        for name in ORDERS:
            found = deviations(samples, in_order(samples, name))
            for weights in ([1] * len(found), [d.sign for d in found]):
                shares = [w * float(d.error / d.magnitude) for w, d in zip(weights, found, strict=True)]
                largest = max(largest, abs(bias.statistic(shares)))
    assert largest < 4.5


@pytest.mark.parametrize("kind", bias_rows.KINDS)
@pytest.mark.parametrize("name", LEGAL)
def test_other_legal_kernels_are_not_flagged(name: str, kind: str) -> None:
    """Exact sums rounded once, blocks taken backwards, a product of three factors rounded twice."""
    found = deviations(SAMPLES[kind], [LEGAL[name](s.x, s.y) for s in SAMPLES[kind]])
    assert bias.find_biases("f", "case", found) == ()


@pytest.mark.parametrize("name", MIS_ROUNDED)
def test_what_rounds_another_way_is_flagged(judged: Judged, name: str) -> None:
    """The suite's own check passes every row, and warns of a bias in the right direction, with its size."""
    product, total, factor, slug = MIS_ROUNDED[name]

    def kernel(call: Call) -> bytes:
        x, y = (as_blocks(call.buffers[i].data, BLOCK_Q8_A8) for i in (1, 2))
        return np.float32(summed(x, y, product, total, factor)).tobytes()

    run = judged(kernel, lambda judge: test_bias.test_dot(judge, "plain"))
    assert run.failed == ()
    assert [warning.slug for warning in run.target.warnings] == [slug]
    (warning,) = run.target.warnings
    assert warning.results >= 1000
    assert warning.statistic > 12
    assert 0.1 < abs(warning.size) < 8
    assert 0 < abs(warning.of_bound) < 0.1
    assert f"{abs(warning.size):.2g} u" in warning.message
    if name != "truncated-products":
        run = judged(kernel, lambda judge: test_bias.test_dot(judge, "anchored"))
        assert [warning.slug for warning in run.target.warnings] == [slug]


def test_the_size_of_a_known_bias(judged: Judged) -> None:
    """A scale that is 3 u too large moves results by 3 u of their size, which here is the magnitude."""

    def kernel(call: Call) -> bytes:
        x, y = (as_blocks(call.buffers[i].data, BLOCK_Q8_A8) for i in (1, 2))
        return np.float32(summed(x, y, nearest, nearest, 1 + Fraction(3, 1 << 24))).tobytes()

    (warning,) = judged(kernel, lambda judge: test_bias.test_dot(judge, "plain")).target.warnings
    # The end result is rounded once more: 3 u of a float are 1.5 to 3 units in its last place.
    assert 2.7 < warning.size < 3.3


def test_a_result_outside_of_the_bound_is_a_failure_and_no_bias(judged: Judged) -> None:
    """A bias is a warning about results that pass; where some fail, only the failures are reported."""
    run = judged(lambda _: bytes(4), lambda judge: test_bias.test_dot(judge, "plain"))
    assert run.failed
    assert run.target.warnings == []


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_anchors_turn_every_error_round(name: str) -> None:
    """The proof, at work: with the opposite signs of the ordinary blocks each error is the opposite one."""
    rng = np.random.default_rng(3)
    for nb in bias_rows.LENGTHS:
        pairs = bias_rows.anchored_pairs(nb, 20, rng)
        x, y = pairs[:, 0], pairs[:, 1]
        turned = y.copy()
        turned["weight_scale"][:, bias_rows.ANCHORS :] *= -1
        errors = [
            [
                Fraction(r) - exact_dot(a, b)
                for r, a, b in zip(vec_dot(x, side, name).tolist(), x, side, strict=True)
            ]
            for side in (y, turned)
        ]
        assert [a + b for a, b in zip(*errors, strict=True)] == [0] * 20
        assert sum(a != 0 for a in errors[0]) >= 15


def test_the_ordinary_blocks_are_small_beside_the_anchors() -> None:
    """The proof's condition: their magnitude is below a third of one anchor product, here and at the most."""
    third = 2**11 * int(bias_rows.ANCHOR_SCALE) ** 2
    for sample in SAMPLES["anchored"]:
        ordinary = slice(bias_rows.ANCHORS, None)
        assert magnitude(sample.x[ordinary], sample.y[ordinary]) < third
    assert max(bias_rows.LENGTHS) * 32 * 127**2 * 2.0**-8 < third
    assert bias_rows.ANCHOR_CODES[0] * bias_rows.ANCHOR_CODES[1] == 3 * 2**11


def test_the_statistic_by_hand() -> None:
    """Equal errors give the root of their number, opposite ones nothing; none at all, nothing."""
    assert bias.statistic([0.25] * 64) == 8
    assert bias.statistic([0.25, -0.25] * 50) == 0
    assert bias.statistic([0.0] * 10) == bias.statistic([]) == 0
    assert 12 * 2 * math.exp(-(bias.THRESHOLD**2) / 2) < 1e-6


def test_both_directions_are_distinguished() -> None:
    """Up is up whatever the sign of the result; away from zero is up for positive results alone."""
    one = Fraction(1)

    def slugs(errors: list[int], signs: list[int]) -> list[str]:
        found = [
            bias.Deviation(Fraction(e, 1 << 24), one, one, s) for e, s in zip(errors, signs, strict=True)
        ]
        return [warning.slug for warning in bias.find_biases("f", "case", found)]

    signs = [1, -1] * 50
    assert slugs([1] * 100, signs) == ["bias:up"]
    assert slugs([-1] * 100, signs) == ["bias:down"]
    assert slugs(signs, signs) == ["bias:away-from-zero"]
    assert slugs([-s for s in signs], signs) == ["bias:toward-zero"]
    assert slugs([1, -1, -1, 1] * 25, signs) == []


DIGEST = """
import hashlib
from q8a8_conformance.suite.bias_rows import KINDS, samples
rows = [row for kind in KINDS for sample in samples(kind) for row in (sample.x, sample.y)]
print(hashlib.sha256(b"".join(row.tobytes() for row in rows)).hexdigest())
"""


def test_rows_are_the_same_in_every_run() -> None:
    """A fresh process, with other hashes of strings, makes the same rows."""
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    rows = [row for kind in bias_rows.KINDS for s in SAMPLES[kind] for row in (s.x, s.y)]
    assert digests == {hashlib.sha256(b"".join(row.tobytes() for row in rows)).hexdigest() + "\n"}


def test_rows_leave_something_to_round() -> None:
    """There are a thousand results and more of the plain kind, and none is exact by construction."""
    assert len(SAMPLES["plain"]) >= 1000
    for samples in SAMPLES.values():
        assert not any(dot_rows.is_exact(s.x, s.y) for s in samples[-20:])


def test_the_report_has_the_margins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A real run: the reference has no bias, and how much of the bound it used is in text and JSON."""
    path = tmp_path / "report.json"
    flags = ["--case", "dot/bias/anchored", "--json", str(path)]
    assert main(["test", "ref", *flags]) == 0
    report = json.loads(path.read_text("utf-8"))
    assert report["warnings"] == []
    (use,) = report["bound"]
    assert use["function"] == "ggml_vec_dot_q8_a8_q8_a8"
    assert use["results"] == bias_rows.ANCHORED_RESULTS
    assert 0 < use["largest_fraction"] < 0.2
    assert use["worst"] == "dot/bias/anchored"
    assert "bound: at most" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["text", "json", "html", "markdown"])
def test_every_report_has_the_warnings(kind: str) -> None:
    """Function, slug and size, wherever a reader may look; the verdict is not touched."""
    (warning,) = bias.find_biases(
        "f", "dot/bias/plain", [bias.Deviation(Fraction(1), Fraction(1), Fraction(2), 1)] * 40
    )[:1]
    run = Run(Request("x"), judge_records([], []), warnings=(warning,))
    page = report.render(run, kind)
    assert "bias:up" in page
    assert warning.message in page
    if kind == "json":
        (held,) = json.loads(page)["warnings"]
        assert held["size"] == 2.0**24
        assert (held["function"], held["case"], held["results"]) == ("f", "dot/bias/plain", 40)
        assert held["of_bound"] == 0.5
