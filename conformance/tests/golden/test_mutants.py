"""Each plausible bug of a kernel fails some case, and the kernels without a bug fail none.

The kernels are small ones in this file, each of whose steps can be replaced.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8_golden.conform import conforms
from q8a8_golden.load import load_cases

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_golden.cases import Case

F32 = np.float32
Array = np.ndarray[Any, np.dtype[Any]]
Scalar = Any  # a NumPy scalar of a type that depends on the bug
CASES = [case for case in load_cases() if case.outcome.kind != "unspecified"]


def half_away(v: Array) -> Array:
    """Round as roundf does, in double, which is exact."""
    wide = v.astype(np.float64)
    return np.trunc(wide + np.copysign(0.5, wide))


def half_toward_zero(d: Scalar) -> Scalar:
    """Convert to f16 by truncation."""
    h = np.float16(d)
    return np.nextafter(h, np.float16(0)) if float(h) > float(d) else h


def half_no_subnormals(d: Scalar) -> Scalar:
    """Convert to f16 with FZ16 set."""
    h = np.float16(d)
    return np.float16(0) if abs(float(h)) < 2.0**-14 else h


def half_ties_away(d: Scalar) -> Scalar:
    """Convert to f16 with ties rounded up."""
    h = half_toward_zero(d)
    above = np.nextafter(h, np.float16(np.inf))
    return above if float(d) - float(h) >= (float(above) - float(h)) / 2 else h


@dataclass(frozen=True)
class Quantizer:
    """The block quantizer, with each of its steps replaceable."""

    amax: Callable[[Array], Any] = lambda x: np.max(np.abs(x), initial=F32(0))
    scale: Callable[[Any], Any] = lambda amax: np.float16(F32(amax) / F32(127))
    inverse: Callable[[Any, Any], Any] = lambda amax, h: F32(127) / F32(amax) if h != 0 else F32(0)
    product: Callable[[Array, Any], Array] = lambda x, inverse: x * F32(inverse)
    rounded: Callable[[Array], Array] = half_away
    whole_row: bool = False
    chunk: int = 0

    def run(self, case: Case, before: dict[str, bytes]) -> dict[str, bytes]:
        """Return the output buffers of a quantizer's case."""
        if case.function == "quantize_activation_q8_a8":
            x = np.frombuffer(case.inputs["input"], "<f4")
            h, q = self.quantize(x[: self.chunk] if self.chunk else x, x)
            return {"output": q.tobytes() + before["output"][len(q) :], "scale": h.tobytes()}
        row = np.frombuffer(case.inputs["x"], "<f4").reshape(-1, 32)
        blocks = (self.quantize(row if self.whole_row else x, x) for x in row)
        data = b"".join(h.tobytes() + q.tobytes() for h, q in blocks)
        return {"y": data + before["y"][len(data) :]}

    def quantize(self, about: Array, x: Array) -> tuple[Any, Array]:
        """Quantize x with the scale of other elements."""
        amax = self.amax(about.reshape(-1))
        h = np.float16(self.scale(amax))
        v = self.rounded(self.product(x, self.inverse(amax, h)))
        return h, np.nan_to_num(v, nan=0, posinf=0, neginf=0).astype(np.int64).astype(np.int8)


RIGHT_QUANTIZER = Quantizer()


def inverse(of: Callable[[Scalar], Scalar]) -> Callable[[Scalar, Scalar], Scalar]:
    """Return an inverse that is zero if the stored half is zero, else `of` amax."""
    return lambda amax, h: of(F32(amax)) if h != 0 else F32(0)


def scale(of: Callable[[Scalar], Scalar]) -> Callable[[Scalar], Scalar]:
    """Return a scale computed by `of` from the right d."""
    return lambda amax: of(F32(amax) / F32(127))


