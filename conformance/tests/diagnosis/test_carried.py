"""What a call takes over from the one before it is found: a result, fields of blocks, an amax."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.recipe import RECIPES, apply_recipe
from q8a8_conformance.diagnosis.dots.carried import of_call_before, terms_of_call_before
from q8a8_conformance.diagnosis.dots.history import of_history
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults.catalogue import make
from q8a8_conformance.inputs import calls
from q8a8_conformance.inputs.calls import ACTIVATION, DEQUANTIZE, DOT, DOT_REAL, QUANTIZERS
from q8a8_conformance.inputs.samples import call_of
from q8a8_conformance.results.observations import Failure
from q8a8_conformance.reveal.quantizers.calls import as_outputs, blocks_of, elements_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.protocol.messages import Call

    Kernel = Callable[[Call, Call | None], tuple[bytes, ...]]


def _probe(kernel: Kernel) -> Callable[[Call], tuple[bytes, ...]]:
    """Return what makes calls of a kernel that sees the call before, too."""
    kept: list[Call] = []

    def probe(call: Call) -> tuple[bytes, ...]:
        before = kept.pop() if kept else None
        kept.append(call)
        return kernel(call, before)

    return probe


def _with_amax(call: Call, amax: float, blocks: slice, *, begins: bool) -> tuple[bytes, ...]:
    """Quantize with another amax in some blocks, or with one that begins with it."""
    x = elements_of(call).reshape(*((1, -1) if call.function == ACTIVATION else (-1, 32)))
    own = np.abs(x).max(axis=1)
    own[blocks] = np.maximum(own[blocks], amax) if begins else amax
    scaled = np.concatenate([np.clip(x, -own[:, None], own[:, None]), own[:, None]], axis=1)
    h, q, _ = apply_recipe(scaled.astype(np.float32), RECIPES["design"])
    return as_outputs(call.function, blocks_of(h, np.ascontiguousarray(q[:, :-1])))


def _amax_kernel(*, begins: bool, blocks: slice = slice(0, 1), source: int = -1) -> Kernel:
    def kernel(call: Call, before: Call | None) -> tuple[bytes, ...]:
        rows = elements_of(before).reshape(-1, 32) if before and before.n else np.zeros((1, 32), np.float32)
        return _with_amax(call, float(np.abs(rows[source]).max()), blocks, begins=begins)

    return kernel


@pytest.mark.parametrize("begins", [True, False])
def test_amax_of_a_row(begins: bool) -> None:
    """The amax of the first block begins with, or is, that of the last block of the call before."""
    found = of_call_before(QUANTIZERS[0], _probe(_amax_kernel(begins=begins)))
    assert found is not None
    where, words = found
    assert where == {
        "carries": "amax",
        "blocks": "the first block",
        "source": "the last block",
        "begins": begins,
    }
    verb = "begins with" if begins else "is"
    assert words == f"the amax of the first block {verb} that of the last block of the call before"


def test_amax_of_a_vector() -> None:
    """An activation vector has the amax of the one before."""

    def kernel(call: Call, before: Call | None) -> tuple[bytes, ...]:
        amax = float(np.abs(elements_of(before)).max()) if before else 0.0
        return _with_amax(call, amax, slice(None), begins=True)

    found = of_call_before(ACTIVATION, _probe(kernel))
    assert found is not None
    assert found[1] == "the amax of the vector begins with that of the vector of the call before"


@pytest.mark.parametrize("function", [DOT, DOT_REAL])
def test_sum(function: str) -> None:
    """The sum is not reset: it begins with the result of the call before."""
    sums = [np.float32(0)]

    def kernel(call: Call, _before: Call | None) -> tuple[bytes, ...]:
        result = np.frombuffer(replay(make(), call)[0], "<f4")[0]
        last = np.float32(sums[0] if call.n and any(calls.inputs_of(call)["vx"]) else 0)
        sums[0] = result
        return (np.float32(last + result).tobytes(),)

    assert of_call_before(function, _probe(kernel)) == (
        {"carries": "sum"},
        "the sum begins with the result of the call before",
    )


@pytest.mark.parametrize(
    ("function", "buffer", "part", "blocks", "words"),
    [
        (DEQUANTIZE, "x", slice(0, 2), (0,), "the scale of the first block is that of the call before"),
        (DOT, "vy", slice(2, 34), (2,), "y's codes of the last block are those of the call before"),
        (
            DOT_REAL,
            "vy",
            slice(2, 36),
            (0, 1, 2),
            "y's scale and y's codes of each of the first 3 blocks are those of the call before",
        ),
    ],
)
def test_fields(function: str, buffer: str, part: slice, blocks: tuple[int, ...], words: str) -> None:
    """Fields of some blocks are those of the call before."""

    def kernel(call: Call, before: Call | None) -> tuple[bytes, ...]:
        inputs = {name: bytearray(data) for name, data in calls.inputs_of(call).items()}
        size = 36 if function == DOT_REAL else 34
        for b in blocks if before and before.n == call.n else ():
            at = slice(b * size + part.start, b * size + part.stop)
            inputs[buffer][at] = calls.inputs_of(before)[buffer][at] if before else b""
        made = calls.build(function, call.n, {name: bytes(data) for name, data in inputs.items()})
        return replay(make(), made)

    found = of_call_before(function, _probe(kernel))
    assert found is not None
    assert found[1] == f"{words}, where that is one of the same length"


def test_kept_by_address() -> None:
    """A vector at the same address as the one before, and as long, is given that one's amax."""
    kept: dict[tuple[int, int], float] = {}

    def kernel(call: Call, _before: Call | None) -> tuple[bytes, ...]:
        at = call.buffers[0].offset, call.n
        if at not in kept:
            kept.clear()
            kept[at] = float(np.abs(elements_of(call)).max())
        return _with_amax(call, kept[at], slice(None), begins=False)

    found = of_call_before(ACTIVATION, _probe(kernel))
    assert found is not None
    assert found[0]["same"] == ["at the same addresses", "of the same length"]
    assert found[1].endswith(", where that is one at the same addresses and of the same length")


