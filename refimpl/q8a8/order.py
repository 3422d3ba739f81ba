r"""The accumulation orders: in which order a kernel adds up a dot product, as frozen data (Q8A8-ORD-1).

Float addition is not associative, so the bits of a dot product depend on the order of its additions, and on
which products are fused into them. Every kernel in the field can be described by the same few facts; `Order`
holds them, `q8a8.dot` interprets them, so that no kernel needs a loop of its own. Adding one is one
entry below.

How a kernel works, and the field that describes it::

    block b        qs[0] ... qs[31]           `lanes`: which bytes each lane of the vector sums, in int32
                      |        |
                   s[0] ... s[L-1]            exact, |s| <= 2^19; converted to f32 exactly
                      |  * d   |              d = dx * dy, exact
    accumulator    r[0] ... r[L-1]            `body`: which accumulator takes which block of a step;
                       \   /                  `fused`: f32(r + s*d), or f32(r + f32(s*d))
                       fold                   `fold`: a binary tree over the lanes of all accumulators
                        |
    sum            + tail blocks              `tail`: what happens to blocks that do not fill a step
                                              `tail_fused`: as `fused`, for the tail

`Tail` describes a tail that is neither of the two usual ones, and `TreeOrder` holds the additions one by one,
for kernels that are not as regular as that: any tree is data.

Registers are numbered accumulator by accumulator: lane l of accumulator a is register a*L + l. A fold is such
a number, or a pair of folds that are added: ((0, 1), (2, 3)) is (r0 + r1) + (r2 + r3). All start at +0.

The sources are those of ggml (`ggml-cpu/arch/*/quants.c`), read and, where a binary could be had, compared
bit for bit. `-ffp-contract` decides about the rest: GCC and clang fuse a C product and sum wherever the
machine has the instruction, unless told not to; GCC keeps the intrinsics `vmlaq_f32` and `vmlaq_n_f32` as a
product and a sum, clang fuses them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias, overload

from q8a8.errors import UnknownNameError
from q8a8.layout import QK8_A8

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "ORDERS",
    "WHOLE",
    "Additions",
    "AnyOrder",
    "Fold",
    "Lanes",
    "Order",
    "Program",
    "Scales",
    "Tail",
    "TreeOrder",
    "fold_leaves",
    "get_order",
    "halves",
    "pairwise",
    "sequential",
]

Lanes: TypeAlias = tuple[tuple[int, ...], ...]
"""For each lane the bytes of the block that it sums."""

Fold: TypeAlias = "int | tuple[Fold, Fold]"
"""A register, or the sum of two folds. Float addition commutes, so left and right do not matter."""

Additions: TypeAlias = "tuple[tuple[int, int], ...]"
"""A tree of any shape over n terms: entry k adds two numbers, terms or earlier sums, and is number n + k."""

Scales: TypeAlias = Literal["product", "x", "y"]
"""How a term s*dx*dy is formed: s*(dx*dy), where dx*dy is exact; f32(s*dx)*dy; or f32(s*dy)*dx."""

WHOLE: Lanes = (tuple(range(QK8_A8)),)
"""One lane: the block's whole sum."""


def fold_leaves(fold: Fold, depth: int = 0) -> Iterator[tuple[int, int]]:
    """Yield every register in a fold with the number of additions between it and the fold's result."""
    if isinstance(fold, int):
        yield fold, depth
    else:
        yield from fold_leaves(fold[0], depth + 1)
        yield from fold_leaves(fold[1], depth + 1)


def pairwise(first: int, count: int) -> Fold:
    """Fold neighbours, then their sums, as Arm's FADDP and FADDV do: (r0 + r1) + (r2 + r3)."""
    if count == 1:
        return first
    half = count // 2
    return pairwise(first, half), pairwise(first + half, half)


def halves(first: int, count: int) -> Fold:
    """Fold the upper half of the registers onto the lower, until one is left: (r0 + r2) + (r1 + r3)."""

    def fold(register: int, stride: int) -> Fold:
        if stride == count:
            return first + register
        return fold(register, 2 * stride), fold(register + stride, 2 * stride)

    return fold(0, 1)


def sequential(first: int, count: int) -> Fold:
    """Fold from left to right: ((r0 + r1) + r2) + r3."""
    fold: Fold = first
    for register in range(first + 1, first + count):
        fold = (fold, register)
    return fold


def _join(count: int) -> tuple[Fold, ...]:
    """Add two accumulators of `count` lanes as vectors: the sums are the leaves of what folds them."""
    return tuple((lane, lane + count) for lane in range(count))


