"""What a dequantizer was found to compute: laws, each a form that holds where its condition does.

An element is f32(h) · q of its own block. A law makes it otherwise at one of five stages, in this order::

    row         the element has the scale, or the code, of another place
    scale       the half is read as another value
    code        the code is read as another value
    product     something else is made of both
    store       something else is written: nothing, a constant, a sum with what was there

Laws of one stage are applied one after another. Arrays have a row per block; [n, 1] stands for [n, 32].
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8.rounding import f16_to_f32
from q8a8_conformance.inputs.calls import DEQUANTIZE, build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.reveal.places import Rule

Array = NDArray[Any]

F32 = np.float32
SIZE, BLOCK = 34, 32
LANES = np.arange(BLOCK)
HALVES = np.arange(1 << 16).astype(np.uint16)
FINITE = (HALVES & 0x7C00) != 0x7C00
CODES = np.arange(256).astype(np.uint8).view(np.int8)


def bits_of(y: Array) -> Array:
    """Return the bits of floats."""
    return np.ascontiguousarray(y, F32).view(np.uint32)


def places_of(nb: int, stride: int = SIZE, scale: int = 0, codes: int = 2) -> Array:
    """Return the bytes that are read as each block of a row, int [nb, 34]; -1 for those that it has not."""
    offsets = np.r_[scale : scale + 2, codes : codes + BLOCK]
    places = stride * np.arange(nb)[:, np.newaxis] + offsets
    return np.where(places < SIZE * nb, places, -1)


@cache
def read_right() -> tuple[Array, Array]:
    """Return the values of all halves, and of all codes by their bytes."""
    return f16_to_f32(HALVES.view(np.float16)), CODES.astype(F32)


@dataclass(frozen=True)
class Blocks:
    """Blocks of rows that were dequantized.

    Attributes
    ----------
    n, b, first
        int [k]: of each block the blocks of its row, its number there, and where its row begins here.
    h, q
        uint16 [k] and uint8 [k, 32]: the scales and the codes.
    before, got
        uint32 [k, 32]: the bits that the output held, and those that were written.
    usable
        bool [k]: whether the results say anything, as they do not under an infinite scale.
    """

    n: Array
    b: Array
    first: Array
    h: Array
    q: Array
    before: Array
    got: Array
    usable: Array

    @staticmethod
    def of(data: Array, before: Array, got: Array, usable: Array) -> Blocks:
        """Return the blocks of one row: uint8 [n, 34] as they are read, and the bits of outputs."""
        nb = len(data)
        h = np.ascontiguousarray(data[:, :2]).view("<u2")[:, 0]
        full = np.full(nb, nb)
        return Blocks(full, np.arange(nb), full * 0, h, data[:, 2:], before, got, FINITE[h] & usable)

    @staticmethod
    def join(some: Sequence[Blocks]) -> Blocks:
        """Return the blocks of several rows as one."""
        starts = np.cumsum([0, *(len(one.n) for one in some)])
        moved = [replace(one, first=one.first + start) for one, start in zip(some, starts, strict=False)]
        names = ("n", "b", "first", "h", "q", "before", "got", "usable")
        return Blocks(*(np.concatenate([getattr(one, name) for one in moved]) for name in names))


@dataclass(frozen=True)
class Values:
    """A condition on the values of a scale and a code.

    Attributes
    ----------
    text, data
        Its words, which follow "where"; and its parameters.
    holds
        (the scale's bits uint16 [k, 1 or 32], codes' bytes uint8 [k, 32]) -> bool.
    cost
        How much it says.
    """

    text: str
    data: dict[str, Any]
    holds: Callable[[Array, Array], Array]
    cost: int = 1


@dataclass(frozen=True)
class Condition:
    """Where a law holds: at places of rows, in elements of blocks, for values; None is everywhere."""

    places: Rule | None = None
    lanes: tuple[int, ...] | None = None
    values: Values | None = None

    def holds(self, blocks: Blocks, at: Array, h: Array, q: Array) -> Array:
        """Return where it holds in some blocks, by the values that are read: bool [k, 1 or 32]."""
        held = np.ones((len(at), 1), np.bool_)
        if self.places:
            n, b = blocks.n[at], blocks.b[at]
            held = self.places.position.holds(b, n)[:, np.newaxis]
            for one in self.places.length:
                held = held & one.holds(n, n)[:, np.newaxis]
        if self.lanes is not None:
            held = held & np.isin(LANES, self.lanes)
        return held & self.values.holds(h, q) if self.values else held

    @property
    def cost(self) -> int:
        """How much it says."""
        places = 1 + len(self.places.length) + (self.places.position.kind != "any") if self.places else 0
        return places + (self.lanes is not None) + (self.values.cost if self.values else 0)


@dataclass(frozen=True)
class Form:
    """What becomes of elements.

    Attributes
    ----------
    stage, fact
        One of the five, and the kind of fact that it is.
    what
        A sentence without its end, which follows a condition and a colon.
    gives
        By the stage: (b, n) -> (blocks whose scale it is [k, 1], places of the codes among all [k, 32]),
        None for the own ones; (h, d) -> d; (q, v) -> v; (d, v, y) -> y; (bits, before) -> bits.
    data
        Its parameters.
    cause
        The mistake of the catalogue that it is where it holds everywhere.
    cost
        How much it says beyond its stage.
    """

    stage: str
    fact: str
    what: str
    gives: Callable[..., Any]
    data: dict[str, Any] = field(default_factory=dict)
    cause: str = ""
    cost: int = 0


@dataclass(frozen=True)
class Law:
    """A form, and where it holds."""

    form: Form
    where: Condition = field(default_factory=Condition)


@dataclass(frozen=True)
class Dequantizer:
    """What a dequantizer computes.

    Attributes
    ----------
    places
        nb -> int [nb, 34]: the byte of the row that is read as each byte of a block; -1 for none, a zero.
    laws
        What is otherwise.
    """

    places: Callable[[int], Array] = places_of
    laws: tuple[Law, ...] = ()

    def blocks(self, row: Array, before: Array, got: Array) -> Blocks:
        """Return the blocks that are read in a row of bytes, uint8 [nb, 34]."""
        # (A place of -1 is the zero behind the row.)
        places = self.places(len(row))
        return Blocks.of(
            np.append(row.reshape(-1), np.uint8(0))[places],
            before,
            got,
            np.asarray((places >= 0).all(axis=1)),
        )

    def read(self, blocks: Blocks, at: Array) -> tuple[Array, Array]:
        """Return the halves [k, 1 or 32] and the codes' bytes [k, 32] that are read for some blocks."""
        own = at[:, np.newaxis]
        scales, codes = own, own * BLOCK + LANES
        moving = [law for law in self.laws if law.form.stage == "row"]
        if not moving:
            return blocks.h[own], blocks.q[at]
        first, n = blocks.first[own], blocks.n[own]
        for law in moving:
            held = law.where.holds(blocks, at, blocks.h[own], blocks.q[at])
            scale, code = law.form.gives(blocks.b[own], n)
            # (What is not in the row is the own one.)
            if scale is not None:
                scales = np.where(held & (scale >= 0) & (scale < n), scale + first, scales)
            if code is not None:
                codes = np.where(held & (code >= 0) & (code < n * BLOCK), code + first * BLOCK, codes)
        return blocks.h[scales], blocks.q.reshape(-1)[codes]

    def bits(self, blocks: Blocks, at: Array) -> Array:
        """Return the bits that are written for some blocks: uint32 [k, 32]."""
        h, q = self.read(blocks, at)
        halves, codes = read_right()
        d, v = halves[h], codes[q]
        with np.errstate(all="ignore"):
            for stage, one, right in (("scale", h, d), ("code", q, v)):
                values = right
                for law in self.laws:
                    if law.form.stage == stage:
                        held = law.where.holds(blocks, at, h, q)
                        values = np.where(held, law.form.gives(one, values), values)
                d, v = (values, v) if stage == "scale" else (d, values)
            y = d * v
            for law in self.laws:
                if law.form.stage == "product":
                    y = np.where(law.where.holds(blocks, at, h, q), law.form.gives(d, v, y), y)
        bits = bits_of(y)
        for law in self.laws:
            if law.form.stage == "store":
                changed = law.form.gives(bits, blocks.before[at])
                bits = np.where(law.where.holds(blocks, at, h, q), changed, bits)
        return bits

    def without(self, law: Law) -> Dequantizer:
        """Return it without one of its laws."""
        return replace(self, laws=tuple(one for one in self.laws if one is not law))


def outputs(model: Dequantizer, call: Call) -> tuple[bytes, ...]:
    """Return the output buffer that a model gives for a call."""
    blocks, rest = blocks_of(model, call, None)
    return (model.bits(blocks, np.arange(len(blocks.n))).astype("<u4").tobytes() + rest,)


def blocks_of(model: Dequantizer, call: Call, written: bytes | None) -> tuple[Blocks, bytes]:
    """Return the blocks of a call, with its output buffer, and what that buffer holds behind them."""
    nb = call.n // BLOCK
    held = bytes(call.buffers[1].data)
    row = np.frombuffer(bytes(call.buffers[0].data)[: SIZE * nb], np.uint8).reshape(nb, SIZE)
    before, got = (
        np.frombuffer(data[: 4 * BLOCK * nb], "<u4").reshape(nb, BLOCK) for data in (held, written or held)
    )
    return model.blocks(row, before, got), held[4 * BLOCK * nb :]


def build_row(row: Array) -> Call:
    """Build a call on a row's bytes, uint8 [nb, 34]."""
    return build(DEQUANTIZE, BLOCK * len(row), {"x": np.ascontiguousarray(row).tobytes()})
