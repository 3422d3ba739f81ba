"""What a dequantizer was found to compute: laws, each a form that holds where its condition does.

An element is f32(h) · q of its own block. A law makes it otherwise at one of five stages, in this order::

    row         the element has the scale, or the code, of another place
    scale       the half is read as another value
    code        the code is read as another value
    product     something else is made of both
    store       something else is written: nothing, a constant, a sum with what was there

Laws of one stage are applied one after another. Arrays have a row per block; [n, 1] stands for [n, 32].

What a law gives, and its condition, may depend on more than the element: on its neighbours, and on the blocks
before it (`Read`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.rounding import f16_to_f32
from q8a8_conformance.inputs.calls import DEQUANTIZE, build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult
    from q8a8_conformance.reveal.places import Rule

F32 = np.float32
SIZE, BLOCK = 34, 32
LANES = np.arange(BLOCK)
HALVES = np.arange(1 << 16).astype(np.uint16)
FINITE = (HALVES & 0x7C00) != 0x7C00
CODES = np.arange(256).astype(np.uint8).view(np.int8)
NONE = 1 << 16
"""In the place of a half: there is no block."""

NAN = np.uint32(0x7FC00000)
"""What stands for any number that is none: its bits are free."""


def bits_of(y: Array) -> Array:
    """Return the bits of floats; those of a NaN are always the same."""
    bits = np.ascontiguousarray(y, F32).view(np.uint32)
    return np.where(bits & 0x7FFFFFFF > 0x7F800000, NAN, bits)


@lru_cache(8)
def places_of(nb: int, stride: int = SIZE, scale: int = 0, codes: int = 2) -> Array:
    """Return the bytes that are read as each block of a row, int [nb, 34]; -1 for those that it has not."""
    offsets = np.r_[scale : scale + 2, codes : codes + BLOCK]
    places = stride * np.arange(nb)[:, np.newaxis] + offsets
    places = np.where(places < SIZE * nb, places, -1)
    places.flags.writeable = False
    return places


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
    data
        uint8 [k, 34]: scales and codes.
    before, got
        uint32 [k, 32]: the bits that the output held, and those that were written.
    usable
        bool [k]: whether the results say anything, as they do not under an infinite scale.
    """

    n: Array
    b: Array
    first: Array
    data: Array
    before: Array
    got: Array
    usable: Array

    @cached_property
    def h(self) -> Array:
        """The scales, uint16 [k]."""
        return np.ascontiguousarray(self.data[:, :2]).view("<u2")[:, 0]

    @property
    def q(self) -> Array:
        """The codes, uint8 [k, 32]."""
        return self.data[:, 2:]

    @cached_property
    def kept(self) -> dict[object, Array]:
        """What was computed of all blocks, by what it is."""
        return {}

    def beside(self, at: Array, by: int) -> Array:
        """Return the scales of the blocks so many behind some, int [k, 1]; `NONE` where there is none."""
        b = self.b[at] + by
        other = np.where((b >= 0) & (b < self.n[at]), at + by, -1)
        return np.where(other >= 0, self.h[other].astype(np.int64), NONE)[:, np.newaxis]

    @staticmethod
    def of(data: Array, before: Array, got: Array, usable: Array) -> Blocks:
        """Return the blocks of one row: uint8 [n, 34] as they are read, and the bits of outputs."""
        nb = len(data)
        full = np.full(nb, nb)
        # (What was there before is no result.)
        got = np.where(got == before, got, bits_of(got.view(F32)))
        made = Blocks(full, np.arange(nb), full * 0, data, before, got, usable)
        return replace(made, usable=FINITE[made.h] & usable)

    @staticmethod
    def join(some: Sequence[Blocks]) -> Blocks:
        """Return the blocks of several rows as one."""
        starts = np.cumsum([0, *(len(one.n) for one in some)])
        moved = [replace(one, first=one.first + start) for one, start in zip(some, starts, strict=False)]
        return Blocks(
            *(np.concatenate([getattr(one, each.name) for one in moved]) for each in fields(Blocks))
        )


@dataclass(frozen=True)
class Read:
    """What is read for some blocks.

    Attributes
    ----------
    blocks, at
        The blocks are those at some numbers, int [k].
    h, q
        The scales' bits uint16 [k, 1 or 32], and the codes' bytes uint8 [k, 32].
    """

    blocks: Blocks
    at: Array
    h: Array
    q: Array

    @property
    def own(self) -> Array:
        """The numbers of the blocks in their rows, int [k, 1]."""
        return self.blocks.b[self.at, np.newaxis]

    @property
    def n(self) -> Array:
        """The lengths of their rows, int [k, 1]."""
        return self.blocks.n[self.at, np.newaxis]


@dataclass(frozen=True)
class Values:
    """A condition on the values of a scale and a code.

    Attributes
    ----------
    text, data
        Its words, which follow "where"; and its parameters.
    holds
        What is read -> bool [k, 1 or 32].
    cost
        How much it says.
    """

    text: str
    data: dict[str, Any]
    holds: Callable[[Read], Array]
    cost: int = 1