def _pairwise_of(folds: tuple[Fold, ...]) -> Fold:
    """Fold neighbouring folds, then their sums; a power of two of them."""
    if len(folds) == 1:
        return folds[0]
    half = len(folds) // 2
    return _pairwise_of(folds[:half]), _pairwise_of(folds[half:])


def _require_every_byte(name: str, lanes: Lanes) -> None:
    """Refuse lanes that forget a byte or use one twice."""
    if sorted(byte for lane in lanes for byte in lane) != list(range(QK8_A8)):
        raise ValueError(f"order {name}: the lanes do not own each of {QK8_A8} bytes once")


@dataclass(frozen=True)
class Tail:
    """Where the blocks go that the last whole step leaves over, if not to the folded sum or the accumulators.

    Parameters
    ----------
    lanes
        As those of the order, for these blocks.
    start
        The registers of the tail, accumulator by accumulator as in the order: each a fold of the order's
        registers, or None for +0. A kernel that first adds its accumulators as vectors has a fold a lane.
    body
        The accumulator that takes each block, over and over.
    """

    lanes: Lanes
    start: tuple[Fold | None, ...]
    body: tuple[int, ...]


@dataclass(frozen=True)
class Order:
    """One way to add up a dot product.

    Parameters
    ----------
    name
        As in `ORDERS`.
    lanes
        For each lane the bytes of a block that it sums; together every byte of the block, each once.
    body
        The accumulator that takes each block of one step: (0,) is one accumulator, (0, 1) is two for even and
        odd blocks. A step is `len(body)` blocks.
    fold
        How the registers become one sum: every register once. With a `Tail`, those of the tail.
    fused
        Whether a step adds s*d with one rounding, f32(r + s*d), or with two, f32(r + f32(s*d)).
    tail
        Blocks left over by the last whole step: "scalar" adds each block's whole sum to the folded sum, in
        order; "body" gives them to the accumulators as if the step went on; or a `Tail`.
    tail_fused
        As `fused`, for a scalar tail.
    nrc
        Rows of x and y that one call of such a kernel takes: 2 for i8mm. The bits of one result do not depend
        on it.
    source
        The kernels that add in this order.
    scales
        How a term is formed from its two scales.
    """

    name: str
    lanes: Lanes
    body: tuple[int, ...]
    fold: Fold
    fused: bool
    tail: Literal["scalar", "body"] | Tail
    tail_fused: bool
    nrc: int
    source: str
    scales: Scales = "product"

    def __post_init__(self) -> None:
        """Refuse an order that forgets a byte or a register, or uses one twice."""
        _require_every_byte(self.name, self.lanes)
        if not self.body or set(self.body) != set(range(max(self.body) + 1)):
            raise ValueError(f"order {self.name}: the body skips an accumulator")
        folds: tuple[Fold | None, ...] = (self.fold,)
        if isinstance(self.tail, Tail):
            _require_every_byte(self.name, self.tail.lanes)
            accumulators, rest = divmod(len(self.tail.start), len(self.tail.lanes))
            if rest or not self.tail.body or max(self.tail.body) >= accumulators:
                raise ValueError(f"order {self.name}: the tail has no register for each lane and accumulator")
            if sorted(r for r, _ in fold_leaves(self.fold)) != list(range(len(self.tail.start))):
                raise ValueError(
                    f"order {self.name}: the fold does not use each of the tail's registers once"
                )
            folds = self.tail.start
        elif self.tail not in {"scalar", "body"}:
            raise ValueError(f"order {self.name}: no tail is called {self.tail!r}")
        used = sorted(register for fold in folds if fold is not None for register, _ in fold_leaves(fold))
        if used != list(range(self.registers)):
            raise ValueError(
                f"order {self.name}: the fold does not use each of {self.registers} registers once"
            )

    @property
    def accumulators(self) -> int:
        """Vector accumulators."""
        return max(self.body) + 1

    @property
    def registers(self) -> int:
        """Partial sums: the lanes of all accumulators."""
        return self.accumulators * len(self.lanes)

    @property
    def remainder(self) -> tuple[Tail, Fold]:
        """What takes the blocks after the last whole step, and the fold of its registers into the sum."""
        if isinstance(self.tail, Tail):
            return self.tail, self.fold
        return Tail(WHOLE, (self.fold,), (0,)), 0


