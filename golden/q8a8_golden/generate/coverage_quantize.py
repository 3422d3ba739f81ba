"""The phrases of quantizers' cases: sizes, the largest magnitude, how scale and codes are rounded."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from q8a8_golden import oracle
from q8a8_golden.generate.coverage_words import size_word
from q8a8_golden.oracle import F16, F32

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from q8a8_golden.cases import Case

__all__ = ["quantizer_phrases", "unspecified_phrases"]

_FAR: Final = 3
"""Blocks whose largest magnitudes are so many binades apart count as much larger, or smaller."""

_MANY: Final = 32
"""So many boundaries of one scale are more than some: a case about that scale's inverse."""

_BELOW_HALF: Final = 0x3EFFFFFF
"""The float below 1/2: added to 1/2 it gives 1 in f32."""


def unspecified_phrases(case: Case) -> Iterator[str]:
    """Give the kind of value that is outside of the domain, and where it stands."""
    xs = [x for group in _groups(case) for x in group]
    bad = [j for j, x in enumerate(xs) if not oracle.in_domain([x])]
    kind = xs[bad[0]]
    size = kind & (F32.sign - 1)
    sign = "-" if kind & F32.sign else "+"
    if size > F32.infinity:
        yield f"{sign}NaN, {'quiet' if size & 0x00400000 else 'signalling'}"
    elif size == F32.infinity:
        yield f"{sign}infinity"
    else:
        yield "the largest float" if size == F32.max_finite else "the first scale beyond every half"
    if len(bad) == len(xs):
        yield "throughout"
    else:
        yield {0: "first", len(xs) - 1: "last"}.get(bad[0], "inside")


def quantizer_phrases(case: Case) -> Iterator[str]:
    """Give what is special about the blocks of a row, or about an activation vector."""
    groups = _groups(case)
    activation = "input" in case.inputs
    yield size_word(len(groups[0]), "elements") if activation else size_word(len(groups), "blocks")
    before: Sequence[int] | None = None
    for xs in groups:
        yield from _largest(xs, activation=activation)
        yield from _scale(xs)
        if before is not None:
            yield from _neighbours(before, xs)
        before = xs
    yield from _codes(groups)


def _groups(case: Case) -> list[list[int]]:
    """Give the elements that share a scale: the blocks of a row, or the whole activation vector."""
    data = next(iter(case.inputs.values()))
    xs = [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]
    if "input" in case.inputs:
        return [xs]
    return [xs[first : first + 32] for first in range(0, len(xs), 32)]


def _largest(xs: Sequence[int], *, activation: bool) -> Iterator[str]:
    """Say where the largest magnitude stands, and with which sign."""
    top = oracle.amax(xs)
    places = [j for j, x in enumerate(xs) if x & (F32.sign - 1) == top]
    if not top:
        return
    if len(places) == len(xs) > 1:
        yield "all of one magnitude"
    if len(places) == 1:
        sign = "negative" if xs[places[0]] & F32.sign else "positive"
        where = {0: "first", len(xs) - 1: "last"}.get(places[0], "inside")
        yield f"the largest magnitude is {sign}, {where if activation else f'in lane {places[0]}'}"


def _scale(xs: Sequence[int]) -> Iterator[str]:
    """Say where d = amax / 127 lies among the halves; of a zero scale, why it is zero."""
    top = oracle.amax(xs)
    signs = {x & F32.sign for x in xs}
    if not top:
        kind = "of both signs" if len(signs) == 2 else "negative" if F32.sign in signs else "positive"
        yield f"all zero, {kind}" if xs else "no element"
        return
    d = oracle.nearest(Fraction(oracle.value(top, F32), 127), F32)
    h = oracle.f16_from_f32(d)
    place = _among_halves(d, h)
    if top < 0x00800000:
        yield "the largest magnitude is a subnormal float"
    if h == 0:
        kind = "zero" if d == 0 else "subnormal" if d < 0x00800000 else "normal"
        inverse = oracle.nearest(127 / oracle.value(top, F32), F32)
        finite = "finite" if oracle.finite(inverse, F32) else "infinite"
        yield f"the scale vanishes, d is {kind}, 127 / amax is {finite}"
        yield f"the scale vanishes, d is {place}"
        return
    where = {0x000: "the first of", 0x3FF: "the last of"}.get(h & 0x3FF, "inside")
    yield f"the scale is {place}, {where if h >= 0x0400 else 'one'} {_binade(h)}"