def test_what_is_not_found() -> None:
    """A right kernel takes nothing over; what no input explains has no name; a call that does not return."""
    assert of_call_before(QUANTIZERS[0], _probe(lambda call, _: replay(make(), call))) is None
    assert of_call_before(DEQUANTIZE, lambda call: (bytes(4 * call.n),)) is None
    assert of_call_before(DOT, lambda _: None) is None
    assert of_call_before(calls.MUL_MAT, lambda _: None) is None


@pytest.mark.parametrize(("function", "nrc"), [(DOT, 1), (DOT, 2), (DOT_REAL, 1)])
def test_terms_of_lanes(function: str, nrc: int) -> None:
    """Sums by lanes that a short row does not write are those of an earlier call."""
    kept = np.zeros(4, np.float32)

    def kernel(call: Call, _before: Call | None) -> tuple[bytes, ...]:
        for lane in range(min(call.n // 32, 4)):
            inputs = {name: bytearray(data) for name, data in calls.inputs_of(call).items()}
            size, nb = len(inputs["vx"]) // (nrc * call.n // 32), call.n // 32
            for b in (b for b in range(nb) if b % 4 != lane):
                inputs["vx"][b * size : b * size + size] = bytes(size)
            one = {name: bytes(data[: nb * size]) for name, data in inputs.items()}
            kept[lane] = np.frombuffer(replay(make(), calls.build(function, call.n, one))[0], "<f4")[0]
        return (np.full(nrc * nrc, kept.sum(), np.float32).tobytes(),)

    found = terms_of_call_before(function, nrc, _probe(kernel))
    assert found is not None
    words = "where nb <= 3, terms of an earlier call are added, those of its blocks b with b % 4 >= nb"
    assert found[1] == words
    assert terms_of_call_before(function, nrc, _probe(lambda call, _: replay(make(), call))) is None


def test_history_of_a_quantizer() -> None:
    """A condition about calls before says what is taken over."""
    probe = _probe(_amax_kernel(begins=True))
    call = call_of(QUANTIZERS[0], 2)
    right = replay(make(), call)
    wrong = _with_amax(call, 64.0, slice(0, 1), begins=True)
    condition = of_history([Failure(call, wrong, right)], probe, None)
    assert condition is not None
    assert (
        condition.words == "the amax of the first block begins with that of the last block of the call before"
    )
