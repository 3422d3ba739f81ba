"""The smallest input on which a kernel still goes wrong: fewest blocks, fewest elements, simplest values.

A failed call is made smaller step by step with the kernel itself: a step after which it is still wrong is
kept. First blocks are left out, then elements become zero, then the rest 1 or a power of two. Whether a row
is wrong may depend on its length alone, from some length on or by a remainder: so lengths come first.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8_conformance.diagnosis.dots.model import SHARE, Model, matches
from q8a8_conformance.diagnosis.replay import replay, same
from q8a8_conformance.faults.catalogue import make
from q8a8_conformance.faults.kernel import ACTIVATION, DEQUANTIZE, DOT, DOT_REAL, DOTS
from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.deadline import Deadline
from q8a8_conformance.results.observations import CallResult
from q8a8_conformance.results.record import CallData
from q8a8_conformance.results.run import Smallest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call

    Probe = Callable[[Call], "tuple[bytes, ...] | None"]
    Test = Callable[["Inputs"], bool]

CALLS, SECONDS = 400, 1.0
"""Limits for shrinking one input: calls of the kernel, and seconds."""

FEW = 48
"""Numbers of blocks below which each one is tried."""

MODULI = (1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Remainders by which rows may be wrong: of these the shortest row is looked for."""


class _SpentError(Exception):
    """No more calls."""


class Inputs:
    """The inputs of a call in a form that can be cut: arrays with one entry a block (or element).

    Attributes
    ----------
    arrays
        Float32 ``[nb, 32]`` or ``[size, 1]`` of a quantizer; blocks of x ``[nb, nrc]``, and for a dot
        product of y.
    """

    def __init__(self, like: Call, arrays: tuple[Array, ...]) -> None:
        self.like = like
        self.arrays = arrays

    @classmethod
    def of(cls, call: Call) -> Inputs:
        """Take a call apart."""
        data = [np.frombuffer(call.buffers[i].data, np.uint8) for i in call.spec.inputs]
        if call.function not in (*DOTS, DEQUANTIZE):
            width = 1 if call.function == ACTIVATION else 32
            return cls(call, (data[0].view("<f4").reshape(-1, width).copy(),))
        dtype = layout.BLOCK_Q8_A8_V2 if call.function == DOT_REAL else layout.BLOCK_Q8_A8
        nb = call.n // 32
        strides = (call.bx, call.by) if call.nrc == 2 else (0, 0)
        rows = [
            np.stack(
                [layout.as_blocks(d[r * step :][: nb * dtype.itemsize], dtype) for r in range(call.nrc)], 1
            )
            for d, step in zip(data, strides, strict=False)
        ]
        return cls(call, tuple(rows))

    def call(self) -> Call:
        """Put the call together again."""
        first = self.arrays[0]
        function = self.like.function
        if function == DEQUANTIZE:
            return calls.dequantize(first[:, 0])
        if function not in DOTS:
            row = np.ascontiguousarray(first).reshape(-1)
            return calls.activation(row) if function == ACTIVATION else calls.quantize(function, row)
        x, y = (np.ascontiguousarray(array.T) for array in self.arrays)
        if self.like.nrc == 2:
            return calls.dot_pair(x, y, bs=max(self.like.bs, 2))
        return calls.dot(x[0], y[0]) if function == DOT else calls.dot_real(x[0], y[0])

    def keep(self, blocks: Sequence[int]) -> Inputs:
        """Return the same without the other blocks."""
        return Inputs(self.like, tuple(array[list(blocks)] for array in self.arrays))

    def codes(self) -> tuple[Array, ...]:
        """Return the elements, or codes, as flat views of fresh arrays: what :meth:`with_codes` takes."""
        return tuple(
            (array["weight_qs"] if array.dtype.names else array).reshape(-1).copy() for array in self.arrays
        )

    def with_codes(self, codes: Sequence[Array]) -> Inputs:
        """Return the same with other elements, or codes."""
        arrays = []
        for array, new in zip(self.arrays, codes, strict=True):
            held = array.copy()
            target = held["weight_qs"] if held.dtype.names else held
            target[...] = new.reshape(target.shape)
            arrays.append(held)
        return Inputs(self.like, tuple(arrays))

    def scale_fields(self) -> Iterator[tuple[int, str]]:
        """Yield the scales that count: array number and field."""
        for number, array in enumerate(self.arrays):
            if array.dtype.names:
                v2 = self.like.function == DOT_REAL and number == 1
                yield number, "activation_scale" if v2 else "weight_scale"

    def with_scale(self, number: int, field: str, place: tuple[int, ...], value: float) -> Inputs:
        """Return the same with another scale."""
        arrays = [array.copy() for array in self.arrays]
        arrays[number][field][place] = value
        return Inputs(self.like, tuple(arrays))


