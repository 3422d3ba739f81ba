"""Every accumulation order, bit for bit, against slow models written from the kernels' own loops.

A model is plain Python over integers: every value is a multiple of 2^-48 and is held in that unit, and
`f32` rounds it to 24 bits. The models are loops in the shape of the C kernels; they share no data with
`q8a8.order`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from q8a8.dot import vec_dot, vec_dot_real
from q8a8.layout import BLOCK_Q8_A8, BLOCK_Q8_A8_V2
from q8a8.order import ORDERS

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.rule("Q8A8-DOT-3", "Q8A8-DOT-9", "Q8A8-DOT-10", "Q8A8-ORD-1")

# One block: the 32 products qx_j * qy_j, and dx * dy in units of 2^-48.
Block = tuple[list[int], int]


def f32(value: int) -> int:
    """Round to 24 significant bits, ties to even."""
    shift = max(0, abs(value).bit_length() - 24)
    return round(Fraction(value, 1 << shift)) << shift


def madd(total: int, s: int, d: int, *, fused: bool) -> int:
    """Add a product, with one rounding or with two."""
    return f32(total + s * d) if fused else f32(total + f32(s * d))


def c_loop(row: list[Block], *, fused: bool, total: int = 0) -> int:
    """Run the loop of the specification; it is every kernel's tail too."""
    for products, d in row:
        total = madd(total, sum(products), d, fused=fused)
    return total


def vdot(p: list[int]) -> list[int]:
    """Sum the lanes of vdotq_s32 over both halves of a block."""
    return [sum(p[4 * k : 4 * k + 4]) + sum(p[16 + 4 * k : 20 + 4 * k]) for k in range(4)]


def vmull_vpaddl(p: list[int]) -> list[int]:
    """Sum the lanes of vmull_s8 and vpaddlq_s16: each eight bytes pairwise, then added."""
    lanes = [0, 0, 0, 0]
    for start in (0, 8, 16, 24):
        for k in range(4):
            lanes[k] += p[start + 2 * k] + p[start + 2 * k + 1]
    return lanes


def octets(p: list[int]) -> list[int]:
    """Sum the eight lanes of one 32-byte vector."""
    return [sum(p[4 * k : 4 * k + 4]) for k in range(8)]


def vector_madd(acc: list[int], lanes: list[int], d: int, *, fused: bool) -> list[int]:
    """Add the product of a vector with a scalar."""
    return [madd(a, s, d, fused=fused) for a, s in zip(acc, lanes, strict=True)]


def vector_add(a: list[int], b: list[int]) -> list[int]:
    """Add two vectors."""
    return [f32(x + y) for x, y in zip(a, b, strict=True)]


def faddp(v: list[int]) -> int:
    """Add neighbours until one is left: vaddvq_f32, svaddv_f32."""
    while len(v) > 1:
        v = [f32(v[i] + v[i + 1]) for i in range(0, len(v), 2)]
    return v[0]


def left_to_right(v: list[int]) -> int:
    """Add the lanes as C adds a + b + c + d."""
    total = v[0]
    for lane in v[1:]:
        total = f32(total + lane)
    return total


def hsum_float_8(v: list[int]) -> int:
    """Add the upper half onto the lower, thrice."""
    r = vector_add(v[4:], v[:4])
    r = [f32(r[0] + r[2]), f32(r[1] + r[3])]
    return f32(r[0] + r[1])


def two_accumulators(
    row: list[Block], lanes: Callable[[list[int]], list[int]], *, fused: bool
) -> tuple[list[int], list[int], list[Block]]:
    """Run a body of two accumulators for even and odd blocks; return them and what is left over."""
    acc0 = [0] * len(lanes([0] * 32))
    acc1 = list(acc0)
    paired = len(row) - len(row) % 2
    for b in range(0, paired, 2):
        acc0 = vector_madd(acc0, lanes(row[b][0]), row[b][1], fused=fused)
        acc1 = vector_madd(acc1, lanes(row[b + 1][0]), row[b + 1][1], fused=fused)
    return acc0, acc1, row[paired:]


def one_accumulator(row: list[Block], lanes: Callable[[list[int]], list[int]], *, fused: bool) -> list[int]:
    """Run a body of one accumulator."""
    acc = [0] * len(lanes([0] * 32))
    for products, d in row:
        acc = vector_madd(acc, lanes(products), d, fused=fused)
    return acc


def arm(
    row: list[Block],
    lanes: Callable[[list[int]], list[int]],
    addv: Callable[[list[int]], int] = faddp,
    *,
    fused: bool,
    tail_fused: bool,
) -> int:
    """Ggml's NEON kernel: sumf = vaddvq_f32(sumv0) + vaddvq_f32(sumv1), then the C tail."""
    acc0, acc1, left = two_accumulators(row, lanes, fused=fused)
    return c_loop(left, fused=tail_fused, total=f32(addv(acc0) + addv(acc1)))


