"""torchao's dynamic linear operator, by its adapter: its arithmetic is named, and explains every bit."""

from __future__ import annotations

from q8a8_conformance.adapters.torchao_py import kernel
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs.calls import MUL_MAT
from q8a8_conformance.reveal.products.revealed import Extent, reveal_product


def test_the_arithmetic_is_named() -> None:
    """Scales of amax/127.5, kept in float32 and multiplied before those of the weights (`(acc*sx)*sw`)."""
    session = InProcessSession(lambda: kernel, (MUL_MAT,))
    found = reveal_product(session, Extent((1, 2, 3, 9), 64, 32, (1, 2, 3, 5), (32,)))
    (regime,) = found.regimes
    names = ("torchao", "activation-scale:float32", "activation-scale-first", "order:scalar")
    assert regime.names == names
    assert regime.unexplained == 0 < regime.of
    assert found.is_invariant
