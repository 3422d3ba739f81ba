"""What a wrong result says: the rules that it cannot break, and guesses about the setup that it refutes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.mutants import make
from q8a8_conformance.results.observations import Failure, Observations
from q8a8_conformance.results.record import Record, Status
from q8a8_conformance.results.setup import Stage
from q8a8_conformance.suite.excluded import excluded
from q8a8_conformance.suite.wrong_setup import wrong_setup

if TYPE_CHECKING:
    from q8a8_conformance.protocol.messages import Call

SCALES = {"Q8A8-QNT-1", "Q8A8-QNT-2", "Q8A8-HLF-1", "Q8A8-HLF-2", "Q8A8-HLF-4"}
CODES = {"Q8A8-QNT-3", "Q8A8-QNT-4"}
QUANTIZE = "quantize_row_q8_a8"


def _failure(call: Call, slug: str) -> Failure:
    """Return what a mutant makes of a call."""
    made = Failure(call, replay(make(slug), call), replay(make(), call))
    assert made.outputs != made.expected
    return made


def _row(nb: int, scale: float = 2.0**-20) -> Call:
    return calls.dequantize(dot_rows.blocks(np.full(nb, scale), np.arange(-16, 16)[np.newaxis].repeat(nb, 0)))


def test_quantizers() -> None:
    """Right scales exclude rules about scales, right codes those about codes, one block those about rows."""
    x = np.resize([127, 0.5, 1.5, 2.5], 64).astype(np.float32)
    found = excluded(_failure(calls.quantize(QUANTIZE, x), "round-half-even"))
    assert found == {*SCALES, "Q8A8-QNT-6"}
    found = excluded(_failure(calls.quantize(QUANTIZE, x[:32] * np.float32(1.7)), "half-truncated"))
    assert {*CODES, "Q8A8-HLF-2", "Q8A8-LAY-2", "Q8A8-QNT-7"} < found
    assert not SCALES - {"Q8A8-HLF-2"} & found
    found = excluded(_failure(calls.activation(x), "round-half-even"))
    assert {*SCALES} < found
    assert not found & CODES


def test_dequantization() -> None:
    """A block with right elements has a right scale; where all are wrong, it may have a wrong one."""
    found = excluded(_failure(_row(3), "half-flushed-in-dequantize"))
    assert not found & {"Q8A8-HLF-2", "Q8A8-LAY-2", "Q8A8-DEQ-2"}
    found = excluded(_failure(_row(1, 1.0), "dequantize-unsigned"))
    assert found == {f"Q8A8-{rule}" for rule in ("HLF-2", "HLF-3", "DEQ-2", "LAY-2", "QNT-7", "DOT-10")}


def test_dot_products() -> None:
    """Scales of 1 exclude the rules about scales; a row that is not empty the one about empty rows."""
    row = dot_rows.blocks(1.0, np.full((2, 32), -128))
    found = excluded(_failure(calls.dot(row, row), "minus-128-sign"))
    assert found == {f"Q8A8-{rule}" for rule in ("DOT-2", "DOT-5", "DOT-6", "DOT-8", "HLF-2", "HLF-3")}


@pytest.mark.parametrize(("slug", "stays"), [("block-padded", True), ("dequantize-unsigned", False)])
def test_guesses(slug: str, *, stays: bool) -> None:
    """A guess about the setup stays where all blocks behind the first are wrong; not where most are right."""
    codes = np.arange(256).reshape(8, 32) % 31 + 1
    codes[::4] *= -1
    call = calls.dequantize(dot_rows.blocks(np.arange(1, 9) / 8, codes))
    failure = _failure(call, slug)
    observations = Observations()
    (outputs,), (expected,) = failure.outputs, failure.expected
    observations.add_failure(call, {"y": outputs}, {"y": expected}, "case", ("Q8A8-DEQ-1",))
    stage = Stage(calls.DEQUANTIZE, Status.FAIL, "y: 1, expected about 2", "compare the prototype")
    assert list(wrong_setup([stage], (), (), observations)) == [stage] * stays
    (known,) = wrong_setup([stage], {calls.DEQUANTIZE}, (), observations)
    assert not known.hint
    record = Record("Q8A8-DEQ-1", "another", calls.DEQUANTIZE, Status.PASS)
    assert not list(wrong_setup([stage], (), [record], observations))
