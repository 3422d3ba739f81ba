"""What is kept of a run: failed calls, and whether it is their results that are wrong."""

from __future__ import annotations

from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.protocol.messages import Fault
from q8a8_conformance.results.observations import Failure, Observations


def test_bytes_behind_the_results() -> None:
    """Bytes behind the results are no wrong results; they are seen as a side effect."""
    call = calls.dequantize(dot_rows.filled(1, 3))
    right = bytes(128)
    assert not Failure(call, (right + b"\1",), (right + b"\2",)).has_wrong_results
    assert Failure(call, (b"\1" + right[1:],), (right,)).has_wrong_results
    observations = Observations()
    assert not observations.writes_outside(call.function)
    observations.add_side_effect(Fault.WROTE_OUTSIDE, call)
    assert observations.writes_outside(call.function)