QUANTIZERS: dict[str, Quantizer] = {
    "half to even": replace(RIGHT_QUANTIZER, rounded=np.rint),
    "half up": replace(RIGHT_QUANTIZER, rounded=lambda v: np.floor(v.astype(np.float64) + 0.5)),
    "half down": replace(RIGHT_QUANTIZER, rounded=lambda v: np.ceil(v.astype(np.float64) - 0.5)),
    "truncated": replace(RIGHT_QUANTIZER, rounded=np.trunc),
    "0.5 added in f32": replace(RIGHT_QUANTIZER, rounded=lambda v: np.trunc(v + np.copysign(F32(0.5), v))),
    "product in double": replace(RIGHT_QUANTIZER, product=lambda x, i: x.astype(np.float64) * np.float64(i)),
    "inverse of d": replace(RIGHT_QUANTIZER, inverse=inverse(lambda a: F32(1) / (a / F32(127)))),
    "inverse of the half": replace(
        RIGHT_QUANTIZER, inverse=lambda _, h: F32(1) / F32(h) if h != 0 else F32(0)
    ),
    "inverse in f16": replace(RIGHT_QUANTIZER, inverse=inverse(lambda a: np.float16(F32(127) / a))),
    "inverse an ULP low": replace(
        RIGHT_QUANTIZER, inverse=inverse(lambda a: np.nextafter(F32(127) / a, F32(0)))
    ),
    "inverse an ULP high": replace(
        RIGHT_QUANTIZER, inverse=inverse(lambda a: np.nextafter(F32(127) / a, F32(np.inf)))
    ),
    "division by d": replace(
        RIGHT_QUANTIZER, inverse=inverse(lambda a: a / F32(127)), product=lambda x, d: x / d
    ),
    "zero test on amax": replace(RIGHT_QUANTIZER, inverse=lambda a, _: F32(127) / F32(a) if a else F32(0)),
    "zero test on d": replace(RIGHT_QUANTIZER, inverse=lambda a, _: F32(127) / a if a / F32(127) else F32(0)),
    "no zero test": replace(RIGHT_QUANTIZER, inverse=lambda a, _: F32(127) / a),
    "no subnormal halves": replace(RIGHT_QUANTIZER, scale=scale(half_no_subnormals)),
    "half truncated": replace(RIGHT_QUANTIZER, scale=scale(half_toward_zero)),
    "half ties away": replace(RIGHT_QUANTIZER, scale=scale(half_ties_away)),
    "half saturates early": replace(RIGHT_QUANTIZER, scale=scale(lambda d: min(d, F32(65472)))),
    "amax times 1/127": replace(RIGHT_QUANTIZER, scale=lambda a: np.float16(F32(a) * F32(1 / 127))),
    "scale of 128": replace(RIGHT_QUANTIZER, scale=lambda a: np.float16(F32(a) / F32(128))),
    "scale stored as an integer": replace(
        RIGHT_QUANTIZER, scale=scale(lambda d: np.uint16(min(d, 65535)).view(np.float16))
    ),
    "signed maximum": replace(RIGHT_QUANTIZER, amax=lambda x: np.max(x, initial=F32(0))),
    "signed extreme": replace(RIGHT_QUANTIZER, amax=lambda x: x[np.argmax(np.abs(x))] if x.size else F32(0)),
    "last element skipped": replace(RIGHT_QUANTIZER, amax=lambda x: np.max(np.abs(x[:-1]), initial=F32(0))),
    "first element skipped": replace(RIGHT_QUANTIZER, amax=lambda x: np.max(np.abs(x[1:]), initial=F32(0))),
    "half of the block skipped": replace(
        RIGHT_QUANTIZER, amax=lambda x: np.max(np.abs(x[:16]), initial=F32(0))
    ),
    "one scale a row": replace(RIGHT_QUANTIZER, whole_row=True),
    "amax of the first 32": replace(RIGHT_QUANTIZER, chunk=32),
}


def sumi(x: Array, y: Array) -> Scalar:
    """Add the products of two blocks' codes."""
    return int(x.astype(np.int64) @ y.astype(np.int64))


def sign_epi8(x: Array, y: Array) -> Scalar:
    """Multiply |x| by y with x's sign, where the negation wraps in int8, as in ggml's AVX2 code."""
    magnitude = np.abs(x.astype(np.int64))
    signed = np.where(x < 0, (-y.astype(np.int64)).astype(np.int8), np.where(x == 0, 0, y)).astype(np.int64)
    return int(magnitude @ signed)


def int16_pairs(x: Array, y: Array) -> Scalar:
    """Add pairs of products in int16."""
    p = (x.astype(np.int64) * y.astype(np.int64)).reshape(-1, 2).sum(axis=1)
    return int(p.astype(np.int16).astype(np.int64).sum())