@dataclass(frozen=True)
class Program:
    """All additions of a dot product of one length: any lanes in each block, any binary tree over them.

    Parameters
    ----------
    lanes
        For each block the bytes that each of its terms sums. Terms are numbered block by block.
    additions
        The additions of all terms.
    fused
        For each addition whether its right operand is a term s*d that is added with one rounding.
    """

    lanes: tuple[Lanes, ...]
    additions: Additions
    fused: tuple[bool, ...]

    def __post_init__(self) -> None:
        """Refuse a program that forgets a byte, a term or a sum, or uses one twice."""
        for lanes in set(self.lanes):
            _require_every_byte("of a tree", lanes)
        terms = sum(map(len, self.lanes))
        used = sorted(number for pair in self.additions for number in pair)
        late = any(max(pair) >= terms + k for k, pair in enumerate(self.additions))
        if late or len(self.additions) != max(terms - 1, 0) or used != list(range(2 * len(self.additions))):
            raise ValueError(f"the additions of {len(self.lanes)} blocks are no tree")
        sums = any(fused and pair[1] >= terms for pair, fused in zip(self.additions, self.fused, strict=True))
        if sums:
            raise ValueError("a sum is no product that could be fused")

    @classmethod
    def of_blocks(cls, nb: int, lanes: Lanes, additions: Additions, *, fused: bool = False) -> Program:
        """Return the program of blocks that all have the same lanes; every product is fused that can be."""
        terms = nb * len(lanes)
        return cls((lanes,) * nb, additions, tuple(fused and right < terms for _, right in additions))


@dataclass(frozen=True)
class TreeOrder:
    """A way to add up a dot product, addition by addition.

    Parameters
    ----------
    name
        Of the order.
    programs
        The additions by the number of blocks of a row. Rows of other lengths have no result.
    source
        Whose order it is.
    scales
        As that of `Order`.
    nrc
        As that of `Order`.
    """

    name: str
    programs: Mapping[int, Program]
    source: str
    scales: Scales = "product"
    nrc: int = 1


AnyOrder: TypeAlias = "Order | TreeOrder"
"""An order by rule, or by its additions."""


# vdotq_s32 over each half of the block, the halves added: lane k owns 4k..4k+3 of each.
_QUADS: Lanes = tuple(tuple(range(4 * k, 4 * k + 4)) + tuple(range(16 + 4 * k, 20 + 4 * k)) for k in range(4))

# vmull_s8 and vpaddlq_s16 over each half: lane k owns {2k, 2k+1, 8+2k, 9+2k} of each.
_PAIRS: Lanes = tuple(
    tuple(16 * half + byte for half in (0, 1) for byte in (2 * k, 2 * k + 1, 8 + 2 * k, 9 + 2 * k))
    for k in range(4)
)

# One vector of 32 bytes: lane k owns 4k..4k+3.
_OCTET: Lanes = tuple(tuple(range(4 * k, 4 * k + 4)) for k in range(8))

# vaddvq_f32 of each accumulator, then their sum.
_EACH_PAIRWISE: Fold = (pairwise(0, 4), pairwise(4, 4))
# svadd_f32 of the two accumulators, then svaddv_f32.
_JOINED_4: Fold = _pairwise_of(_join(4))
_JOINED_8: Fold = _pairwise_of(_join(8))
# x + reverse(x), then its first two lanes: (l0 + l3) + (l1 + l2).
_MIRRORED: Fold = ((0, 3), (1, 2))


def _order(
    name: str,
    lanes: Lanes,
    body: tuple[int, ...],
    fold: Fold,
    *,
    fused: bool,
    tail_fused: bool | None = None,
    nrc: int = 1,
    source: str,
) -> Order:
    """Build an entry of the table: all have a scalar tail, contracted like the body unless said otherwise."""
    tail_fused = fused if tail_fused is None else tail_fused
    return Order(name, lanes, body, fold, fused, "scalar", tail_fused, nrc, source)


