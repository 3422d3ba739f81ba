"""What a dequantizer was found to compute, as a value that gives its bits for any row; and known mistakes.

An element is f32(h) · q: a product of two values that are read from the row's bytes. A mistake of the
catalogue is another layout, another table of either value, or another product.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8.rounding import f16_to_f32
from q8a8_conformance.faults import steps
from q8a8_conformance.faults.catalogue import MUTANTS
from q8a8_conformance.inputs.calls import DEQUANTIZE, build
from q8a8_conformance.reveal.quantizer_calls import FILLS, QuantizerCalls, filled

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.reveal.places import Rule
    from q8a8_conformance.reveal.quantizer_calls import AnySession

Array = NDArray[Any]

F32 = np.float32
SIZE, BLOCK = 34, 32
HALVES = np.arange(1 << 16).astype(np.uint16)
FINITE = (HALVES & 0x7C00) != 0x7C00
CODES = np.arange(256).astype(np.uint8).view(np.int8)


def bits_of(y: Array) -> Array:
    """Return the bits of floats."""
    return np.ascontiguousarray(y, F32).view(np.uint32)


def as_specified(nb: int) -> Array:
    """Return the bytes of a row of nb blocks where they belong."""
    return np.arange(SIZE * nb).reshape(nb, SIZE)


@cache
def read_right() -> tuple[Array, Array]:
    """Return the values of all halves, and of all codes by their bytes."""
    return f16_to_f32(HALVES.view(np.float16)), CODES.astype(F32)


@dataclass(frozen=True)
class Dequantizer:
    """What a dequantizer computes: a row's bytes uint8 [nb, 34] become the bits of floats, uint32 [nb, 32].

    Attributes
    ----------
    places
        nb -> int [nb, 34]: the byte of the row that is read as each byte of a block; -1 for none, a zero.
    scales, codes
        float32 [65536] and [256]: the value that each half, and each code's byte, is read as.
    product
        (d float32 [nb], q float32 [nb, 32]) -> float32 [nb, 32].
    lanes
        Elements of a block whose codes are read as other values: their numbers, and float32 [256].
    pairs
        Bits of the products of single halves and codes that are otherwise.
    parts
        What is otherwise at some places: the rule, and (bits, the row's bytes, before) -> bits.
    """

    places: Callable[[int], Array] = as_specified
    scales: Array = field(default_factory=lambda: read_right()[0])
    codes: Array = field(default_factory=lambda: read_right()[1])
    product: Callable[[Array, Array], Array] = steps.value
    lanes: tuple[tuple[int, ...], Array] | None = None
    pairs: tuple[tuple[int, int, int], ...] = ()
    parts: tuple[tuple[Rule, Callable[[Array, Array, Array], Array]], ...] = ()

    def predict(self, row: Array, before: Array) -> Array:
        """Return the bits that it writes; `before` is what is there."""
        h, q = self.read(row)
        with np.errstate(all="ignore"):
            bits = bits_of(self.product(self.scales[h], self.values(q))).reshape(-1, BLOCK)
        for half, code, otherwise in self.pairs:
            bits[(h == half)[:, np.newaxis] & (q == code)] = otherwise
        for rule, effect in self.parts:
            here = rule.holds(len(row))
            bits = np.where(here[:, np.newaxis], effect(bits, row, before), bits)
        return bits

    def values(self, q: Array) -> Array:
        """Return the values of codes, by their bytes [nb, 32]."""
        values = self.codes[q]
        if self.lanes:
            numbers, table = self.lanes
            values[:, numbers] = table[q[:, numbers]]
        return values

    def plain(self) -> Array:
        """Return the elements that are read as most are: bool [32]."""
        return ~np.isin(np.arange(BLOCK), self.lanes[0] if self.lanes else ())

    def read(self, row: Array) -> tuple[Array, Array]:
        """Return the halves uint16 [nb] and the codes' bytes uint8 [nb, 32] that are read."""
        # (A place of -1 is the zero behind the row.)
        data = np.append(row.reshape(-1), np.uint8(0))[self.places(len(row))]
        return np.ascontiguousarray(data[:, :2]).view("<u2")[:, 0], data[:, 2:]


def outputs(model: Dequantizer, call: Call) -> tuple[bytes, ...]:
    """Return the output buffer that a model gives for a call."""
    nb = call.n // BLOCK
    held = bytes(call.buffers[1].data)
    row = np.frombuffer(bytes(call.buffers[0].data)[: SIZE * nb], np.uint8).reshape(nb, SIZE)
    before = np.frombuffer(held[: 128 * nb], "<u4").reshape(nb, BLOCK)
    return (model.predict(row, before).astype("<u4").tobytes() + held[128 * nb :],)


class DequantizerCalls:
    """Makes calls of the kernel on rows of bytes."""

    def __init__(self, session: AnySession) -> None:
        self.make = QuantizerCalls(session, DEQUANTIZE).make

    def __call__(self, row: Array, fill: int = FILLS[0]) -> Array:
        """Return the bits that are written for uint8 [nb, 34]: uint32 [nb, 32].

        Raises
        ------
        NoAnswerError
            The call did not return.
        """
        call = filled(build_row(row), fill)
        return np.frombuffer(self.make(call)[0], "<u4")[: BLOCK * len(row)].reshape(-1, BLOCK)


def build_row(row: Array) -> Call:
    """Build a call on a row's bytes, uint8 [nb, 34]."""
    return build(DEQUANTIZE, BLOCK * len(row), {"x": np.ascontiguousarray(row).tobytes()})


@cache
def layouts() -> dict[str, Callable[[int], Array]]:
    """Return the layouts of known mistakes, the right one first: how each takes numbered bytes apart."""

    def places(nb: int, unpack: Callable[..., Any]) -> Array:
        numbers = np.arange(1, SIZE * nb + 1)
        found = np.zeros((nb, SIZE), np.int64)
        for shift in (0, 8, 16):
            h, q = unpack((numbers >> shift).astype(np.uint8), nb)
            scale = np.ascontiguousarray(h).view(np.uint8).reshape(nb, 2)
            found += (
                np.concatenate([scale, np.ascontiguousarray(q).view(np.uint8)], axis=1).astype(np.int64)
                << shift
            )
        return found - 1

    known = {
        m.slug: partial(places, unpack=m.changes["unpack"])
        for m in MUTANTS.values()
        if DEQUANTIZE in m.functions and "unpack" in m.changes
    }
    return {"": as_specified, **known}


@cache
def known_steps(step: str) -> dict[str, Callable[..., Any]]:
    """Return the changes of a step by the mistakes that dequantization may make."""
    return {
        m.slug: m.changes[step] for m in MUTANTS.values() if DEQUANTIZE in m.functions and step in m.changes
    }


@cache
def scale_tables() -> dict[tuple[str, ...], Array]:
    """Return the values of all halves by known mistakes, and by one in the half and one in the scale."""
    right, _ = read_right()
    with np.errstate(all="ignore"):
        widened = {
            slug: np.asarray(widen(HALVES.view(np.float16)), F32)
            for slug, widen in known_steps("widen").items()
        }
        ones = np.ones((len(HALVES), 1), np.int8)
        of_scale = {
            slug: partial(lambda d, value: value(d, ones)[:, 0], value=value)
            for slug, value in known_steps("value").items()
        }
        tables: dict[tuple[str, ...], Array] = {(slug,): table for slug, table in widened.items()}
        tables |= {(slug,): of(right) for slug, of in of_scale.items()}
        tables |= {
            (one, other): of(table) for one, table in widened.items() for other, of in of_scale.items()
        }
    return tables


@cache
def single_mistakes() -> dict[str, dict[str, Any]]:
    """Return known mistakes in what is read and made of it, as what they change in a model."""
    alone = {slugs[0]: table for slugs, table in scale_tables().items() if len(slugs) == 1}
    tables: dict[str, dict[str, Any]] = {slug: {"scales": table} for slug, table in alone.items()}
    _, codes = read_right()
    right = read_right()[0][FINITE]
    for slug, value in known_steps("value").items():
        read = value(np.ones(8, F32), CODES.reshape(8, 32)).reshape(-1)
        if (read != codes).any():
            tables[slug] = {"codes": read}
        elif (tables[slug]["scales"][FINITE] == right).all():
            tables[slug] = {"product": value}
    return tables