def sve(row: list[Block], lanes: Callable[[list[int]], list[int]], *, tail_fused: bool) -> int:
    """Ggml's SVE kernel at 128 and 256 bits: svaddv_f32(svadd_f32(sumv0, sumv1)), then the C tail."""
    acc0, acc1, left = two_accumulators(row, lanes, fused=True)
    return c_loop(left, fused=tail_fused, total=faddp(vector_add(acc0, acc1)))


def sve_512(row: list[Block], *, tail_fused: bool) -> int:
    """Ggml's SVE kernel at 512 bits: an even and an odd block in one vector of 16 lanes."""
    acc0, acc1, left = two_accumulators(row, octets, fused=True)
    return c_loop(left, fused=tail_fused, total=faddp(acc0 + acc1))


def avx(row: list[Block], *, fused: bool, tail_fused: bool) -> int:
    """Ggml's AVX kernel: an even block in the lower, an odd one in the upper half of a vector."""
    acc0, acc1, left = two_accumulators(row, vdot, fused=fused)
    return c_loop(left, fused=tail_fused, total=hsum_float_8(acc0 + acc1))


def mirrored(v: list[int]) -> int:
    """Add a vector to its reverse, then the first two lanes."""
    r = vector_add(v, v[::-1])
    return f32(r[0] + r[1])


MODELS: dict[str, Callable[[list[Block]], int]] = {
    "scalar": lambda row: c_loop(row, fused=False),
    "scalar-fma": lambda row: c_loop(row, fused=True),
    "neon": lambda row: arm(row, vmull_vpaddl, fused=False, tail_fused=False),
    "neon-fma": lambda row: arm(row, vmull_vpaddl, fused=True, tail_fused=True),
    "neon-gcc": lambda row: arm(row, vmull_vpaddl, fused=False, tail_fused=True),
    "neon-armv7": lambda row: arm(row, vmull_vpaddl, left_to_right, fused=False, tail_fused=False),
    "neon-dotprod": lambda row: arm(row, vdot, fused=False, tail_fused=False),
    "neon-dotprod-fma": lambda row: arm(row, vdot, fused=True, tail_fused=True),
    "neon-dotprod-gcc": lambda row: arm(row, vdot, fused=False, tail_fused=True),
    "i8mm": lambda row: one_accumulator(row, lambda p: [sum(p)], fused=False)[0],
    "i8mm-fma": lambda row: one_accumulator(row, lambda p: [sum(p)], fused=True)[0],
    "sve-128": lambda row: sve(row, vdot, tail_fused=True),
    "sve-128-plain-tail": lambda row: sve(row, vdot, tail_fused=False),
    "sve-256": lambda row: sve(row, octets, tail_fused=True),
    "sve-256-plain-tail": lambda row: sve(row, octets, tail_fused=False),
    "sve-512": lambda row: sve_512(row, tail_fused=True),
    "sve-512-plain-tail": lambda row: sve_512(row, tail_fused=False),
    "avx2": lambda row: hsum_float_8(one_accumulator(row, octets, fused=True)),
    "avx": lambda row: avx(row, fused=False, tail_fused=False),
    "avx-fma": lambda row: avx(row, fused=True, tail_fused=True),
    "avx-fma-tail": lambda row: avx(row, fused=False, tail_fused=True),
    "wasm": lambda row: left_to_right(one_accumulator(row, vmull_vpaddl, fused=False)),
    "power9": lambda row: mirrored(one_accumulator(row, vdot, fused=True)),
    "s390x": lambda row: mirrored(one_accumulator(row, vmull_vpaddl, fused=True)),
    "lsx": lambda row: faddp(one_accumulator(row, vdot, fused=True)),
}

# Same bits on every input, by nature: i8mm keeps a block's whole sum.
TWINS = {"i8mm": "scalar", "i8mm-fma": "scalar-fma"}

SIZES = (0, 1, 2, 3, 4, 5, 7, 255, 256, 257)


def in_units(scale: np.float16) -> int:
    """Return a finite half in units of 2^-24."""
    return int(Fraction(float(scale)) * (1 << 24))


def model_bits(name: str, x: np.ndarray, y: np.ndarray, fields: tuple[str, str]) -> int:
    """Run a model on two rows of blocks and return the float32's bits."""
    row = [
        (
            [int(a) * int(b) for a, b in zip(bx["weight_qs"], by["weight_qs"], strict=True)],
            in_units(bx[fields[0]]) * in_units(by[fields[1]]),
        )
        for bx, by in zip(x, y, strict=True)
    ]
    # 24 bits: the conversion is exact.
    return int(np.float32(float(Fraction(MODELS[name](row), 1 << 48))).view(np.uint32))