_TABLE = (
    _order(
        "scalar", WHOLE, (0,), 0, fused=False,
        source="the specification; ggml's C loop and its RISC-V kernel, not contracted: x86-64 without AVX",
    ),
    _order(
        "scalar-fma", WHOLE, (0,), 0, fused=True,
        source="the same C, contracted: GCC and clang for aarch64, for x86-64 with -mfma, for RISC-V",
    ),
    # Arm without dotprod.
    _order(
        "neon", _PAIRS, (0, 1), _EACH_PAIRWISE, fused=False,
        source="ggml NEON without dotprod, -ffp-contract=off",
    ),
    _order(
        "neon-fma", _PAIRS, (0, 1), _EACH_PAIRWISE, fused=True,
        source="ggml NEON without dotprod, clang",
    ),
    _order(
        "neon-gcc", _PAIRS, (0, 1), _EACH_PAIRWISE, fused=False, tail_fused=True,
        source="ggml NEON without dotprod, GCC: vmlaq_n_f32 in two instructions, the scalar tail in one",
    ),
    _order(
        "neon-armv7", _PAIRS, (0, 1), (sequential(0, 4), sequential(4, 4)), fused=False,
        source="ggml NEON on 32-bit Arm: vaddvq_f32 is a C sum from left to right",
    ),
    # Arm with dotprod.
    _order(
        "neon-dotprod", _QUADS, (0, 1), _EACH_PAIRWISE, fused=False,
        source="ggml NEON with dotprod, -ffp-contract=off",
    ),
    _order(
        "neon-dotprod-fma", _QUADS, (0, 1), _EACH_PAIRWISE, fused=True,
        source="ggml NEON with dotprod, clang",
    ),
    _order(
        "neon-dotprod-gcc", _QUADS, (0, 1), _EACH_PAIRWISE, fused=False, tail_fused=True,
        source="ggml NEON with dotprod, GCC",
    ),
    # Arm with i8mm and nrc = 2; with nrc = 1 such a build is neon-dotprod or SVE. One multiply-add a block
    # and no tail: the bits are those of the scalar orders.
    _order(
        "i8mm", WHOLE, (0,), 0, fused=False, nrc=2,
        source="ggml vmmlaq_s32, GCC or -ffp-contract=off",
    ),
    _order(
        "i8mm-fma", WHOLE, (0,), 0, fused=True, nrc=2,
        source="ggml vmmlaq_s32, clang",
    ),
    # Arm SVE: svmla is fused under every flag, the scalar tail unless -ffp-contract=off.
    _order(
        "sve-128", _QUADS, (0, 1), _JOINED_4, fused=True,
        source="ggml SVE, 128-bit vectors",
    ),
    _order(
        "sve-128-plain-tail", _QUADS, (0, 1), _JOINED_4, fused=True, tail_fused=False,
        source="ggml SVE, 128-bit vectors, -ffp-contract=off",
    ),
    _order(
        "sve-256", _OCTET, (0, 1), _JOINED_8, fused=True,
        source="ggml SVE, 256-bit vectors",
    ),
    _order(
        "sve-256-plain-tail", _OCTET, (0, 1), _JOINED_8, fused=True, tail_fused=False,
        source="ggml SVE, 256-bit vectors, -ffp-contract=off",
    ),
    # The two accumulators are the halves of one vector, and svaddv_f32 folds its 16 lanes.
    _order(
        "sve-512", _OCTET, (0, 1), pairwise(0, 16), fused=True,
        source="ggml SVE, 512-bit vectors",
    ),
    _order(
        "sve-512-plain-tail", _OCTET, (0, 1), pairwise(0, 16), fused=True, tail_fused=False,
        source="ggml SVE, 512-bit vectors, -ffp-contract=off",
    ),
    # x86. hsum_float_8 adds the upper half to the lower, then lanes 2, 3 to 0, 1, then 1 to 0.
    _order(
        "avx2", _OCTET, (0,), halves(0, 8), fused=True,
        source="ggml AVX2 with FMA, with or without VNNI and AVX-512; LoongArch LASX",
    ),
    _order(
        "avx", _QUADS, (0, 1), halves(0, 8), fused=False,
        source="ggml AVX without AVX2: an even and an odd block in the halves of one vector",
    ),
    _order(
        "avx-fma", _QUADS, (0, 1), halves(0, 8), fused=True,
        source="ggml AVX and FMA without AVX2, GCC: it fuses the intrinsics' product and sum",
    ),
    _order(
        "avx-fma-tail", _QUADS, (0, 1), halves(0, 8), fused=False, tail_fused=True,
        source="ggml AVX and FMA without AVX2, clang: it fuses the C loop alone",
    ),
    # Elsewhere.
    _order(
        "wasm", _PAIRS, (0,), sequential(0, 4), fused=False,
        source="ggml WebAssembly SIMD",
    ),
    _order(
        "power9", _QUADS, (0,), _MIRRORED, fused=True,
        source="ggml POWER9, little-endian",
    ),
    _order(
        "s390x", _PAIRS, (0,), _MIRRORED, fused=True,
        source="ggml s390x vector extensions",
    ),
    _order(
        "lsx", _QUADS, (0,), pairwise(0, 4), fused=True,
        source="ggml LoongArch LSX",
    ),
)  # fmt: skip

ORDERS: Mapping[str, Order] = MappingProxyType({order.name: order for order in _TABLE})
"""Every known order by name."""


@overload
def get_order(order: str | Order) -> Order: ...
@overload
def get_order(order: str | AnyOrder) -> AnyOrder: ...
def get_order(order: str | AnyOrder) -> AnyOrder:
    """Return the order of this name; an order is returned as it is.

    Raises
    ------
    UnknownNameError
        where `ORDERS` has no such name; the message lists those that there are.
    """
    if not isinstance(order, str):
        return order
    try:
        return ORDERS[order]
    except KeyError:
        raise UnknownNameError("order", order, ORDERS) from None
