"""Results of a kernel, kept for the diagnosis: the inputs and the result bits of every judged call.

The checks feed this while they run. A quantizer's results are blocks; a dot product's results are single
floats, kept as the numbers that the sum is made of, so that both block versions look alike.

Recipes and orders are distinguished by these results. What is wrong takes the whole call (a stride that is
ignored, a block that looks at its neighbour), so failed calls are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8_conformance.protocol.messages import Fault
from q8a8_conformance.spec.abi import buffer_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call

LIMIT = 1 << 17
"""Results of one function that are kept at most; what comes later adds nothing to a diagnosis."""

FAILURES = 400
"""Failed calls of one function that are kept at most."""

Key = tuple[str, int]
"""A function, and how many rows it takes at a time (1 for all but a dot product)."""


@dataclass(slots=True, eq=False)
class QuantizerResult:
    """One scale with its codes: `x` float32 [s] gave `scale` (f16 bits) and `codes` int8 [s]."""

    x: Array
    scale: int
    codes: Array


@dataclass(slots=True, eq=False)
class DotResult:
    """One float: the sum over blocks of ``d`` float32 [nb] times ``qx · qy`` int8 [nb, 32] gave `bits`."""

    d: Array
    qx: Array
    qy: Array
    bits: int
    dx: Array
    dy: Array


@dataclass(frozen=True)
class CallResult:
    """A call that returned, with its output buffers in the ABI's order."""

    call: Call
    outputs: tuple[bytes, ...]


@dataclass(frozen=True)
class Failure(CallResult):
    """A call whose outputs were judged wrong, with those that were expected of this kernel.

    Attributes
    ----------
    expected
        Output buffers in the ABI's order.
    case, rules, message
        The case that made the call, the rules that its comparison is about, and what the difference means.
    """

    expected: tuple[bytes, ...]
    case: str = ""
    rules: tuple[str, ...] = ()
    message: str = ""

    @property
    def has_wrong_results(self) -> bool:
        """Whether results differ, and not bytes behind them alone."""
        call = self.call
        sizes = buffer_sizes(call.function, call.n, bs=call.bs, bx=call.bx, by=call.by, nrc=call.nrc)
        both = zip(self.outputs, self.expected, call.spec.outputs, strict=True)
        return any(got[: sizes[index]] != want[: sizes[index]] for got, want, index in both)


@dataclass(frozen=True)
class Death:
    """A call that did not return: the kernel crashed, or hung (`seconds` is what it took)."""

    call: Call
    seconds: float