@dataclass(frozen=True)
class Dot:
    """The dot product, with each of its steps replaceable."""

    product: Callable[[Any, Any], Any] = lambda dx, dy: F32(dx) * F32(dy)
    block: Callable[[Array, Array], Any] = sumi
    add: Callable[[Any, Any], Any] = lambda total, term: F32(total + F32(term))
    count: Callable[[int], int] = lambda nb: nb
    fields: tuple[int, int] = (0, 1)
    places: Callable[[int], tuple[int, int, int]] = lambda bs: (1, bs, bs + 1)
    strides: Callable[[dict[str, int]], tuple[int, int]] = lambda args: (args["bx"], args["by"])
    size_v2: int = 36
    accumulate: bool = False

    def run(self, case: Case, before: dict[str, bytes]) -> dict[str, bytes]:
        """Return the output buffer of a dot product's case."""
        args, s = dict(case.args), np.frombuffer(before["s"], "<f4").copy()
        results = {0: (0, 0)}
        if args.get("nrc") == 2:
            bx, by = self.strides(args)
            one, two, three = self.places(args["bs"])
            results |= {one: (bx, 0), two: (0, by), three: (bx, by)}
        for at, (x, y) in results.items():
            value = self.dot(case.inputs["vx"][x:], case.inputs["vy"][y:], args["n"] // 32, case.function)
            if at < len(s):
                s[at] = s[at] + value if self.accumulate else value
        return {"s": s.tobytes()}

    def dot(self, vx: bytes, vy: bytes, nb: int, function: str) -> Scalar:
        """Multiply two rows."""
        v2 = function.endswith("_real")
        size, codes = (self.size_v2, 4) if v2 else (34, 2)
        sx, sy = (2 * field for field in self.fields) if v2 else (0, 0)
        total = F32(0)
        for at in range(0, self.count(nb) * size, size):
            if at + size > min(len(vx), len(vy)):
                return F32(np.nan)
            dx, dy = (np.frombuffer(v, "<f2", 1, at + f)[0] for v, f in ((vx, sx), (vy, sy)))
            x, y = (np.frombuffer(v, "i1", 32, at + codes) for v in (vx, vy))
            total = self.add(total, F32(self.block(x, y)) * self.product(dx, dy))
        return total


def bf16(number: Scalar) -> Scalar:
    """Truncate an f32 to bfloat16."""
    return (F32(number).view(np.uint32) & np.uint32(0xFFFF0000)).view(F32)


RIGHT_DOT = Dot()
DOTS: dict[str, Dot] = {
    "-128 negated in int8": replace(RIGHT_DOT, block=sign_epi8),
    "-128 negated in int8, of y": replace(RIGHT_DOT, block=lambda x, y: sign_epi8(y, x)),
    "-128 clamped": replace(RIGHT_DOT, block=lambda x, y: sumi(np.maximum(x, -127), np.maximum(y, -127))),
    "pairs in int16": replace(RIGHT_DOT, block=int16_pairs),
    "block in int16": replace(RIGHT_DOT, block=lambda x, y: int(np.int64(sumi(x, y)).astype(np.int16))),
    "codes unsigned": replace(RIGHT_DOT, block=lambda x, y: sumi(x.view(np.uint8), y)),
    "last lane lost": replace(RIGHT_DOT, block=lambda x, y: sumi(x[:-1], y[:-1])),
    "quarters exchanged": replace(
        RIGHT_DOT, block=lambda x, y: sumi(x, y.reshape(4, 8)[[0, 2, 1, 3]].reshape(32))
    ),
    "block sum in f16": replace(RIGHT_DOT, block=lambda x, y: np.float16(sumi(x, y))),
    "product in f16": replace(RIGHT_DOT, product=lambda dx, dy: F32(np.float16(dx) * np.float16(dy))),
    "scale flushed": replace(
        RIGHT_DOT, product=lambda dx, dy: F32(half_no_subnormals(dx)) * half_no_subnormals(dy)
    ),
    "scale's sign lost": replace(RIGHT_DOT, product=lambda dx, dy: abs(F32(dx) * F32(dy))),
    "sum in f16": replace(RIGHT_DOT, add=lambda total, term: F32(np.float16(total) + np.float16(term))),
    "sum in bf16": replace(RIGHT_DOT, add=lambda total, term: bf16(bf16(total) + bf16(term))),
    "odd tail lost": replace(RIGHT_DOT, count=lambda nb: nb - nb % 2),
    "tail of four lost": replace(RIGHT_DOT, count=lambda nb: nb - nb % 4 if nb > 4 else nb),
    "eight-bit block counter": replace(RIGHT_DOT, count=lambda nb: nb % 256),
    "one block at least": replace(RIGHT_DOT, count=lambda nb: max(nb, 1)),
    "s added to": replace(RIGHT_DOT, accumulate=True),
    "rows exchanged in s": replace(RIGHT_DOT, places=lambda bs: (bs, 1, bs + 1)),
    "bs in bytes": replace(RIGHT_DOT, places=lambda bs: (1, bs // 4, bs // 4 + 1)),
    "bs taken for 2": replace(RIGHT_DOT, places=lambda _: (1, 2, 3)),
    "bx for both": replace(RIGHT_DOT, strides=lambda args: (args["bx"], args["bx"])),
    "strides of the row": replace(
        RIGHT_DOT, strides=lambda args: (args["n"] // 32 * 34, args["n"] // 32 * 34)
    ),
    "v2: weight scale of both": replace(RIGHT_DOT, fields=(0, 0)),
    "v2: activation scale of both": replace(RIGHT_DOT, fields=(1, 1)),
    "v2: fields exchanged": replace(RIGHT_DOT, fields=(1, 0)),
    "v2: blocks of 34 bytes": replace(RIGHT_DOT, size_v2=34),
}


@dataclass(frozen=True)
class Dequantizer:
    """Dequantization, with its one step replaceable."""

    value: Callable[[Any, Array], Array] = lambda h, q: F32(h) * q.astype(F32)

    def run(self, case: Case, before: dict[str, bytes]) -> dict[str, bytes]:
        """Return the output buffer of a dequantizer's case."""
        x = case.inputs["x"]
        rows = [
            self.value(np.frombuffer(x, "<f2", 1, at)[0], np.frombuffer(x, "i1", 32, at + 2)).astype("<f4")
            for at in range(0, len(x), 34)
        ]
        data = b"".join(row.tobytes() for row in rows)
        return {"y": data + before["y"][len(data) :]}


DEQUANTIZERS: dict[str, Dequantizer] = {
    "product in f16": Dequantizer(lambda h, q: h * q.astype(np.float16)),
    "scale flushed": Dequantizer(lambda h, q: F32(half_no_subnormals(h)) * q.astype(F32)),
    "integer zero": Dequantizer(lambda h, q: np.where(q == 0, F32(0), F32(h) * q.astype(F32))),
    "-128 clamped": Dequantizer(lambda h, q: F32(h) * np.maximum(q, -127).astype(F32)),
    "codes unsigned": Dequantizer(lambda h, q: F32(h) * q.view(np.uint8).astype(F32)),
    "scale's sign lost": Dequantizer(lambda h, q: abs(F32(h)) * q.astype(F32)),
}


def failures(kernel: Quantizer | Dot | Dequantizer) -> list[str]:
    """Return the ids of the cases that a kernel fails."""
    functions = {Quantizer: "quantize", Dot: "ggml_vec_dot", Dequantizer: "dequantize"}
    failed = []
    with np.errstate(all="ignore"):
        for case in CASES:
            if case.function.startswith(functions[type(kernel)]):
                after = kernel.run(case, case.poisoned())
                failed += [] if conforms(case, after) else [case.id]
    return failed


# The rules of the cases that fail for a bug.
BROKEN_RULES: list[tuple[Quantizer | Dot | Dequantizer, set[str]]] = [
    (QUANTIZERS["half to even"], {"QNT-3", "QNT-4", "QNT-10"}),
    (QUANTIZERS["inverse of d"], {"QNT-3", "QNT-4"}),
    (QUANTIZERS["zero test on d"], {"QNT-3", "QNT-6"}),
    (QUANTIZERS["half saturates early"], {"HLF-1", "HLF-4", "QNT-2"}),
    (DOTS["-128 negated in int8"], {"DOT-1"}),
    (DOTS["-128 clamped"], {"DOT-1"}),
    (DOTS["rows exchanged in s"], {"DOT-6", "ORD-2"}),
    (DOTS["bs taken for 2"], {"DOT-6", "ORD-2"}),
    (DOTS["scale flushed"], {"DOT-8", "HLF-2"}),
    (DEQUANTIZERS["-128 clamped"], {"DEQ-1", "DEQ-2", "HLF-2"}),
]


@pytest.mark.parametrize(("kernel", "rules"), BROKEN_RULES)
def test_failed_cases_are_of_the_broken_rules(kernel: Quantizer | Dot | Dequantizer, rules: set[str]) -> None:
    """The cases that fail for a bug are of the rules that it breaks."""
    failed = {*failures(kernel)}
    assert {rule.removeprefix("Q8A8-") for case in CASES if case.id in failed for rule in case.rules} == rules


@pytest.mark.parametrize(
    "kernel", [RIGHT_QUANTIZER, RIGHT_DOT, Dequantizer()], ids=["quantizer", "dot", "dequantizer"]
)
def test_right_kernels_pass(kernel: Quantizer | Dot | Dequantizer) -> None:
    """Without a bug the kernels of this file pass every case."""
    assert failures(kernel) == []


@pytest.mark.parametrize("bug", QUANTIZERS)
def test_broken_quantizer_fails(bug: str) -> None:
    """Some case of quantize_row or quantize_activation fails."""
    assert failures(QUANTIZERS[bug])


@pytest.mark.parametrize("bug", DOTS)
def test_broken_dot_fails(bug: str) -> None:
    """Some case of the dot products fails."""
    assert failures(DOTS[bug])


@pytest.mark.parametrize("bug", DEQUANTIZERS)
def test_broken_dequantizer_fails(bug: str) -> None:
    """Some case of dequantize_row fails."""
    assert failures(DEQUANTIZERS[bug])
