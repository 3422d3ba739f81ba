"""The calls that experiments make: exact rows for one dot product function, one or two rows at a time."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8 import layout
from q8a8_conformance.diagnosis.dots.model import Model, joined
from q8a8_conformance.diagnosis.dots.right_steps import SIZES, places
from q8a8_conformance.diagnosis.facts import Evidence, Fact, words
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults.catalogue import make
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.results.observations import CallResult
from q8a8_conformance.reveal.asking import NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.deadline import Deadline
    from q8a8_conformance.protocol.messages import Call

    Probe = Callable[[Call], tuple[bytes, ...] | None]

GREATEST = (100, 11, 7)
"""Codes of which the greatest that is right, in a whole block of one row, is the most of experiments."""

BS = 2

ROWS = ("x", "y", "other_x", "other_y")
"""A result's own rows, and the other two."""

UNUSED = 0x4200
"""Bits of the scale that a version 2 block must not use: 3.0, no power of two."""


@dataclass(frozen=True, kw_only=True)
class Measured(Fact):
    """A fact with what it changes in a model, or with the calls that it makes wrong.

    Attributes
    ----------
    changes
        Fields of a `Model`, for a fact about a step.
    when
        Whether a call meets the conditions of a fact about where or when a call is made.
    """

    changes: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    when: Callable[[CallResult], bool] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Apart:
    """How far rows are apart where calls are wrong.

    Attributes
    ----------
    words
        Behind "where".
    holds
        Of the bytes of a row, bx and by.
    gaps
        Bytes between the rows of x, and of y, where it holds.
    """

    words: str
    holds: Callable[[int, int, int], bool]
    gaps: tuple[int, int]

    def has(self, call: Call) -> bool:
        """Return whether a call's rows are so far apart."""
        return call.nrc == 2 and self.holds(call.n // 32 * 34, call.bx, call.by)


class Bench:
    """Makes the calls of experiments on one function.

    Parameters
    ----------
    function, nrc
        The dot product, and how many rows it takes at a time.
    probe
        Makes a call: its output buffers, or None where it did not return.
    deadline
        Of all experiments.

    Attributes
    ----------
    element
        The place in a block at which codes of experiments about other things stand: one that is counted.
    lengths
        Numbers of blocks that experiments with one block may have, the first one that will do is taken.
    encoders
        By row, x or y, what writes version 1 blocks in the layout in which the function reads them.
    places
        Where the function puts its four results, by bs.
    gaps
        Bytes between the two rows of x, and of y.
    apart
        For which other distances of them calls are wrong, where that is not so for all.
    surveys
        Whether the blocks of the failed lengths are looked at one by one; they are once.
    looks_alone
        Whether each of four results is looked at by itself.
    length, place
        Blocks of a row, and the number of one that is counted: where experiments with one block put it.
    two
        The same with two blocks, where there are two.
    factor
        What 1 by 1 gives: not 1 where scales are read wrongly.
    greatest
        A code whose square, and less, is a right product.
    bits
        Significant bits of the running sum.
    single, of_result
        The bench that looks at one of four results by itself; and for that bench, the result.
    unused
        Bits of the scale field that a version 2 block must not use; None for those of the one that counts.
    """

    def __init__(self, function: str, nrc: int, probe: Probe, deadline: Deadline) -> None:
        self.function = function
        self.lengths: tuple[int, ...] = (1, 2, 4, 3, 5)
        self.places: Callable[[int], Sequence[int]] = places
        self.encoders: Mapping[str, Callable[[Array], Array]] = {}
        self.nrc = nrc
        self.element = 0
        self.gaps = (0, 0)
        self.apart: Apart | None = None
        self.looks_alone = True
        self.surveys = True
        self.unused: int | None = UNUSED
        self.single: Bench | None = None
        self.of_result: OneResult | None = None
        self.made = 0
        self.length, self.place = 1, 0
        self.factor = 1.0
        self.bits = 24
        self.greatest = 11
        self.two: tuple[int, list[int]] | None = None
        self._probe = probe
        self._deadline = deadline

    def alone(self, one: OneResult) -> Bench:
        """Return a bench for one row at a time, of one of four results, in what is left of the time."""
        self.single = Bench(self.function, 1, one, self._deadline)
        self.single.of_result = one
        return self.single

    def outputs(self, call: Call) -> tuple[bytes, ...]:
        """Make a call.

        Raises
        ------
        NoAnswerError
            It did not return, or time is up.
        """
        self.made += 1
        self.check_time()
        outputs = self._probe(call)
        if outputs is None:
            raise NoAnswerError
        return outputs

    def answer(self, call: Call) -> CallResult:
        """Make a call, and return it with its outputs."""
        return CallResult(call, self.outputs(call))

    @property
    def version(self) -> int:
        """The version of the blocks that the function takes."""
        return 1 if self.function == calls.DOT else 2

    @property
    def size(self) -> int:
        """Bytes of a block."""
        return SIZES[self.version]

    def check_time(self) -> None:
        """Raise :class:`NoAnswerError` where the time is up."""
        if self._deadline.has_passed:
            raise NoAnswerError

    def encode(self, rows: Array, side: str) -> Array:
        """Return rows of x or of y in the layout in which the function reads them."""
        return self.encoders[side](rows) if side in self.encoders else rows

    def call(self, x: Array, y: Array) -> Call:
        """Return the call on two rows of version 1 blocks [nb], with zeros in ``s``.

        Two rows at a time are the same ones twice.
        """
        if self.nrc == 2:
            return with_s(self.call_of_two((x, x), (y, y)), bytes(16))
        x, y = self.encode(x, "x"), self.encode(y, "y")
        if self.function == calls.DOT:
            return calls.dot(x, y, s=bytes(4))
        v2 = dot_rows.to_v2(x, y, unused=self.unused or 0)
        if self.unused is None:
            v2[0]["activation_scale"], v2[1]["weight_scale"] = x["weight_scale"], y["weight_scale"]
        return calls.dot_real(*v2, s=bytes(4))

    def call_of_two(self, x: Sequence[Array], y: Sequence[Array], bs: int = BS) -> Call:
        """Return the call on two rows of blocks each."""
        of_x, of_y = (
            np.stack([self.encode(row, side) for row in rows]) for side, rows in (("x", x), ("y", y))
        )
        return calls.dot_pair(of_x, of_y, bs=bs, x_gap=self.gaps[0], y_gap=self.gaps[1])

    def value(self, x: Array, y: Array) -> float:
        """Return the (first) result of two rows, in units of what 1 by 1 gives."""
        return result(self.outputs(self.call(x, y))) / self.factor

    def row(self, codes: Sequence[int] | Array, scales: Sequence[float] | Array | float = 1.0) -> Array:
        """Return blocks [nb] with one code each, at `element`."""
        made = np.zeros(len(codes), layout.BLOCK_Q8_A8)
        made["weight_scale"] = scales
        made["weight_qs"][:, self.element] = codes
        return made

    def full(self, codes: Sequence[int] | Array, scales: Sequence[float] | Array | float = 1.0) -> Array:
        """Return blocks [nb] of one code each: whichever of them meets the other row's one code."""
        made = np.zeros(len(codes), layout.BLOCK_Q8_A8)
        made["weight_scale"] = scales
        made["weight_qs"] = np.asarray(codes, np.int8).reshape(-1, 1)
        return made

    def pair(self, x: Sequence[int] | Array, y: Sequence[int] | Array) -> float:
        """Return the result of rows with one code in each block, under scales of 1."""
        return self.value(self.row(x), self.full(y))

    def evidence(self, call: Call, text: str) -> Evidence:
        """Make a call again, as evidence."""
        try:
            actual: tuple[bytes, ...] | None = self.outputs(call)
        except NoAnswerError:
            actual = None
        return Evidence(call, replay(make(), call), actual, text)

    def prepare(self) -> bool:
        """Find a length, places in it and an element that are counted; return whether there are any."""
        self.factor = 1.0
        for nb, element in itertools.product(self.lengths, (0, 15, 31, 8, 16)):
            self.element = element
            if places := [b for b in range(nb) if self._counts(nb, b)]:
                self.length, self.place = nb, places[0]
                codes = (code for code in GREATEST if self._counts(nb, places[0], code))
                self.greatest = next(codes, 3)
                break
        else:
            self.element = 0
            one = self.pair([1], [1])
            if not (
                math.isfinite(one) and one and self.pair([3], [3]) == 9 * one and self.pair([0], [3]) == 0
            ):
                return False
            self.factor = one
        for nb in (2, 4, 3, 5, 8) if 1 in self.lengths else self.lengths:
            places = [b for b in range(nb) if self._counts(nb, b)]
            if len(places) > 1:
                self.two = nb, places[:2]
                break
        return True

    def _counts(self, nb: int, block: int, code: int = 3) -> bool:
        codes = np.zeros(nb, np.int64)
        codes[block] = code
        return self.pair(codes, codes) == code * code

    def one(self, code: int = 1) -> Array:
        """Return a row of one block that is counted, with a code in it; each block's code is at `element`."""
        codes = np.zeros((1, 32), np.int64)
        codes[0, self.element] = code
        return self.padded(dot_rows.blocks(1.0, codes))

    def padded(self, block: Array) -> Array:
        """Return a row in which one block [1] stands at a place that is counted, beside blocks of zeros."""
        row = dot_rows.blocks(1.0, np.zeros((self.length, 32), np.int64))
        row[self.place] = block[0]
        return row

    def spread(self, codes: Sequence[int] | Array, scales: Sequence[float]) -> Array:
        """Return a row of two blocks where they are counted: codes [2] at `element`, or [2, 32]."""
        if self.two is None:
            raise NoAnswerError
        nb, places = self.two
        all_scales, all_codes = np.ones(nb), np.zeros((nb, 32), np.int64)
        all_scales[places] = scales
        all_codes[places, self.element if np.ndim(codes) == 1 else slice(None)] = codes
        return dot_rows.blocks(all_scales, all_codes)

    def shown(self, x: Array, y: Array, text: str) -> Evidence:
        """Return the evidence of two rows."""
        return self.evidence(self.call(x, y), text)

    def measured(  # noqa: PLR0913 - the parts of a fact
        self,
        fact: str,
        where: Mapping[str, Any],
        sentence: str = "",
        *,
        cause: str = "",
        like: str = "",
        rule: str = "",
        fix: str = "",
        evidence: Sequence[Evidence] = (),
        changes: Mapping[str, Any] | None = None,
        when: Callable[[CallResult], bool] | None = None,
    ) -> Measured:
        """Return a fact about this function, in `words`, with what it changes."""
        named = words(sentence, cause=cause, like=like, rule=rule, fix=fix)
        return Measured(
            *(fact, where, *named),
            function=self.function,
            nrc=self.nrc,
            evidence=tuple(evidence),
            changes=changes or {},
            when=when,
        )


def result(outputs: Sequence[bytes], place: int = 0) -> float:
    """Return a float of ``s``."""
    return float(np.frombuffer(outputs[0], "<f4")[place])


def with_s(call: Call, s: bytes) -> Call:
    """Return a call with other bytes in ``s``."""
    buffers = list(call.buffers)
    (place,) = call.spec.outputs
    buffers[place] = replace(buffers[place], data=s)
    return replace(call, buffers=tuple(buffers))


def changes_of(found: Sequence[Measured]) -> dict[str, Any]:
    """Return the fields of a model that facts change."""
    return joined(one.changes for one in found)


def model_of(found: Sequence[Measured]) -> Model:
    """Return the specification with the steps that were measured."""
    return Model(**changes_of(found))


def twin(codes: Array) -> Array:
    """Give the other row the same codes."""
    return codes


def mixed(codes: Array) -> Array:
    """Give the other row the codes of a row, int8 [..., 32], with the other sign, at other places."""
    return np.asarray(np.minimum(-np.roll(codes.astype(np.int64), 5, axis=-1), 127))


@dataclass
class OneResult:
    """One of four results as a function of one row at a time.

    Attributes
    ----------
    bench
        Makes calls of two rows at a time.
    number
        Of the result.
    others
        What codes the other rows have, by those of the result's own: [..., 32].
    """

    bench: Bench
    number: int
    others: Callable[[Array], Array] = twin

    @property
    def alone(self) -> Bench:
        """The bench of the result by itself: where one block stands."""
        return self.bench.single or self.bench

    def __call__(self, call: Call) -> tuple[bytes, ...]:
        """Make a call of one row at a time."""
        inputs = calls.inputs_of(call)
        rows: list[tuple[bytes, bytes]] = []
        for side, own in (("vx", self.number % 2), ("vy", self.number // 2)):
            if self.others is twin:
                rows.append((inputs[side],) * 2)
                continue
            data = np.frombuffer(inputs[side], np.uint8).reshape(-1, 34)
            other = data.copy()
            other[:, 2:] = self.others(data[:, 2:].view(np.int8)).astype(np.int8).view(np.uint8)
            pair = inputs[side], other.tobytes()
            rows.append(pair if own == 0 else pair[::-1])
        held = bytes(call.buffers[call.spec.outputs[0]].data[:4])
        return (self._made(call.n // 32, rows, held),)

    def block(self, **codes: Array) -> float:
        """Return the result where one block of the rows x, y, other_x and other_y has codes [32]."""
        of = {
            name: self.alone.padded(
                dot_rows.blocks(1.0, codes.get(name, np.zeros(32, np.int64))[np.newaxis])
            ).tobytes()
            for name in ROWS
        }
        x, y = (of["x"], of["other_x"]), (of["y"], of["other_y"])
        rows = [x[::-1] if self.number % 2 else x, y[::-1] if self.number // 2 else y]
        return float(np.frombuffer(self._made(self.alone.length, rows, bytes(4)), "<f4")[0])

    def _made(self, nb: int, rows: Sequence[tuple[bytes, bytes]], held: bytes) -> bytes:
        place = self.bench.places(BS)[self.number]
        s = bytearray(bytes(4 * (BS + 2)))
        s[4 * place : 4 * place + 4] = held
        x_gap, y_gap = self.bench.gaps
        call = calls.pair_of_bytes(nb, *rows, bs=BS, x_gap=x_gap, y_gap=y_gap)
        return self.bench.outputs(with_s(call, bytes(s)))[0][4 * place : 4 * place + 4]
