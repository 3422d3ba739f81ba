"""Calls of a dequantizer that tell what it does: rows of many lengths, all halves and codes, failed calls.

Where elements come from is found by changes: every byte, code or scale whose number has a certain bit is
another one in a call, and in the next call all those whose number has it not. What changes with an element's
result are the bits of the number that it comes from. Of bytes it shows by the right products of all that
may have changed; of codes and scales whatever is made of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dequantizers.model import (
    BLOCK,
    FINITE,
    HALVES,
    SIZE,
    Blocks,
    Dequantizer,
    blocks_of,
    build_row,
)
from q8a8_conformance.inputs.calls import DEQUANTIZE
from q8a8_conformance.reveal.quantizers.calls import FILLS, QuantizerCalls, filled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import Failure
    from q8a8_conformance.reveal.quantizers.calls import AnySession

LENGTHS = (
    *range(1, 36), 40, 48, 63, 64, 65, 66, 96, 100, 127, 128, 129, 130, 143, 160, 255, 256, 257, 300, 384,
    385, 387, 511, 512, 513, 640, 1000, 1023, 1024, 1025, 1536, 2047, 2048, 2049, 2050,
)  # fmt: skip
"""Blocks of the rows that are made."""

TWICE = 36
"""Blocks of the shorter rows, which are made twice, of other values."""

LONG, MANY = 4096, 10_000
"""Blocks of the longest failed call that is looked at, and of all of them."""

ROW = 256
"""Blocks of the rows in which halves are read."""

EDGES = (-128, -127, 127, 126, 0, -1, 2, 64)

NEAR = (1, 2, 9, 17, 40, 100, 260, 5000)
"""Blocks near which lengths are looked for in which it is found where elements come from."""

PLAIN, OTHER = (0x3C00, 35), (0x4200, 77)
"""The scale and the code of all elements, and those of the changed ones."""

BYTES = (0x38, 0x39)
"""The bytes of all fields, and the changed ones: as scales and codes their products all differ."""


class Cases:
    """The calls that were made, as blocks.

    Parameters
    ----------
    session
        With the kernel; it may raise a `NoAnswerError`.

    Attributes
    ----------
    before
        Returns what is called before a call, where anything is.
    """

    def __init__(self, session: AnySession) -> None:
        self.make = QuantizerCalls(session, DEQUANTIZE).make
        self.before: Callable[[Call], Call] | None = None
        self.model = Dequantizer()
        self._made: list[Blocks] = []
        self._asked: dict[int, Blocks] = {}

    def ask(self, n: int) -> Blocks:
        """Return a row of n blocks, which is made once more for it."""
        if n not in self._asked:
            self._asked[n] = self.row(telling(n, 3), FILLS[n % 2])
        return self._asked[n]

    def blocks(self) -> Blocks:
        """Return all blocks."""
        if self._asked or len(self._made) > 1:
            self._made = [Blocks.join([*self._made, *self._asked.values()])]
            self._asked = {}
        return self._made[0]

    def collect(self, failures: Sequence[Failure]) -> None:
        """Make the calls that are made of every kernel, and add failed ones."""
        for n in LENGTHS:
            for number in range(2 if n < TWICE else 1):
                self._made.append(self.row(telling(n, number), FILLS[(n + number) % 2]))
        every = all_halves()
        for start in range(0, len(every), ROW):
            self._made.append(self.row(every[start : start + ROW]))
        left = MANY
        for failure in sorted(failures, key=lambda one: one.call.n):
            nb = failure.call.n // BLOCK
            if 0 < nb <= min(LONG, left):
                self._made.append(blocks_of(self.model, failure.call, failure.outputs[0])[0])
                left -= nb

    def row(self, wanted: Array, fill: int = FILLS[0]) -> Blocks:
        """Dequantize a row so that some bytes are read as its blocks: uint8 [n, 34].

        Raises
        ------
        NoAnswerError
            The call did not return.
        """
        places = self.model.places(len(wanted))
        data = np.zeros(wanted.size + 1, np.uint8)
        data[places] = wanted
        row = data[:-1].reshape(-1, SIZE)
        return self.model.blocks(
            row, np.full((len(row), BLOCK), fill * 0x01010101, np.uint32), self.bits(row, fill)
        )

    def bits(self, row: Array, fill: int = FILLS[0]) -> Array:
        """Return the bits that are written for a row's bytes, uint8 [n, 34]: uint32 [n, 32]."""
        call = filled(build_row(row), fill)
        if self.before:
            self.make(self.before(call))
        written = self.make(call)[0]
        return np.frombuffer(written, "<u4")[: BLOCK * len(row)].reshape(-1, BLOCK)

    def sources(self, n: int) -> tuple[Array, Array]:
        """Find at which bytes of a row elements' scales begin, and which are their codes: int [n, 32].

        A number of -1 is none, of -2 no single one.
        """
        low, high, code = self._bytes(n)
        scale = np.where((high == low + 1) | (low < 0), low, -2)
        unknown = (scale < 0) | (code < 0)
        if unknown.any():
            block, place = self._changed(n, n, of_codes=False), self._changed(n, n * BLOCK, of_codes=True)
            byte = place // BLOCK * SIZE + 2 + place % BLOCK
            scale = np.where(unknown, np.where(block < 0, block, block * SIZE), scale)
            code = np.where(unknown, np.where(place < 0, place, byte), code)
        return scale, code

    def _bytes(self, n: int) -> Array:
        """Return which bytes are elements' scales (two), and codes: int [3, n, 32]; -2 for unknown ones."""
        numbers = np.arange(n * SIZE)
        scales = np.array([[low | high << 8 for high in BYTES] for low in BYTES], "<u2").view(np.float16)
        products = scales.astype(np.float32)[..., np.newaxis] * np.array(BYTES, np.float32)
        found, known = np.zeros((3, n, BLOCK), np.int64), np.ones((n, BLOCK), np.bool_)
        for bit in range(int(numbers[-1]).bit_length()):
            seen = []
            for value in (1, 0):
                row = np.where(numbers >> bit & 1 == value, BYTES[1], BYTES[0]).astype(np.uint8)
                same = self.row(row.reshape(n, SIZE)).got[..., np.newaxis] == products.view(np.uint32).ravel()
                known &= same.any(axis=-1)
                seen.append(np.array(np.unravel_index(same.argmax(axis=-1), products.shape)))
            found += seen[0] << bit
            known &= (seen[0] != seen[1]).all(axis=0)
        return np.where(known, found, -2)

    def _changed(self, n: int, count: int, *, of_codes: bool) -> Array:
        """Return the number of the code that each element changes with, or of the scale."""
        numbers = np.arange(count)
        plain = np.array([PLAIN[0]] * n, "<u2"), np.full(n * BLOCK, PLAIN[1], np.uint8)

        def made(some: Array) -> Array:
            scales, codes = (part.copy() for part in plain)
            target, value = (codes, OTHER[1]) if of_codes else (scales, OTHER[0])
            target[some] = value
            wanted = np.concatenate([scales.view(np.uint8).reshape(n, 2), codes.reshape(n, BLOCK)], axis=1)
            return self.row(wanted).got

        base = made(numbers < 0)
        source = np.zeros((n, BLOCK), np.int64)
        some = np.ones((n, BLOCK), np.bool_)
        never = made(numbers >= 0) == base
        for bit in range(int(count - 1).bit_length()):
            with_bit, without = (made(numbers >> bit & 1 == value) != base for value in (1, 0))
            source += with_bit.astype(np.int64) << bit
            some &= with_bit != without
        return np.where(never, -1, np.where(some, source, -2))


