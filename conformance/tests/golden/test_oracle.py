"""The exact oracle against C's own conversions (`struct`) and against values worked out by hand."""

from __future__ import annotations

import ast
import inspect
import struct
from fractions import Fraction

import pytest

from q8a8_golden import oracle
from q8a8_golden.generate.numbers import Stream, block, block_v2
from q8a8_golden.oracle import F16, F32, F64

FINITE_HALVES = [h for h in range(1 << 16) if h & 0x7FFF < 0x7C00]


def bits32(number: float) -> int:
    """Give a float's f32 bits."""
    return int.from_bytes(struct.pack("<f", number), "little")


def test_the_oracle_has_no_floats_and_imports_nothing_of_ours() -> None:
    """A float literal, a cast to float, NumPy or one of our modules would make it no witness."""
    tree = ast.parse(inspect.getsource(oracle))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {"__future__", "collections.abc", "dataclasses", "fractions", "functools", "typing"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert not [constant for constant in constants if isinstance(constant, float)]
    assert "float" not in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


@pytest.mark.rule("Q8A8-HLF-3")
def test_every_half_has_the_value_that_struct_gives_it() -> None:
    """All 63,488 finite halves: their value, their f32 bits with the sign of zero, and the way back."""
    for h in FINITE_HALVES:
        number = struct.unpack("<e", h.to_bytes(2, "little"))[0]
        assert oracle.value(h, F16) == Fraction(number)
        assert oracle.f32_from_f16(h) == bits32(number)
        assert oracle.f16_from_f32(oracle.f32_from_f16(h)) == h


@pytest.mark.rule("Q8A8-HLF-1", "Q8A8-HLF-2")
def test_rounding_to_half_is_that_of_struct_at_every_tie() -> None:
    """The tie above each positive half, and the double on either side of it, subnormals included."""
    for h in range(0x7BFF):
        tie = (oracle.value(h, F16) + oracle.value(h + 1, F16)) / 2
        ulp = Fraction(1, 1 << 80) + tie / (1 << 52)
        for number in (tie, Fraction(float(tie - ulp)), Fraction(float(tie + ulp))):
            expected = int.from_bytes(struct.pack("<e", float(number)), "little")
            assert oracle.nearest(number, F16) == expected
            assert oracle.nearest(-number, F16) == expected | 0x8000


@pytest.mark.rule("Q8A8-HLF-4")
@pytest.mark.parametrize(
    ("number", "bits"),
    [
        (Fraction(65504), 0x7BFF),
        (Fraction(65520) - Fraction(1, 256), 0x7BFF),
        (Fraction(65520), 0x7C00),
        (Fraction(10) ** 30, 0x7C00),
        (Fraction(1, 1 << 24), 0x0001),
        (Fraction(1, 1 << 25), 0x0000),
        (Fraction(1, 1 << 25) + Fraction(1, 1 << 60), 0x0001),
        (Fraction(3, 1 << 25), 0x0002),
        (Fraction(-1, 1 << 26), 0x8000),
        (Fraction(0), 0x0000),
    ],
)
def test_the_edges_of_half(number: Fraction, bits: int) -> None:
    """Overflow starts at 65520, and zero ends above 2^-25, by the definition of the format."""
    assert oracle.nearest(number, F16) == bits


def test_rounding_to_single_is_that_of_struct() -> None:
    """Doubles of every exponent that f32 has, subnormal results included."""
    stream = Stream(1)
    for _ in range(4000):
        exponent = stream.between(1023 - 152, 1023 + 127)
        double = struct.unpack("<d", (exponent << 52 | stream.word() >> 12).to_bytes(8, "little"))[0]
        try:
            expected = bits32(double)
        except OverflowError:
            expected = F32.infinity
        assert oracle.nearest(Fraction(double), F32) == expected


def test_double_is_exact_for_doubles() -> None:
    """A double rounded to double is itself: the third width that the rounding function knows."""
    for number in (0.1, 1.0, 5e-324, 1.7976931348623157e308, 2.2250738585072014e-308):
        assert oracle.nearest(Fraction(number), F64) == int.from_bytes(struct.pack("<d", number), "little")


@pytest.mark.parametrize(
    ("number", "away", "even"),
    [
        ("1/2", 1, 0),
        ("3/2", 2, 2),
        ("5/2", 3, 2),
        ("-1/2", -1, 0),
        ("-5/2", -3, -2),
        ("49/100", 0, 0),
        ("7/4", 2, 2),
    ],
)
def test_rounding_to_integers(number: str, away: int, even: int) -> None:
    """Ties away from zero and ties to even, with both signs."""
    assert oracle.half_away(Fraction(number)) == away
    assert oracle.half_even(Fraction(number)) == even


@pytest.mark.rule("Q8A8-QNT-4")
def test_a_block_by_hand() -> None:
    """An amax of 127 gives d = 1 and inv = 1: each code is its element, rounded as the recipe rounds."""
    xs = [bits32(x) for x in (127.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.49999997, -0.0)]
    assert oracle.quantize(xs) == oracle.Quantized(0x3C00, (127, 1, -1, 2, 3, -3, 0, 0))
    assert oracle.quantize(xs, "ggml-ref") == oracle.quantize(xs)
    even = oracle.Quantized(0x3C00, (127, 0, 0, 2, 2, -2, 0, 0))
    assert oracle.quantize(xs, "ggml-neon") == even
    assert oracle.quantize(xs, "ggml-avx2") == even


@pytest.mark.rule("Q8A8-QNT-3", "Q8A8-QNT-6")
def test_the_zero_test_is_on_the_stored_half() -> None:
    """At d = 2^-25 the half is zero and d is not: the recipes part, as each one's definition says."""
    amax = bits32(127 * 2.0**-25)
    assert oracle.quantize([amax]) == oracle.Quantized(0, (0,))
    assert oracle.quantize([amax], "ggml-ref") == oracle.Quantized(0, (127,))
    assert oracle.quantize([amax], "ggml-avx2") == oracle.Quantized(0, (127,))
    assert oracle.quantize([amax], "division") == oracle.Quantized(0, (127,))
    assert oracle.quantize([amax + 1]) == oracle.Quantized(1, (127,))


def test_where_recipes_are_undefined() -> None:
    """No inverse of a tiny d, no quotient by zero, no code beyond int8; x86 makes -128 of an infinity."""
    assert oracle.quantize([0], "division") is None
    assert oracle.quantize([bits32(127 * 2.0**-128)], "ggml-ref") is None
    assert oracle.quantize([190], "division") is None
    assert oracle.quantize([190], "ggml-avx2") == oracle.Quantized(0, (-128,))
    assert oracle.quantize([0], "ggml-neon") == oracle.Quantized(0, (0,))


@pytest.mark.rule("Q8A8-QNT-9")
def test_nothing_quantizes_to_a_zero_scale() -> None:
    """No element, no code, scale +0."""
    assert oracle.quantize([]) == oracle.Quantized(0, ())


@pytest.mark.rule("Q8A8-QNT-11")
def test_the_domain_ends_at_65520_times_127() -> None:
    """Finite and below: inside. At it, infinite, NaN: outside."""
    edge = bits32(65520.0 * 127)
    assert oracle.in_domain([0, edge - 1])
    for bad in (edge, edge | F32.sign, F32.infinity, 0x7FC00000, 0xFF800001):
        assert not oracle.in_domain([0, bad])


@pytest.mark.rule("Q8A8-DEQ-1")
def test_dequantize_by_hand() -> None:
    """Products and the signs of zero, with a negative scale."""
    row = oracle.dequantize(block(0xBC00, [0, 1, -128, *[0] * 29]))
    assert row[:3] == [bits32(-0.0), bits32(-1.0), bits32(128.0)]


@pytest.mark.rule("Q8A8-DOT-1", "Q8A8-DOT-2", "Q8A8-DOT-3")
def test_the_scalar_order_by_hand() -> None:
    """2^24, then twice 1: each 1 is a tie of the running sum, and goes to the even 2^24."""
    vx = block(0x7400, [8, *[0] * 31]) + block(0x3C00, [1, *[0] * 31]) * 2
    vy = block(0x4800, [16, *[0] * 31]) + block(0x3C00, [1, *[0] * 31]) * 2
    assert oracle.block_sums(vx, vy) == [128, 1, 1]
    assert oracle.value(0x7400, F16) * oracle.value(0x4800, F16) * 128 == 1 << 24
    assert oracle.dot(vx, vy) == bits32(2.0**24)
    assert oracle.exact_dot(vx, vy) == ((1 << 24) + 2) << 48
    assert oracle.magnitude(vx, vy) == ((1 << 24) + 2) << 48
    assert not oracle.order_independent(vx, vy)


@pytest.mark.rule("Q8A8-DOT-9", "Q8A8-LAY-5")
def test_version_2_takes_one_scale_of_each() -> None:
    """The first field of x and the second one of y; the others are NaNs."""
    vx, vy = block_v2(0x4000, 0x7E00, [1] * 32), block_v2(0xFE00, 0x4400, [3] * 32)
    assert oracle.dot(vx, vy, v2=True) == bits32(2.0 * 4.0 * 96)


@pytest.mark.rule("Q8A8-DOT-4")
@pytest.mark.parametrize(
    ("scales", "codes", "independent"),
    [
        ([(0x3C00, 0x3C00)], 127, True),
        ([(0x3C00, 0x3C00), (0x6400, 0x6400)], 1, False),  # 32 and 32 * 2^20: 26 bits apart
        ([(0x3C00, 0x3C00), (0x5C00, 0x5C00)], 1, True),  # 32 and 32 * 2^16: 22 bits
        ([(0x8000, 0x3C00)], 5, False),  # a zero whose sign may depend on the order
        ([(0x8000, 0x8000)], 5, True),
        ([(0x8000, 0x3C00), (0x3C00, 0x3C00)], 5, True),
    ],
)
def test_when_every_order_must_agree(scales: list[tuple[int, int]], codes: int, independent: bool) -> None:
    """The condition holds when all partial sums fit 24 bits, and does not for a zero of unsure sign."""
    vx = b"".join(block(dx, [codes] * 32) for dx, _ in scales)
    vy = b"".join(block(dy, [1] * 32) for _, dy in scales)
    assert oracle.order_independent(vx, vy) is independent


@pytest.mark.rule("Q8A8-ORD-2")
def test_the_bound_from_both_sides() -> None:
    """With magnitude 1 and m = 1 the bound is 2^-24: half an ULP of 1.0 is inside; an ULP or a NaN is not."""
    one = 1 << 48
    assert oracle.within_bound(bits32(1.0), one, one, 0)
    assert oracle.within_bound(bits32(1.0), one + (1 << 24), one, 1)
    assert not oracle.within_bound(bits32(1.0), one + (1 << 24) + 1, one, 1)
    assert not oracle.within_bound(bits32(1.0 + 2.0**-23), one, one, 1)
    assert oracle.within_bound(bits32(1.0 + 2.0**-23), one, one, 2)
    assert not oracle.within_bound(0x7FC00000, one, one, 10)
    assert oracle.within_bound(bits32(-0.0), 0, 0, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: oracle.value(0x7C00, F16), "0x7c00 is not finite"),
        (lambda: oracle.quantize_row([0] * 33), "33 elements"),
        (lambda: oracle.parse(b"\0" * 35), "35 bytes"),
    ],
)
def test_what_the_oracle_refuses(call: object, message: str) -> None:
    """An infinity has no value, and half a block is none."""
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()