def any_finite_half(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw from all finite bit patterns: subnormals, zeros and both signs come up."""
    bits = rng.integers(0, 0x7C00, shape).astype(np.uint16)
    return (bits | (rng.integers(0, 2, shape) << 15).astype(np.uint16)).view(np.float16)


def rows_of(kind: str, nb: int, rng: np.random.Generator) -> np.ndarray:
    """Make a row of blocks of a kind."""
    row = np.zeros(nb, BLOCK_Q8_A8)
    row["weight_qs"] = rng.integers(-128, 128, (nb, 32))
    row["weight_scale"] = rng.normal(size=nb).astype(np.float16)
    if kind == "all -128":
        row["weight_qs"] = -128
    elif kind == "any finite scale":
        row["weight_scale"] = any_finite_half(rng, (nb,))
    elif kind == "subnormal scales":
        row["weight_scale"] = (rng.integers(-1023, 1024, nb) * 2.0**-24).astype(np.float16)
    elif kind == "signed zero scales":
        row["weight_scale"] = np.where(rng.integers(0, 2, nb) == 1, -0.0, 0.0).astype(np.float16)
    elif kind == "cancelling":
        row["weight_scale"] = 1
        row["weight_scale"][1::2] = -1
    return row


KINDS = (
    "gaussian scales", "all -128", "any finite scale", "subnormal scales", "signed zero scales", "cancelling",
)  # fmt: skip


def test_every_order_has_a_model() -> None:
    """An order without a slow model of its own would not be checked by anything."""
    assert set(MODELS) == set(ORDERS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_an_order_gives_the_bits_of_its_model(name: str, kind: str) -> None:
    """Block counts around 4 and 256, odd and even, over six kinds of rows."""
    rng = np.random.default_rng([len(name), KINDS.index(kind)])
    for nb in SIZES:
        x, y = rows_of(kind, nb, rng), rows_of(kind, nb, rng)
        expected = model_bits(name, x, y, ("weight_scale", "weight_scale"))
        assert int(vec_dot(x, y, name).view(np.uint32)) == expected, f"{nb} blocks"


@pytest.mark.parametrize("name", MODELS)
def test_version_2_blocks_are_read_by_role(name: str) -> None:
    """Of x weight_scale, of y activation_scale count; the other fields hold NaN and are not read."""
    rng = np.random.default_rng(5)
    for nb in (1, 2, 5):
        x, y = (np.zeros(nb, BLOCK_Q8_A8_V2) for _ in range(2))
        for row, used, unused in (
            (x, "weight_scale", "activation_scale"),
            (y, "activation_scale", "weight_scale"),
        ):
            row["weight_qs"] = rng.integers(-128, 128, (nb, 32))
            row[used] = any_finite_half(rng, (nb,))
            row[unused] = np.nan
        expected = model_bits(name, x, y, ("weight_scale", "activation_scale"))
        assert int(vec_dot_real(x, y, name).view(np.uint32)) == expected


@settings(max_examples=40, deadline=None)
@given(nb=st.integers(0, 9), seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(KINDS))
def test_random_rows(nb: int, seed: int, kind: str) -> None:
    """Rows of any kind and small length, in every order."""
    rng = np.random.default_rng(seed)
    x, y = rows_of(kind, nb, rng), rows_of("any finite scale", nb, rng)
    for name in MODELS:
        expected = model_bits(name, x, y, ("weight_scale", "weight_scale"))
        assert int(vec_dot(x, y, name).view(np.uint32)) == expected, name


def test_orders_can_be_told_apart() -> None:
    """Any two orders give different bits for some row, or the table would hold one of them twice."""
    rng = np.random.default_rng(6)
    x, y = (np.stack([rows_of("gaussian scales", 33, rng) for _ in range(400)]) for _ in range(2))
    seen: dict[bytes, str] = {}
    for name in ORDERS:
        bits = vec_dot(x, y, name).tobytes()
        assert seen.setdefault(bits, name) == TWINS.get(name, name)


@pytest.mark.rule("Q8A8-DOT-4")
@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("nb", SIZES)
def test_exact_by_construction_rows_have_one_result(name: str, nb: int) -> None:
    """Where every partial sum of every order has 24 bits, all orders give the exact sum."""
    rng = np.random.default_rng(nb)
    x, y = np.zeros(nb, BLOCK_Q8_A8), np.zeros(nb, BLOCK_Q8_A8)
    for row in (x, y):
        row["weight_qs"] = rng.integers(-8, 9, (nb, 32))
        row["weight_scale"] = rng.choice([-2, -1, -0.5, 0.5, 1, 2], nb)
    # 257 blocks * 32 * 64 * 16 quarters < 2^24 quarters
    exact = sum(
        4 * float(bx["weight_scale"]) * float(by["weight_scale"])
        * sum(int(a) * int(b) for a, b in zip(bx["weight_qs"], by["weight_qs"], strict=True))
        for bx, by in zip(x, y, strict=True)
    ) / 4  # fmt: skip
    assert float(vec_dot(x, y, name)) == exact