@dataclass(frozen=True)
class Condition:
    """Where a law holds: at places of rows, in elements of blocks, for values; None is everywhere."""

    places: Rule | None = None
    lanes: tuple[int, ...] | None = None
    values: Values | None = None

    def holds(self, read: Read) -> Array:
        """Return where it holds in what is read: bool [k, 1 or 32]."""
        held = np.ones((len(read.at), 1), np.bool_)
        if self.places:
            n, b = read.n[:, 0], read.own[:, 0]
            held = self.places.position.holds(b, n)[:, np.newaxis]
            for one in self.places.length:
                held = held & one.holds(n, n)[:, np.newaxis]
        if self.lanes is not None:
            held = held & np.isin(LANES, self.lanes)
        return held & self.values.holds(read) if self.values else held

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
        By the stage, of what is `Read`: read -> (in the row the bytes at which scales begin [k, 1], and those
        of the codes [k, 32]), None for the own ones; (read, d) -> d; (read, v) -> v; (read, d, v, y) -> y;
        (read, bits, before) -> bits.
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


def of_read(stage: str, change: Callable[..., Any]) -> Callable[..., Any]:
    """Return what a form gives, from a change of (h, d), (q, v), (d, v, y), or (bits, before)."""
    if stage == "scale":
        return lambda read, d: change(read.h, d)
    if stage == "code":
        return lambda read, v: change(read.q, v)
    return lambda _read, *own: change(*own)


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

    @property
    def moving(self) -> tuple[Law, ...]:
        """The laws that take elements from other places."""
        return tuple(law for law in self.laws if law.form.stage == "row")

    def read(self, blocks: Blocks, at: Array) -> Read:
        """Return what is read for some blocks."""
        read = Read(blocks, at, blocks.h[at, np.newaxis], blocks.q[at])
        if not self.moving:
            return read
        # (Only blocks in which a law holds are looked at.)
        held = [law.where.holds(read) for law in self.moving]
        some = np.flatnonzero(np.any([of.any(axis=1) for of in held], axis=0))
        part = Read(blocks, at[some], read.h[some], read.q[some])
        own = SIZE * part.own
        scales, codes = own, own + 2 + LANES
        for law, of in zip(self.moving, held, strict=True):
            scale, code = law.form.gives(part)
            # (What is not in the row is the own one.)
            if scale is not None:
                scales = np.where(of[some] & (scale >= 0) & (scale < SIZE * part.n - 1), scale, scales)
            if code is not None:
                codes = np.where(of[some] & (code >= 0) & (code < SIZE * part.n), code, codes)
        data, start = blocks.data.reshape(-1), SIZE * blocks.first[part.at, np.newaxis]
        h, q = np.repeat(read.h, scales.shape[1], axis=1), read.q.copy()
        low, high = (data[scales + start + byte].astype(np.uint16) for byte in (0, 1))
        h[some], q[some] = low | high << 8, data[codes + start]
        return replace(read, h=h, q=q)

    def bits(self, blocks: Blocks, at: Array, read: Read | None = None) -> Array:
        """Return the bits that are written for some blocks: uint32 [k, 32]."""
        read = read or self.read(blocks, at)
        halves, codes = read_right()
        d, v = halves[read.h], codes[read.q]
        with np.errstate(all="ignore"):
            d, v = self._applied("scale", read, d), self._applied("code", read, v)
            y = d * v
            for law in self.laws:
                if law.form.stage == "product":
                    y = np.where(law.where.holds(read), law.form.gives(read, d, v, y), y)
        bits = bits_of(y)
        for law in self.laws:
            if law.form.stage == "store":
                changed = law.form.gives(read, bits, blocks.before[at])
                bits = np.where(law.where.holds(read), changed, bits)
        return bits

    def _applied(self, stage: str, read: Read, values: Array) -> Array:
        """Return the values of scales, or of codes, after the laws about them."""
        for law in self.laws:
            if law.form.stage == stage:
                values = np.where(law.where.holds(read), law.form.gives(read, values), values)
        return values

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


def is_alike(_model: Dequantizer, result: CallResult, given: tuple[bytes, ...]) -> bool:
    """Return whether a call's output is what a model gives, but for the bits of what is no number."""
    held = np.frombuffer(bytes(result.call.buffers[1].data)[: len(given[0]) // 4 * 4], "<u4")
    want, got = (np.frombuffer(side[0][: 4 * len(held)], "<u4") for side in (given, result.outputs))
    return np.array_equal(want, np.where(got == held, got, bits_of(got.view(F32))))


def build_row(row: Array) -> Call:
    """Build a call on a row's bytes, uint8 [nb, 34]."""
    return build(DEQUANTIZE, BLOCK * len(row), {"x": np.ascontiguousarray(row).tobytes()})
