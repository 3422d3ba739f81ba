"""The features of dot products' cases: sizes, strides, lanes, codes, scales and sums."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from q8a8_golden import oracle
from q8a8_golden.generate.coverage_classes import half_class, size_class
from q8a8_golden.generate.implementations import dot_rows
from q8a8_golden.oracle import F16, F32

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_golden.cases import Case
    from q8a8_golden.oracle import Quantized

__all__ = ["dot_features", "sum_features"]

_FEW = 9
"""In rows of up to so many blocks, a single lane or block with codes is a feature."""


def dot_features(case: Case) -> Iterator[str]:
    """Yield the features of a dot product's arguments, blocks and sums."""
    args = case.args
    nrc = args.get("nrc", 1)
    yield f"{size_class(args['n'] // 32, 'blocks')}, {case.outcome.kind}"
    yield from _strides(case, nrc)
    if case.before:
        yield f"s holds a number, {'some' if args['n'] else 'no'} blocks"
    for number, (_, vx, vy, v2) in enumerate(dot_rows(case, case.function)):
        x = oracle.parse(vx, oracle.V2_WEIGHT if v2 else oracle.V1)
        y = oracle.parse(vy, oracle.V2_ACTIVATION if v2 else oracle.V1)
        if v2:
            unused = oracle.parse(vx, oracle.V2_ACTIVATION), oracle.parse(vy, oracle.V2_WEIGHT)
            for name, row in zip("xy", unused, strict=True):
                yield from {f"{name}'s unused scale is {half_class(block.scale)}" for block in row}
        for name, row in ((f"x{number % 2}", x), (f"y{number // 2}", y)):
            yield from _blocks(name, row)
        yield from _both(x, y)
        yield from sum_features(vx, vy, v2=v2)


def _strides(case: Case, nrc: int) -> Iterator[str]:
    """Yield the features of the strides; with one row, of the unused arguments."""
    args = case.args
    if nrc == 1:
        row = args["n"] // 32 * 34
        for name in ("bs", "bx", "by"):
            if args.get(name, 0):
                size = "within the row" if args[name] < row else "the row" if args[name] == row else "far"
                yield f"{name} to be ignored, {size}"
        return
    gaps = {name: args[name] - args["n"] // 32 * 34 for name in ("bx", "by")}
    yield f"bs {args['bs']}"
    yield from (f"{name} {gap} bytes beyond the row" for name, gap in gaps.items())
    order = (gaps["bx"] > gaps["by"]) - (gaps["bx"] < gaps["by"])
    yield f"bx is {('less than', 'the same as', 'more than')[order + 1]} by"


def _blocks(name: str, row: Sequence[Quantized]) -> Iterator[str]:
    """Yield the features of one side: its scales, its -128, a single code or block."""
    for block in set(row):
        yield f"{name}'s scale is {half_class(block.scale)}"
        if block.codes.count(-128) == 32:
            yield f"{name} is -128 in all lanes"
    if 0 < len(row) <= _FEW:
        set_lanes = [
            (number, lane)
            for number, block in enumerate(row)
            for lane, code in enumerate(block.codes)
            if code
        ]
        if len(set_lanes) == 1:
            number, lane = set_lanes[0]
            yield f"{name} has one code, block {number} of {len(row)}, lane {lane}"
        numbers = {number for number, _ in set_lanes}
        if len(numbers) == 1 < len(row):
            yield f"{name} has one block, {numbers.pop()} of {len(row)}"


def _both(x: Sequence[Quantized], y: Sequence[Quantized]) -> Iterator[str]:
    """Yield the features of both sides, block by block: the product of scales, the sum of products."""
    ended = False
    for one, other in dict.fromkeys(zip(x, y, strict=True)):
        product = oracle.value(one.scale, F16) * oracle.value(other.scale, F16)
        if ended and product:
            yield "a block after a zero scale"
        ended = ended or not product
        near = oracle.nearest(product, F16)
        if not oracle.finite(near, F16):
            kind = "beyond every half"
        elif oracle.value(near, F16) == product:
            kind = "a half"
        else:
            kind = "below every half" if near & (F16.sign - 1) == 0 else "no half"
        sign = "zero" if not product else "negative" if product < 0 else "positive"
        yield f"dx * dy is {sign}, {kind}"
        yield f"dx * dy has {abs(product.numerator).bit_length()} bits, {kind}"
        total = sum(a * b for a, b in zip(one.codes, other.codes, strict=True))
        half = "a half" if _is_half(total) else "no half"
        sign = "negative" if total < 0 else "positive"
        yield f"the sum of a block is {sign}, {total.bit_length()} bits, {half}"
        pair_of_codes = {*zip(one.codes, other.codes, strict=True)}
        if len(pair_of_codes) == 1:
            yield f"{pair_of_codes.pop()} in all lanes, {size_class(len(x), 'blocks')}"
        for name, mine, theirs in (("x", one.codes, other.codes), ("y", other.codes, one.codes)):
            if mine.count(-128) == 1:
                lane = mine.index(-128)
                partner = "-128" if theirs[lane] == -128 else "another code"
                yield f"{name} is -128 in lane {lane} alone, and meets {partner}"


def _is_half(number: int) -> bool:
    near = oracle.nearest(Fraction(number), F16)
    return oracle.finite(near, F16) and oracle.value(near, F16) == number


def sum_features(vx: bytes, vy: bytes, *, v2: bool) -> Iterator[str]:
    """Yield the features of the whole sum, and how much of it cancels."""
    exact, size = oracle.exact_dot(vx, vy, v2=v2), oracle.magnitude(vx, vy, v2=v2)
    if not exact:
        yield "the sum is zero, of zeros" if not size else "the sum is zero, all cancels"
        return
    number = exact * oracle.PRODUCT_UNIT
    half = oracle.nearest(number, F16)
    if not oracle.finite(half, F16):
        yield "the sum is beyond every half"
    elif oracle.value(half, F16) != number:
        yield "the sum is no half"
    single = oracle.value(oracle.nearest(number, F32), F32) == number
    yield "the sum is an f32" if single else "the sum is rounded"
    lost = (size // abs(exact)).bit_length()
    for least, word in ((16, "nearly all"), (8, "much"), (2, "some"), (0, "little")):
        if lost >= least:
            yield f"{word} cancels, {size_class(len(vx) // (36 if v2 else 34), 'blocks')}"
            return