def near_lengths(some: Array) -> list[int]:
    """Return lengths of some that are wrong: a few of all sizes."""
    lengths = np.unique(some)
    return list(dict.fromkeys(int(lengths[np.argmin(np.abs(lengths - n))]) for n in NEAR if lengths.size))


def telling(n: int, seed: int) -> Array:
    """Return a row of n blocks, uint8 [n, 34], with scales and codes of all kinds, those at limits often."""
    rng = np.random.default_rng([seed, n])
    kinds = rng.choice(8, n, p=(0.5, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05))
    some = HALVES[FINITE]
    h = np.select(
        [kinds == number for number in range(1, 8)],
        [
            some[rng.integers(0, some.size, n)], rng.integers(0, 0x400, n), rng.integers(0x8000, 0x8400, n),
            rng.choice((0, 0x8000), n), rng.integers(1, 31, n) << 10 | rng.choice((0, 0x8000), n),
            rng.integers(0x7800, 0x7C00, n) | rng.choice((0, 0x8000), n), rng.choice((0x3C00, 0xBC00), n),
        ],
        rng.integers(0x2000, 0x4C00, n) | rng.choice((0, 0x8000), n),
    )  # fmt: skip
    codes = rng.integers(-128, 128, (n, BLOCK))
    edges = rng.random((n, BLOCK)) < rng.choice((0, 0.3), (n, 1))
    codes[edges] = rng.choice(EDGES, int(edges.sum()))
    codes[rng.random(n) < 1 / 32] = 0
    is_even = rng.random(n) < 1 / 32
    codes[is_even] = codes[is_even, :1]
    # Some blocks are like the one before: they have its scale, its magnitude, one of its bytes; or its codes.
    for b in np.flatnonzero(rng.random(n) < (0.5 if seed == 1 else 0.2))[int(n < 3) :]:
        masks = 0xFFFF, 0xFFFF, 0x7FFF, 0x7FFF, 0xFF, 0xFF00, 0x7C00, 0xFFF, 0x3FF, 0xFFF0, 0xFFFC
        mask = rng.choice(masks)
        other = (int(h[b - 1]) & mask) | (int(h[b] if mask < 0x7FFF else ~h[b - 1]) & ~mask & 0xFFFF)
        h[b] = other if b and other & 0x7C00 != 0x7C00 else h[b]
        count = rng.choice((0, 0, 1, 8, BLOCK))
        codes[b, :count] = codes[b - 1, :count] if b else codes[b, :count]
    halves = h.astype("<u2").view(np.uint8).reshape(n, 2)
    return np.concatenate([halves, codes.astype(np.int8).view(np.uint8)], axis=1)


def all_halves() -> Array:
    """Return blocks with all finite halves, in no order, the code 1 and `EDGES`, and 23 codes more."""
    halves = np.random.default_rng(1).permutation(HALVES[FINITE])
    numbers = np.arange(halves.size)[:, np.newaxis]
    edges = np.broadcast_to([1, *EDGES], (halves.size, 1 + len(EDGES)))
    rest = BLOCK - edges.shape[1]
    codes = np.concatenate([edges, (numbers * rest + np.arange(rest)) % 256], axis=1).astype(np.uint8)
    codes = np.take_along_axis(codes, (np.arange(BLOCK) - numbers) % BLOCK, axis=1)
    return np.concatenate([halves.astype("<u2").view(np.uint8).reshape(-1, 2), codes], axis=1)