def _binade(h: int) -> str:
    return f"2^{(h >> 10) - 15}" if h >= 0x0400 else f"subnormal of {h.bit_length()} bits"


def _among_halves(d: int, h: int) -> str:
    """Say where the f32 d lies: on a half, on a tie, an ULP beside one, or elsewhere; h is f16(d)."""
    exact, near = oracle.value(d, F32), oracle.value(h, F16)
    if exact == near:
        return "a half"
    below = h if near < exact else h - 1
    above = oracle.value(below + 1, F16) if below < F16.max_finite else Fraction(65536)
    tie = oracle.nearest((oracle.value(below, F16) + above) / 2, F32)
    beside = {tie - 1: "just below a tie", tie: "a tie that goes ", tie + 1: "just above a tie"}
    word = beside.get(d, "between halves")
    return f"{word}{'down' if near < exact else 'up'}" if d == tie else word


def _codes(groups: Sequence[Sequence[int]]) -> Iterator[str]:
    """Say how the products x * inv lie to the half integers, for each scale that comes up."""
    by_amax: dict[int, set[int]] = {}
    for xs in groups:
        by_amax.setdefault(oracle.amax(xs), set()).update(xs)
    for top, elements in by_amax.items():
        if top and {0, F32.sign} & elements:
            yield "a zero among others"
        if any(0 < x & (F32.sign - 1) < 0x00800000 for x in elements):
            yield "a subnormal element"
        h = oracle.f16_from_f32(oracle.nearest(Fraction(oracle.value(top, F32), 127), F32))
        if h:
            yield from _boundaries(elements, top, _binade(h))


def _boundaries(xs: Iterable[int], top: int, binade: str) -> Iterator[str]:
    """Say which elements stand at a boundary k + 1/2, on either side of it; `top` is their amax."""
    whole = 127 / oracle.value(top, F32)
    inverse = oracle.value(oracle.nearest(whole, F32), F32)
    rounded = "exact" if inverse == whole else "rounded down" if inverse < whole else "rounded up"
    bits = oracle.value(top, F32).numerator.bit_length()
    amax = (
        f"127 / amax {rounded}, amax of {8 if bits <= 8 else 16 if bits <= 16 else 24} bits, scale {binade}"
    )
    factor = float(inverse)
    ties: dict[str, set[int]] = {"exactly": set(), "by rounding": set()}
    crossed = set()
    for x in xs:
        size = x & (F32.sign - 1)
        exact = _float(size) * factor  # 24 times 24 bits: a double holds it
        product = _to_f32(exact)
        k = int(product)
        sign = "negative" if x & F32.sign else "positive"
        if product - k == 0.5:
            how = "exactly" if product == exact else "by rounding"
            ties[how].add(k)
            yield f"a tie {how}, {sign}, {'odd' if k & 1 else 'even'}, scale {binade}"
        code = _code(size, factor)
        if size and size != top and _code(size - 1, factor) != code:
            crossed.add(code)
            yield f"the first float with the code {code}, {sign}"
            yield f"the first float with a code, {amax}"
        if size != top and _code(size + 1, factor) != code:
            yield f"the last float with the code {code}, {sign}"
        if size == _BELOW_HALF:
            yield "0.49999997"
    for how, places in ties.items():
        yield from (f"{k} + 1/2 {how}" for k in places)
        if len(places) >= _MANY:
            yield f"many ties {how}, {amax}"
    if len(crossed) >= _MANY:
        yield f"many boundaries, {amax}"


def _code(size: int, factor: float) -> int:
    """Give roundf(f32(x * inv)) of a positive pattern; 0.5 is added in double, where nothing is lost."""
    return int(_to_f32(_float(size) * factor) + 0.5)


def _float(bits: int) -> float:
    number: float = struct.unpack("<f", bits.to_bytes(4, "little"))[0]
    return number


def _to_f32(number: float) -> float:
    """Round a double to f32, ties to even, as struct does."""
    rounded: float = struct.unpack("<f", struct.pack("<f", number))[0]
    return rounded


def _neighbours(before: Sequence[int], xs: Sequence[int]) -> Iterator[str]:
    """Say what stands between two blocks: what one leaves behind, the other may find."""
    one, other = oracle.amax(before), oracle.amax(xs)
    if not one or not other:
        if one or other:
            yield "zeros after a block" if one else "a block after zeros"
        return
    step = (other >> 23) - (one >> 23)
    if abs(step) >= _FAR:
        yield f"a much {'larger' if step > 0 else 'smaller'} block after another"