def wrong(call: Call, outputs: Sequence[bytes]) -> bool:
    """Return whether outputs are wrong in any case, without the suite's expectations.

    Quantizers and dequantization have one right answer. A dot product is wrong outside the bound, and where
    its inputs are exact by construction.
    """
    if call.function in DOTS:
        return not matches(Model(), CallResult(call, tuple(outputs)), slack=SHARE)
    return not same(call.function, replay(make(), call), outputs)


def smallest(call: Call, probe: Probe, *, dies: bool = False, seconds: float = SECONDS) -> Call:
    """Make a failed call, on which the kernel goes wrong or, with `dies`, crashes, as small as can be.

    `probe` makes a call of the kernel: its outputs, or None where it did not return; at most :data:`CALLS`.

    Returns
    -------
    Call
        The smallest one found; `call` itself where the kernel does not go wrong on it a second time, and of
        a matrix product.
    """
    if call.function == calls.MUL_MAT:
        return call
    deadline = Deadline(seconds)
    budget = [CALLS]

    best = [Inputs.of(call)]

    def test(inputs: Inputs) -> bool:
        if budget[0] <= 0 or deadline.has_passed:
            raise _SpentError
        budget[0] -= 1
        candidate = inputs.call()
        outputs = probe(candidate)
        fails = outputs is None if dies else outputs is not None and wrong(candidate, outputs)
        best[0] = inputs if fails else best[0]
        return fails

    with suppress(_SpentError):
        if not test(best[0]):
            return call
        for step in (_fewer_blocks, _fewer_elements, _simpler_scales, _simpler_elements):
            step(best[0], test)
    return best[0].call()


def _reduce(items: Sequence[int], test: Callable[[Sequence[int]], bool], least: int = 0) -> Sequence[int]:
    """Leave items out as long as the test holds without them: large groups first, then one by one.

    Where nothing could be left out, groups are of `least` items at least.
    """
    size, every = len(items), len(items)
    while size and (size > least or len(items) < every):
        start = 0
        while start < len(items):
            fewer = [*items[:start], *items[start + size :]]
            if test(fewer):
                items = fewer
            else:
                start += size
        size //= 2
    return items


def _fewer_blocks(inputs: Inputs, test: Test) -> None:
    """Leave out blocks: those behind the first few, those behind the first many, then any others."""
    length = len(inputs.arrays[0])

    def fails(nb: int) -> bool:
        return test(inputs.keep(range(nb)))

    if not any(fails(nb) for nb in range(min(FEW, length))):
        _reduce(range(shortest(length, fails)), lambda kept: test(inputs.keep(kept)), FEW)


def shortest(length: int, fails: Callable[[int], bool]) -> int:
    """Return the least of many lengths that fail: by bisection, over all and over those of one remainder."""
    least = length
    for modulus in MODULI:
        low, high = FEW - 1 - (FEW - 1 - least) % modulus, least
        while high - low > modulus:
            middle = (low + high) // 2
            middle -= (middle - high) % modulus
            if middle > low and fails(middle):
                high = middle
            else:
                low = max(middle, low + modulus)
        least = high
    return least


