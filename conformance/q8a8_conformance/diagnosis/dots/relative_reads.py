"""Bytes of one row that are read at places which follow from the other row's address.

Rows of noise lie at many addresses. What a block gives there names the bytes that are read: of one row, as
far before or behind their own as the two addresses say, each taken modulo a power of two.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dots.addresses import LINE, address_of
from q8a8_conformance.diagnosis.dots.model import Model, matches
from q8a8_conformance.diagnosis.dots.read_at import noise_call
from q8a8_conformance.diagnosis.dots.right_steps import SIZES
from q8a8_conformance.diagnosis.facts import remembered
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.results.observations import CallResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.protocol.messages import Call

MODULI = (16, 32, 64, 8, 4)
LENGTH, BLOCK = 5, 2
"""Blocks of a row of noise, and the number of the one that counts: what is read lies in the row."""

FIRST, MORE = 14, 30
"""Calls at any addresses that show whether these matter, and further ones that a rule must give."""

ADDRESSES = ("codes", "block", "row")
"""Whose address counts."""


@dataclass(frozen=True)
class Rule:
    """Where something of one row is read, by the addresses of both.

    Attributes
    ----------
    side
        Whose bytes they are: "x" or "y".
    parts
        What is read there: "codes", or "all" for scales, too.
    address
        A name of `ADDRESSES`: of the row, block or codes.
    modulus
        A power of two.
    is_aligned
        Whether it is so where the other row's address is a multiple of this, and as if its own were; or
        everywhere, as if it had the other one's remainder.
    """

    side: str
    parts: str
    address: str
    modulus: int
    is_aligned: bool

    def far(self, own: int, other: int) -> int:
        """Return how many bytes behind its own place something is read, by the two addresses."""
        rest = other % self.modulus
        return 0 if self.is_aligned and rest else rest - own % self.modulus

    def moved(self, data: bytes, own: int, other: int, size: int) -> tuple[bytes, list[int]]:
        """Return a row as it is read, by both rows' addresses, and blocks of which not all is in the row."""
        row, header, outside = bytearray(data), size - 32, []
        for start in range(0, len(data), size):
            at = {"row": 0, "block": start, "codes": start + header}[self.address]
            far = self.far(own + at, other + at)
            first = start + (header if self.parts == "codes" else 0)
            if not 0 <= first + far <= len(data) - (start + size - first):
                outside.append(start // size)
                continue
            row[first : start + size] = data[first + far : start + size + far]
        return bytes(row), outside

    @property
    def words(self) -> str:
        """The same as a sentence."""
        other = "y" if self.side == "x" else "x"
        what = f"the {self.parts} of {self.side}" if self.parts == "codes" else f"the blocks of {self.side}"
        whose = f"{self.address} of" if self.address != "codes" else "codes of"
        if self.is_aligned:
            return (
                f"Where the {whose} {other} lie{'s' * (self.address != 'codes')} at a multiple of "
                f"{self.modulus}, {what} are read as if the {whose} {self.side} did so, too: "
                "from an address that is rounded down."
            )
        return (
            f"{what[0].upper()}{what[1:]} are read from their address rounded down to a multiple of "
            f"{self.modulus}, plus the remainder of the {whose} {other}, not of their own."
        )


def relative_reads(bench: Bench) -> Measured | None:
    """Find that something of one row is read where the other row's address says."""
    made = [bench.answer(call) for call in _calls(bench, FIRST, 1)]
    made.sort(key=lambda one: matches(Model(), one))
    if matches(Model(), made[0]):
        return None
    rules = (
        Rule(side, parts, address, modulus, is_aligned)
        for side, address, is_aligned, modulus, parts in itertools.product(
            "yx", ADDRESSES, (False, True), MODULI, ("codes", "all")
        )
        if (address, parts) != ("codes", "all")
    )
    fitting = [rule for rule in rules if _tells(rule, made)]
    more = [bench.answer(call) for call in _calls(bench, MORE, 2)] if fitting else []
    rule = next((rule for rule in fitting if _tells(rule, more)), None)
    if rule is None:
        return None
    fact = bench.measured(
        "block-read-elsewhere",
        {"operand": rule.side, "by_address_of": "xy".replace(rule.side, ""), "modulus": rule.modulus}
        | {"address": rule.address, "parts": rule.parts, "where_aligned": rule.is_aligned},
        rule.words,
        rule="Q8A8-ENV-2",
        fix="Take each row's alignment from its own address, or load by an instruction that needs none.",
        evidence=[bench.evidence(made[0].call, _places(made[0].call))],
    )
    return replace(
        fact, explains=remembered(lambda one: not matches(Model(), one) and _gives(rule, one) is not False)
    )


def _tells(rule: Rule, made: Sequence[CallResult]) -> bool:
    """Return whether a rule gives all calls, wrong ones as well; some may read what is not known."""
    wrong = 0
    for one in made:
        if (is_so := _gives(rule, one)) is False:
            return False
        wrong += bool(is_so) and not matches(Model(), one)
    return wrong > 1


def _places(call: Call) -> str:
    at = ", ".join(f"{name} at {address_of(call, name)}" for name in ("vx", "vy"))
    return f"{at} mod {LINE}"


def _calls(bench: Bench, count: int, seed: int) -> Iterator[Call]:
    """Yield calls on rows of noise of which one block counts, at any addresses."""
    rng = dot_rows.generator("relative reads", seed)
    for number in range(count):
        side = "yx"[number % 2]
        call = noise_call(bench, LENGTH, side, seed + number, BLOCK)
        at_x, at_y = (2 * rng.integers(0, LINE // 2, 2)).tolist()
        # (Half of them have one row where kernels like it.)
        at_x, at_y = [(at_x, at_y), (at_x // 16 * 16, at_y), (at_x, at_y // 16 * 16)][number % 3]
        yield calls.misaligned(call, {"vx": at_x, "vy": at_y})


def _gives(rule: Rule, one: CallResult) -> bool | None:
    """Return whether a call's results are those of rows as a rule says; None where one may be anything."""
    call, inputs = one.call, calls.inputs_of(one.call)
    size = SIZES[1 if call.function == calls.DOT else 2]
    length = call.n // 32 * size
    floats, is_known = np.frombuffer(one.outputs[0], "<f4"), True
    for number, place in enumerate((0, 1, call.bs, call.bs + 1)[: call.nrc**2]):
        begins = {"x": number % call.nrc * call.bx, "y": number // call.nrc * call.by}
        rows = {side: inputs[f"v{side}"][begin : begin + length] for side, begin in begins.items()}
        at = {side: address_of(call, f"v{side}") + begin for side, begin in begins.items()}
        other = "y" if rule.side == "x" else "x"
        rows[rule.side], outside = rule.moved(rows[rule.side], at[rule.side], at[other], size)
        # (What lies beside the row may be anything, unless it meets zeros.)
        if any(any(rows[other][size * b + size - 32 : size * (b + 1)]) for b in outside):
            is_known = False
            continue
        single = calls.build(
            call.function, call.n, {f"v{side}": row for side, row in rows.items()}, {"s": bytes(4)}
        )
        if not matches(Model(), CallResult(single, (floats[place].tobytes(),))):
            return False
    return True if is_known else None