@dataclass
class Observations:
    """All results by function; those of dot products by (function, nrc).

    Of the failed calls, `placed` holds those that are right at another address or in another mode, `threads`
    those of several threads that are right by themselves, `outside` those in which values outside the domain
    spoil others, `side_effects` those that did more than they may, and `reaches` those that died beside an
    inaccessible page, with what was said of it.
    """

    quantizers: dict[str, list[QuantizerResult]] = field(default_factory=dict)
    dots: dict[tuple[str, int], list[DotResult]] = field(default_factory=dict)
    failures: dict[Key, list[Failure]] = field(default_factory=dict)
    placed: dict[Key, list[Failure]] = field(default_factory=dict)
    outside: dict[str, list[Failure]] = field(default_factory=dict)
    threads: dict[str, list[Call]] = field(default_factory=dict)
    side_effects: dict[tuple[str, Fault], list[Call]] = field(default_factory=dict)
    reaches: dict[str, list[tuple[Call, str]]] = field(default_factory=dict)
    deaths: dict[str, list[Death]] = field(default_factory=dict)

    def add_failure(
        self,
        call: Call,
        outputs: Mapping[str, bytes],
        expected: Mapping[str, bytes],
        case: str = "",
        rules: tuple[str, ...] = (),
        message: str = "",
    ) -> None:
        """Add a call whose output buffers, by ABI name, were judged wrong; parameters as of `Failure`."""
        held = self.failures.setdefault((call.function, call.nrc), [])
        # (Which rules a case fails takes one of its failures.)
        if len(held) < FAILURES or (case and held[-1].case != case):
            wanted = tuple(expected.get(name, data) for name, data in outputs.items())
            held.append(Failure(call, tuple(outputs.values()), wanted, case, rules, message))

    def add_outside(self, call: Call, outputs: Mapping[str, bytes], expected: Mapping[str, bytes]) -> None:
        """Add a call in which a value outside the domain spoils what does not depend on it."""
        wanted = tuple(expected.get(name, data) for name, data in outputs.items())
        self.outside.setdefault(call.function, []).append(Failure(call, tuple(outputs.values()), wanted))

    def add_placed(self, call: Call, outputs: Mapping[str, bytes], expected: Mapping[str, bytes]) -> None:
        """Add a call that is wrong for where or how it is made, and right elsewhere."""
        held = self.placed.setdefault((call.function, call.nrc), [])
        if len(held) < FAILURES:
            wanted = tuple(expected.get(name, data) for name, data in outputs.items())
            held.append(Failure(call, tuple(outputs.values()), wanted))

    def add_threads(self, call: Call) -> None:
        """Add a call of several threads in which results differ, or are not those of one thread."""
        held = self.threads.setdefault(call.function, [])
        if len(held) < FAILURES and not any(one is call for one in held):
            held.append(call)

    def add_side_effect(self, fault: Fault, call: Call) -> None:
        """Add a call that did something besides its result."""
        held = self.side_effects.setdefault((call.function, fault), [])
        if len(held) < FAILURES:
            held.append(call)

    def add_reach(self, call: Call, text: str) -> None:
        """Add a call that did not return where its buffers lie beside an inaccessible page."""
        held = self.reaches.setdefault(call.function, [])
        if len(held) < FAILURES:
            held.append((call, text))

    def add_death(self, call: Call, seconds: float) -> None:
        """Add a call that did not return."""
        self.deaths.setdefault(call.function, []).append(Death(call, seconds))

    def writes_outside(self, function: str) -> bool:
        """Return whether calls of a function were seen to write behind their results."""
        return function in self.reaches or (function, Fault.WROTE_OUTSIDE) in self.side_effects

    def add_all(self, others: Observations) -> None:
        """Add what another process has kept of the same kernel."""
        for kind in fields(self):
            mine, theirs = getattr(self, kind.name), getattr(others, kind.name)
            for key, results in theirs.items():
                mine.setdefault(key, []).extend(results)

    def add_row(self, function: str, x: Array, y: bytes) -> None:
        """Add a quantized row: `x` float32 [k], `y` its blocks as bytes."""
        held = self.quantizers.setdefault(function, [])
        if len(held) >= LIMIT:
            return
        scales, codes = layout.unpack(layout.as_blocks(y))
        bits = scales.view(np.uint16)
        held.extend(
            QuantizerResult(part, int(h), q)
            for part, h, q in zip(x.reshape(-1, layout.QK8_A8), bits, codes, strict=True)
        )

    def add_activation(self, function: str, x: Array, output: bytes, scale: bytes) -> None:
        """Add a quantized activation: `x` float32 [size], its codes and its scale as bytes."""
        held = self.quantizers.setdefault(function, [])
        if len(held) < LIMIT:
            bits = int.from_bytes(scale, "little")
            held.append(QuantizerResult(x, bits, np.frombuffer(output, np.int8)))

    def add_dot(self, function: str, nrc: int, x: Array, y: Array, result: bytes) -> None:
        """Add a dot product of two rows of blocks [nb] of one version; `result` is the float's bytes."""
        held = self.dots.setdefault((function, nrc), [])
        if len(held) < LIMIT:
            second = "activation_scale" if "activation_scale" in (y.dtype.names or ()) else "weight_scale"
            dx, dy = x["weight_scale"].astype(np.float32), y[second].astype(np.float32)
            bits = int.from_bytes(result, "little")
            held.append(DotResult(dx * dy, x["weight_qs"], y["weight_qs"], bits, dx, dy))
