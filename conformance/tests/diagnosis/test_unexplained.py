"""Results that nothing explains are reported as unexplained, with the smallest input on which they appear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.abi import Reference
from q8a8_conformance.diagnosis import Observations, diagnose, shrink
from q8a8_conformance.diagnosis.facts import Fact
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults.catalogue import make
from q8a8_conformance.faults.kernel import ACTIVATION, DEQUANTIZE, DOT, ROW
from q8a8_conformance.inputs import calls as requests
from q8a8_conformance.inputs import dot_rows, mul_mat_rows, samples
from q8a8_conformance.results.observations import Death

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from q8a8_conformance.diagnosis import Finding
    from q8a8_conformance.results.observations import Failure

    Diagnose = Callable[[object, Iterable[str]], list[Finding]]

Array = NDArray[Any]


class Odd(Reference):
    """A kernel with mistakes that are in no catalogue."""

    def quantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Quantize; where the element at place 5 is negative, code 9 is off by three."""
        super().quantize_row_q8_a8(x, y, k)
        blocks = layout.as_blocks(y[: k // 32 * 34])
        codes = blocks["weight_qs"]
        codes[x[:k].reshape(-1, 32)[:, 5] < 0, 9] ^= 3

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Multiply; where a code of x at place 11 is above 40, the result is a third too large."""
        super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, vx, bx, vy, by, nrc)
        if n and (layout.as_blocks(vx[: n // 32 * 34])["weight_qs"][:, 11] > 40).any():
            s[0] *= np.float32(4 / 3)


class OddTie(Reference):
    """A kernel that rounds one product otherwise: 62.5 down."""

    def quantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Quantize; where x * inv is 62.5, the code is 62."""
        super().quantize_row_q8_a8(x, y, k)
        blocks = x[:k].reshape(-1, 32)
        amax = np.abs(blocks).max(axis=1, keepdims=True, initial=0)
        inverse = np.divide(np.float32(127), amax, out=np.zeros_like(amax), where=amax > 0)
        codes = layout.as_blocks(y[: k // 32 * 34])["weight_qs"]
        codes[blocks * inverse == np.float32(62.5)] = 62


def test_a_quantizer_is_measured(diagnosed: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no mistake of the catalogue explains is measured, where the time suffices."""
    (finding,) = diagnosed(OddTie(), [ROW])
    assert (finding.cause, finding.fact, finding.rule) == (
        "code-of-one-value",
        "code-of-one-value",
        "Q8A8-QNT-4",
    )
    assert "magnitude 62.5" in finding.sentence
    assert finding.explained == finding.of > 0
    for name in ("FACT_SECONDS", "LEAST_SECONDS"):
        monkeypatch.setattr(f"q8a8_conformance.diagnosis.limits.{name}", -1.0)
    (finding,) = diagnosed(OddTie(), [ROW])
    assert (finding.cause, finding.explained) == ("unexplained", 0)


def test_failed_calls_alone_are_measured() -> None:
    """A quantizer whose calls failed in checks that keep no rows is measured as any other."""
    wrong, seen = make("round-half-even"), Observations()
    call = requests.quantize(ROW, np.resize(np.array([127, 0.5, 2.5, -4.5], np.float32), 64))
    actual, expected = ({"y": replay(kernel, call)[0]} for kernel in (wrong, Reference()))
    seen.add_failure(call, actual, expected)
    (finding,) = diagnose(seen, lambda *_: None, probe=lambda one: replay(wrong, one))
    assert finding.cause == "round-half-even"


def test_unexplained_quantizer(diagnosed: Diagnose) -> None:
    """Nothing explains it, not a single result; the smallest input is one block with one element."""
    (finding,) = diagnosed(Odd(), [ROW])
    assert (finding.cause, finding.explained, finding.fix) == ("unexplained", 0, "")
    assert finding.of > 0
    assert finding.smallest is not None
    x = np.frombuffer(finding.smallest.call.inputs["x"], "<f4")
    assert x.size == 32
    assert np.flatnonzero(x).tolist() == [5]
    assert x[5] == -1
    assert finding.smallest.call.expected != finding.smallest.call.actual
    assert "[5] = -1" in finding.smallest.text


def test_a_fact_that_fits_by_chance_is_none(diagnosed: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    """What explains one of hundreds of wrong results, and nothing explains the others, is not said."""

    def facts(_session: object, failures: Sequence[Failure], **_: object) -> list[Fact]:
        one = min(failures, key=lambda failure: failure.call.n)
        what: tuple[Any, ...] = ("round-floor", {}, "Q8A8-QNT-4", "All are rounded down.", "Round.", "")
        return [Fact(*what, function=ROW, explains=lambda result: result.call is one.call)]

    monkeypatch.setattr("q8a8_conformance.diagnosis.quantizer_facts", facts)
    (finding,) = diagnosed(Odd(), [ROW])
    assert finding.cause == "unexplained"
    assert finding.of > 100


def test_what_is_wrong_of_rows_without_elements_fits_by_no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fact about products of no blocks is said, though other products have hundreds of wrong results."""

    def facts(_session: object, failures: Sequence[Failure], **_: object) -> list[Fact]:
        assert sum(not one.call.n for one in failures) == 1
        what: tuple[Any, ...] = ("empty-not-written", {}, "Q8A8-MUL-7", "Nothing is written.", "Write.", "")
        return [Fact(*what, function=requests.MUL_MAT, explains=lambda result: not result.call.n)]

    observations = Observations()
    for shape, value in (((1, 1, 0), 1.0), ((30, 30, 1), 2.0), ((30, 30, 2), 3.0)):
        call = requests.mul_mat(*mul_mat_rows.exact(*shape))
        right = replay(make(), call)
        wrong = np.full(len(right[0]) // 4, value, "<f4").tobytes()
        observations.add_failure(call, {"out": wrong}, {"out": right[0]})
    monkeypatch.setattr("q8a8_conformance.diagnosis.facts_of_products", facts)
    first, second = diagnose(observations, lambda *_: None, probe=lambda call: replay(make(), call))
    assert (first.fact, first.explained, second.cause) == ("empty-not-written", 1, "unexplained")


def test_unexplained_dot(diagnosed: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a dot product: one block, one code each, scales of 1."""
    monkeypatch.setattr("q8a8_conformance.protocol.deadline.slowness", 0.1)  # They find nothing anyhow.
    found = [f for f in diagnosed(Odd(), [DOT]) if f.cause == "unexplained"]
    assert found
    smallest = found[0].smallest
    assert smallest is not None
    x, y = (layout.as_blocks(np.frombuffer(smallest.call.inputs[name], np.uint8)) for name in ("vx", "vy"))
    assert len(x) == len(y) == 1
    assert np.flatnonzero(x["weight_qs"][0]).tolist() == [11]
    assert (x["weight_scale"][0], y["weight_scale"][0]) == (1, 1)


@pytest.mark.parametrize("function", [ROW, ACTIVATION, DEQUANTIZE, DOT])
def test_right_calls_are_not_wrong(function: str) -> None:
    """The judgement that shrinking goes by finds nothing wrong with the specification's own results."""
    for count in (1, 3, 8):
        call = samples.sample(function, count)
        assert not shrink.wrong(call, replay(Reference(), call))
        assert not shrink.wrong(call, replay(Reference(order="avx2"), call))


def test_calls_are_put_together_again() -> None:
    """Taking a call apart and putting it together gives its inputs, for one row and for two."""
    x, y = dot_rows.random_pair(3, seed=1)
    calls = [samples.sample(f, 3) for f in (ROW, ACTIVATION, DEQUANTIZE, DOT, requests.DOT_REAL)]
    calls.append(requests.dot_pair(np.stack([x, y]), np.stack([y, x]), bs=2))
    for call in calls:
        assert requests.inputs_of(shrink.Inputs.of(call).call()) == requests.inputs_of(call)


def test_a_crash_is_shrunk() -> None:
    """A call that dies is made as small as it can be and still die."""
    asked = []

    def probe(call: Any) -> tuple[bytes, ...] | None:  # noqa: ANN401 - a call
        asked.append(call)
        return None if call.n >= 3 * 32 else replay(Reference(), call)

    smallest = shrink.smallest(requests.quantize(ROW, samples.floats(50 * 32)), probe, dies=True, seconds=5)
    assert smallest.n == 3 * 32
    assert not any(requests.inputs_of(smallest)["x"])
    assert len(asked) < 100


def test_a_failure_that_does_not_come_back() -> None:
    """Where the kernel is right the second time, the call stays as it is."""
    call = samples.sample(ROW, 3)
    assert shrink.smallest(call, lambda again: replay(Reference(), again)) is call


def test_shrinking_is_bounded() -> None:
    """However stubborn the failure, the number of calls is limited."""
    asked = []

    def probe(call: Any) -> tuple[bytes, ...] | None:  # noqa: ANN401 - a call
        asked.append(call)
        return None

    shrink.smallest(requests.quantize(ROW, samples.floats(400 * 32)), probe, dies=True, seconds=60)
    assert len(asked) <= shrink.CALLS


def test_a_crash_is_reported_with_its_smallest_call() -> None:
    """A call that died is a finding of its own, shrunk; one that hung is not made again."""

    def probe(call: Any) -> tuple[bytes, ...] | None:  # noqa: ANN401 - a call
        return None if call.n >= 3 * 32 else replay(Reference(), call)

    seen = Observations()
    seen.add_death(requests.quantize(ROW, samples.floats(9 * 32)), 0.01)
    (finding,) = diagnose(seen, lambda *_: None, probe=probe)
    assert (finding.cause, finding.of) == ("does-not-return", 1)
    assert finding.smallest is not None
    assert finding.smallest.call.args == {"k": 96}
    assert finding.smallest.call.actual == {}
    seen.deaths[ROW] = [Death(requests.quantize(ROW, samples.floats(9 * 32)), 10.0)]
    (finding,) = diagnose(seen, lambda *_: None, probe=probe)
    assert finding.smallest is not None
    assert finding.smallest.call.args == {"k": 288}