def _fewer_elements(inputs: Inputs, test: Test) -> None:
    codes = inputs.codes()
    sizes = np.cumsum([0, *(len(part) for part in codes)])
    flat = np.concatenate(codes)

    def without(kept: Sequence[int]) -> bool:
        new = np.zeros_like(flat)
        new[list(kept)] = flat[list(kept)]
        parts = [new[a:b] for a, b in itertools.pairwise(sizes)]
        return test(inputs.with_codes(parts))

    _reduce([int(i) for i in np.flatnonzero(flat)], without)


def _simpler_scales(inputs: Inputs, test: Test) -> None:
    for number, field in inputs.scale_fields():
        for place in np.ndindex(inputs.arrays[number].shape):
            value = float(inputs.arrays[number][field][place])
            for simple in _simple(value):
                changed = inputs.with_scale(number, field, place, simple)
                if test(changed):
                    inputs = changed
                    break


def _simpler_elements(inputs: Inputs, test: Test) -> None:
    codes = [part.copy() for part in inputs.codes()]
    for part in codes:
        for place in np.flatnonzero(part):
            held = part[place]
            for simple in _simple(float(held)):
                if part.dtype == np.int8 and not (simple.is_integer() and abs(simple) <= 127):
                    continue
                part[place] = simple
                if test(inputs.with_codes(codes)):
                    break
                part[place] = held


def _simple(value: float) -> Iterator[float]:
    """Yield simpler numbers in place of one: 1, the power of two below, the nearest integer."""
    below = float(np.exp2(np.floor(np.log2(abs(value))))) if value else 1.0
    for simple in (
        1.0,
        float(np.copysign(1.0, value)),
        float(np.copysign(below, value)),
        float(np.rint(value)),
    ):
        if simple == value:
            return
        if simple:
            yield simple


def size(call: Call) -> tuple[int, int]:
    """Return the size of a call: its bytes, and those of them that are not zero."""
    inputs = b"".join(calls.inputs_of(call).values())
    return calls.weight(call), len(inputs) - inputs.count(0)


def as_smallest(call: Call, outputs: Sequence[bytes] | None, expected: Sequence[bytes]) -> Smallest:
    """Return a call with its outputs, None where the kernel did not return, and what its inputs hold."""
    names = [call.spec.buffers[i].name for i in call.spec.outputs]
    data = CallData(
        call.function,
        calls.arguments_of(call),
        calls.inputs_of(call),
        dict(zip(names, expected, strict=False)),
        dict(zip(names, outputs or (), strict=False)),
    )
    return Smallest(data, describe(call))


def describe(call: Call) -> str:
    """Describe a small call in a line: its elements, or scales and codes, that are not zero."""
    if call.function == calls.MUL_MAT:
        return ", ".join(f"{name} = {number}" for name, number in calls.arguments_of(call).items())
    words = []
    for name, array in zip(("x", "y"), Inputs.of(call).arrays, strict=False):
        if not array.dtype.names:
            flat = array.reshape(-1)
            words.append(f"{flat.size} elements, all zero{_nonzero(flat)}")
            continue
        field = "activation_scale" if call.function == DOT_REAL and name == "y" else "weight_scale"
        for number, row in enumerate(np.swapaxes(array, 0, 1)):
            scales = ", ".join(f"{float(h):.9g}" for h in row[field][:4])
            many = ", …" if row.size > 4 else ""
            of = f"{name}{number}" if array.shape[1] > 1 else name
            words.append(f"{of}: scales {scales}{many}, codes all zero{_nonzero(row['weight_qs'])}")
    return f"{call.n} elements; " + "; ".join(words) if call.function in DOTS else "; ".join(words)


def _nonzero(values: Array) -> str:
    """Name what is not zero, by element or, of several blocks, by these as well."""
    places = np.argwhere(values)
    if not len(places):
        return ""
    shown = ", ".join(f"[{_place(at, values)}] = {float(values[tuple(at)]):.9g}" for at in places[:4])
    return f" but {shown}" + (f" and {len(places) - 4} more" if len(places) > 4 else "")


def _place(at: Array, values: Array) -> str:
    of = ("block", "element")[-values.ndim :]
    named = [f"{name} {k}" for name, k, many in zip(of, at, values.shape, strict=True) if many > 1]
    return ", ".join(named) if len(named) > 1 else f"{at[-1]}"
