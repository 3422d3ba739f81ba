"""Quantizer inputs outside the domain: no value is wrong, but the call returns and keeps to its buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.inputs import blocks, calls
from q8a8_conformance.protocol.messages import Option

if TYPE_CHECKING:
    from q8a8_conformance.inputs.calls import Array
    from q8a8_conformance.suite.judge import Judge

RULE = "Q8A8-QNT-11"
HUGE = float(blocks.OVERFLOW)
CONTENTS = {
    "nan": (float("nan"),),
    "negative-nan": (-float("nan"),),
    "infinity": (float("inf"),),
    "negative-infinity": (float("-inf"),),
    "both-infinities": (float("inf"), float("-inf")),
    "nan-and-infinity": (float("nan"), float("inf")),
    "scale-overflow": (HUGE,),
    "largest-float": (float(np.finfo(np.float32).max), -1.0),
}
QUANTIZERS = (*calls.QUANTIZERS, calls.ACTIVATION)


def row(contents: tuple[float, ...], nb: int, *, everywhere: bool) -> Array:
    """Return a row of `nb` ordinary blocks with the contents sprinkled in, or filling it."""
    x = np.linspace(-1, 1, 32 * nb, dtype=np.float32)
    if everywhere:
        return np.resize(np.array(contents, np.float32), 32 * nb)
    for place, value in enumerate(contents):
        x[(7 + 38 * place) % x.size] = value
    return x


def parameters() -> list[object]:
    """Return each kind of content with each quantizer."""
    return [
        pytest.param(kind, function, id=f"unspecified/{kind}/{function}")
        for kind in CONTENTS
        for function in QUANTIZERS
    ]


@pytest.mark.rule("Q8A8-QNT-11")
@pytest.mark.parametrize(("kind", "function"), parameters())
def test_unspecified(judge: Judge, kind: str, function: str) -> None:
    """Quantize a row with such contents, plainly and with whatever guards the worker has."""
    judge.require(function)
    guarded = Option(0)
    for capability, option in (("guard", Option.GUARD_AFTER), ("readonly", Option.READONLY)):
        if capability in judge.target.hello.capabilities:
            guarded |= option
    for nb in (1, 3, 8):
        for everywhere in (False, True):
            x = row(CONTENTS[kind], nb, everywhere=everywhere)
            call = calls.activation(x) if function == calls.ACTIVATION else calls.quantize(function, x)
            judge.run(call, legal=False)
            if guarded:
                judge.attempt(
                    calls.with_options(call, guarded),
                    (RULE,),
                    "leaves its buffers or writes its input",
                    legal=False,
                )
