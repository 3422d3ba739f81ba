"""In which calls a kernel does something besides its result: by their length, and by what their inputs hold.

A call with the side effect is made again; then ordinary ones of many lengths, with its options. Where none of
them has it, some of their blocks get other contents: zeros, small or large values, the lowest codes. Where it
comes and goes with ordinary values, they begin as plain ones: positive, and much alike.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots.amounts import kept_law, stack_law
from q8a8_conformance.diagnosis.facts import Evidence, Fact
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.inputs.calls import ACTIVATION, DEQUANTIZE, DOT_REAL, MUL_MAT, QUANTIZERS
from q8a8_conformance.inputs.samples import call_of, floats
from q8a8_conformance.protocol.deadline import Deadline
from q8a8_conformance.protocol.messages import Fault, Option
from q8a8_conformance.results.side_effects import SIDE_EFFECTS
from q8a8_conformance.reveal.asking import NoAnswerError
from q8a8_conformance.reveal.places import Seen, find_rule
from q8a8_conformance.spec.abi import ROW_FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call, Result
    from q8a8_conformance.reveal.places import Rule

    Ask = Callable[[Call], Result | None]
    Maker = Callable[[int], tuple[Call, ...]]

SECONDS = 4.0
"""How long other calls are made: without an answer to all of them nothing is said."""

TRIED, LONGEST, TOGETHER = 3, 600, 8
"""Calls that are made again, the longest one that is made besides, and products of any shape."""

BLOCKS = (*range(1, 19), 31, 32, 33, 63, 64, 65)
SIZES = (*range(1, 35), 47, 48, 49, 63, 64, 65, 100, 127, 128, 129)
"""Lengths in blocks, and in elements of a vector."""

FEW_LENGTHS = (*range(1, 10), 15, 16, 17, 31, 33, 64, 65)
FEW_SIZES = (*range(1, 10), 16, 17, 33)
"""Those of calls that may die, and of products that may: a process begins after each."""

REACHED = re.compile(
    r"SIG\w+ \((read|write)\): in \w+, (\w+) \(\d+ bytes?\): (\d+ bytes?) (after its end|before its start)"
)
"""What a worker says of the address at which it died."""

KEPT = ~(Option.SHARED_INPUTS | Option.ROWS)
"""Options that other calls can be made with."""

PLACES: dict[str, tuple[int | slice, ...]] = {
    "a block is": (-1, 0),
    "the last block is": (-1,),
    "the first block is": (0,),
    "every block is": (slice(None),),
}
"""Which blocks are changed, in one call each: each of them has the side effect."""


_SOME: tuple[dict[str, Any], str] = {"length": "some"}, " in some calls, by no rule that was found"
"""What is said of calls that have a side effect, where no rule says which have it."""


def of_side_effect(fault: Fault, seen: Sequence[Call], ask: Ask) -> Fact | None:
    """Find which calls of a function have a side effect, from some that had it; None for one without words.

    Where no rule is found, or none of them has it again, it is said of the calls that had it.
    """
    if not SIDE_EFFECTS[fault].fact:
        return None
    some = sorted(seen, key=lambda one: (one.nrc, one.n))[:TRIED]
    results = ((call, ask(call)) for call in some)
    again = ((call, result) for call, result in results if result and fault in result.faults)
    call, result = next(again, (some[0], None))
    found = _of_ended_threads(fault, call, ask) if result else None
    if result and not found:
        with suppress(NoAnswerError):
            found = _said_of(fault, call, ask)
    effect, (where, words) = SIDE_EFFECTS[fault], found or _SOME
    if result and (modes := _modes_before(fault, call, ask)):
        where, words = {**where, "modes": modes}, words + modes
    detail = result.detail.splitlines()[:1] if result else []
    return Fact(
        *(effect.fact, where, effect.rule, said_of_rows(call, effect.happens, words), effect.fix, ""),
        function=call.function,
        evidence=(Evidence(call, (), (), "; ".join((length_of(call), *detail))),),
        nrc=call.nrc,
    )


def _of_ended_threads(fault: Fault, call: Call, ask: Ask) -> tuple[dict[str, Any], str] | None:
    """Say that a side effect is one of threads that end, where the call has it in these alone."""
    if not call.options & Option.OWN_THREAD:
        return None
    result = ask(replace(call, options=call.options & ~Option.OWN_THREAD))
    if result is None or fault in result.faults:
        return None
    return {"length": [], "threads": "ended"}, " for each thread that has called and ended"


def _modes_before(fault: Fault, call: Call, ask: Ask) -> str:
    """Say in which modes of the caller's a call has a side effect, where it has none in the usual ones."""
    if not call.options & Option.FLUSH:
        return ""
    once = replace(call, repeat=1)
    for made, words in (
        (replace(once, options=call.options & ~Option.FLUSH), ""),
        (once, " if flush modes are set before the call"),
    ):
        result = ask(made)
        if result is None or fault in result.faults:
            return words
    if fault is Fault.FLUSH_MODE_CHANGED:
        return " if one of the flush modes alone is set before the call"
    return " if the precision of the x87 unit is not the usual one before the call"


def of_reach(died: Sequence[tuple[Call, str]], ask: Ask) -> Fact | None:
    """Find which calls of a function die beside an inaccessible page: what they read or write outside.

    `died` has calls that did, and what was said of them.
    """
    call, text = min(died, key=lambda one: (one[0].nrc, one[0].n))
    if call.function not in ROW_FUNCTIONS or ask(call) is not None:
        return None
    try:
        found = _where(None, call, ask)
    except NoAnswerError:
        return None
    said = REACHED.search(text)
    if found is None or said is None:
        return None
    where, words = found
    how, name, far, side = said.groups()
    verb, rule, fact = "read", "Q8A8-MEM-1", "read-outside"
    if how == "write":
        verb, rule, fact = "written", "Q8A8-MEM-2", "written-outside"
    place = "end" if side == "after its end" else "start"
    sentence = f"Bytes {'after' if place == 'end' else 'before'} the {place} of {name} are {verb}"
    fix = "Touch the bytes of the buffers alone: handle what a vector leaves over."
    far = "right" if far.startswith("0 ") else far
    evidence = (Evidence(call, (), (), f"{length_of(call)}: {name}, {far} {side}"),)
    named = (fact, {**where, "buffer": name, "side": place}, rule)
    return Fact(
        *named,
        said_of_rows(call, sentence, words),
        fix,
        "",
        function=call.function,
        evidence=evidence,
        nrc=call.nrc,
    )


def where_it_dies(call: Call, ask: Ask) -> tuple[dict[str, Any], str] | None:
    """Return which calls of a function do not return: as JSON data, and as the end of a sentence.

    Raises
    ------
    NoAnswerError
        The time is up.
    """
    if call.function in ROW_FUNCTIONS:
        return _where(None, call, ask)
    return _in_shapes(_Survey(None, call, ask), call)


def said_of_rows(call: Call, what: str, words: str) -> str:
    """Return a sentence of what happens, and where; of two rows at a time where no call of one row was seen.

    How far two rows are apart is not varied: what happens wherever it was looked for need not in every call.
    """
    if call.nrc == 2:
        return f"With nrc = 2: {what[0].lower()}{what[1:]}{words}."
    return f"{what}{words or ' in every call'}."


def length_of(call: Call) -> str:
    """Return the sizes of a call in words."""
    return ", ".join(f"{name} = {size}" for name, size in _sizes(call).items())


def _said_of(fault: Fault, call: Call, ask: Ask) -> tuple[dict[str, Any], str] | None:
    """Return in which calls it happens, and how much is kept, where that is what happens."""
    survey = _Survey(fault, call, ask)
    if fault is Fault.STACK_EXCEEDED:
        return stack_law(_sizes(call), survey.told)
    found = _where(fault, call, ask) if call.function in ROW_FUNCTIONS else _in_shapes(survey, call)
    if found is None or fault is not Fault.RESOURCES_KEPT:
        return found
    where, words = found
    kept = kept_law(_sizes(call), survey.told)
    return ({**where, **kept[0]}, f"{words}{kept[1]}") if kept else found


def _sizes(call: Call) -> dict[str, int]:
    if call.function == MUL_MAT:
        return {"m": call.bs, "n": call.bx, "nb": call.n // 32}
    return {"size": call.n} if call.function == ACTIVATION else {"nb": call.n // 32}


def _where(fault: Fault | None, call: Call, ask: Ask) -> tuple[dict[str, Any], str] | None:
    """Return in which calls it happens: as JSON data, and as the end of a sentence.

    Without a fault it is that a call does not return.
    """
    survey = _Survey(fault, call, ask)
    for base in (_sample, _plain):
        found, is_regular = _found(survey, call, partial(base, call))
        if found:
            return min(found, key=lambda one: one[0])[1:]
        if is_regular:
            break
    empty = survey.happens(lambda n: (_sample(call, n),), 0)
    return ({"values": "", "length": "empty"}, " where there are no elements") if empty else None


def _found(
    survey: _Survey, call: Call, base: Callable[[int], Call]
) -> tuple[list[tuple[int, dict[str, Any], str]], bool]:
    """Return conditions under which it happens, each with what it says; and whether values decide alone."""
    found: list[tuple[int, dict[str, Any], str]] = []
    for words, make in _contents(call, base):
        hits = survey.hits(make)
        if not any(hits.values()):
            continue
        rule = survey.rule(make, hits)
        if rule is None and not words:
            return [], False
        if rule is None:
            continue
        noun = ("element", "size") if call.function == ACTIVATION else ("block", "nb")
        text = rule.text(*noun).partition(" where ")[2]
        conditions = [one for one in (words, text) if one]
        where = {"values": words, "length": [c.to_json() for c in rule.length]}
        found.append((len(rule.length), where, f" where {' and '.join(conditions)}" if conditions else ""))
        if not words or not text:
            break
    return found, True


def _in_shapes(survey: _Survey, call: Call) -> tuple[dict[str, Any], str] | None:
    """Return in which products it happens: conditions on m, n and the blocks of a row that hold together."""
    shape = (call.bs, call.bx, call.n // 32)
    rules: dict[str, Rule] = {}
    for number, name in enumerate(("m", "n", "nb")):
        make = partial(_in_shape, shape, number)
        rule = survey.rule(make, survey.hits(make))
        if rule is None:
            return None
        rules[name] = rule
    rng = np.random.default_rng(3)
    for tried in rng.integers(1, 20, (TOGETHER, 3)).tolist():
        wanted = all(rule.takes(size) for rule, size in zip(rules.values(), tried, strict=True))
        if survey.happens(partial(_in_shape, tried, 2), tried[2]) is not wanted:
            return None
    texts = [rule.text("row", name).partition(" where ")[2] for name, rule in rules.items()]
    where = {"length": {name: [c.to_json() for c in rule.length] for name, rule in rules.items()}}
    conditions = [text for text in texts if text]
    return where, f" where {' and '.join(conditions)}" if conditions else ""


def _in_shape(shape: Sequence[int], number: int, size: int) -> tuple[Call, ...]:
    """Return a product of ordinary matrices of a shape, one number of which is another."""
    m, n, nb = (size if i == number else other for i, other in enumerate(shape))
    w = dot_rows.random_pair(m * nb, seed=9)[0].reshape(m, nb)
    return (calls.mul_mat(w, floats(n * nb * 32).reshape(n, nb * 32)),)


class _Survey:
    """Calls of many lengths, as one that had a side effect (or died: without a fault) was made."""

    def __init__(self, fault: Fault | None, call: Call, ask: Ask) -> None:
        self._fault, self._call, self._ask = fault, call, ask
        self._deadline = Deadline(SECONDS)
        lengths = SIZES if call.function == ACTIVATION else BLOCKS
        few = FEW_SIZES if call.function == MUL_MAT else FEW_LENGTHS
        self._lengths = [n for n in lengths if fault or n in few]

    def happens(self, make: Maker, n: int) -> bool | None:
        """Return whether a call has it; None where it does not return.

        Raises
        ------
        NoAnswerError
            The time is up.
        """
        for made in make(n):
            result = self._result(made)
            if self._fault and result is None:
                return None
            if result is not None and (self._fault is None or self._fault not in result.faults):
                return False
        return True

    def told(self, sizes: dict[str, int]) -> str | None:
        """Return what is said of an ordinary call of some sizes that has it; None where it has not."""
        *shape, n = sizes.values()
        result = self._result(_in_shape([*shape, n], 2, n)[0] if shape else _sample(self._call, n))
        return result.detail if result and self._fault and self._fault in result.faults else None

    def _result(self, made: Call) -> Result | None:
        """Make a call as the first one was made."""
        if self._deadline.has_passed:
            raise NoAnswerError("the time is up")
        again = replace(made, options=self._call.options & KEPT, repeat=self._call.repeat)
        result = self._ask(again)
        if self._fault is Fault.RESOURCES_KEPT and result and self._fault not in result.faults:
            # (What the worker frees meanwhile may hide what calls keep.)
            result = self._ask(again)
        return result

    def hits(self, make: Maker) -> dict[int, bool]:
        """Return whether calls of the usual lengths have it."""
        return {n: hit for n in self._lengths if (hit := self.happens(make, n)) is not None}

    def rule(self, make: Maker, hits: dict[int, bool]) -> Rule | None:
        """Return the rule for the lengths; a call as a whole stands for its first block."""

        def asked(n: int) -> tuple[Array, Array]:
            first = np.arange(n) == 0
            return first & bool(self.happens(make, n)), first

        rows = {n: (np.arange(n) == 0) & hit for n, hit in hits.items()}
        return find_rule(Seen(rows, {n: np.arange(n) == 0 for n in hits}), asked, LONGEST)


def _sample(call: Call, n: int) -> Call:
    return call_of(call.function, n, call.nrc)


def _plain(call: Call, n: int) -> Call:
    """Return a call on positive values that are much alike."""
    made = call_of(call.function, n, call.nrc)
    buffers = list(made.buffers)
    for side in call.spec.inputs:
        size = len(buffers[side].data)
        if call.function in (*QUANTIZERS, ACTIVATION):
            data = (1 + np.arange(size // 4) % 5 / 8).astype("<f4").tobytes()
        else:
            block = bytes([0, 0x38] * (2 if call.function == DOT_REAL else 1)) + bytes(range(1, 9)) * 4
            data = (block * (size // len(block) + 1))[:size]
        buffers[side] = replace(buffers[side], data=data)
    return replace(made, buffers=tuple(buffers))


def _contents(call: Call, base: Callable[[int], Call]) -> Iterator[tuple[str, Maker]]:
    """Yield what calls may hold, those of a base first: a clause about the inputs, and a maker by length."""
    yield "", lambda n: (base(n),)
    function = call.function
    if function == ACTIVATION:
        yield "every element is 0", partial(_floats, base, lambda x: 0 * x, (slice(None),))
        yield "an element is negative", partial(_floats, base, _one_negative, (slice(None),))
        return
    if function in QUANTIZERS:
        for (verb, at), (noun, change) in product(
            PLACES.items(),
            {
                "so small that its scale is 0": lambda x: x * np.float32(2.0**-40),
                "all zeros": lambda x: 0 * x,
                "so small that its scale is subnormal": lambda x: x * np.float32(2.0**-10),
                "as large as scales allow": lambda x: np.sign(x) * np.float32(8e6),
                "not without a negative element": _one_negative,
            }.items(),
        ):
            yield f"{verb} {noun}", partial(_floats, base, change, at)
        return
    for side, (verb, at), (noun, change) in product(call.spec.inputs, PLACES.items(), _CHANGES.items()):
        of = "" if function == DEQUANTIZE else f" of {call.spec.buffers[side].name[-1]}"
        yield f"{verb.removesuffix(' is')}{of} has {noun}", partial(_blocks, base, change, at, side)


def _one_negative(x: Array) -> Array:
    return np.where(np.arange(x.size).reshape(x.shape) % 32 == 5, -x, x)


def _floats(
    base: Callable[[int], Call], change: Callable[[Array], Array], places: tuple[int | slice, ...], n: int
) -> tuple[Call, ...]:
    """Return calls of a quantizer in which some blocks of its elements are changed."""
    call = base(n)
    function, x = call.function, np.frombuffer(call.buffers[0].data, "<f4")
    made = []
    for at in places:
        data = x.reshape(1 if function == ACTIVATION else n, -1).copy()
        data[at] = change(data[at])
        flat = data.ravel()
        made.append(calls.activation(flat) if function == ACTIVATION else calls.quantize(function, flat))
    return tuple(made)


_CODE, _CODES = slice(5, 6), slice(0, 32)

_CHANGES: dict[str, tuple[slice | None, int]] = {
    "a scale of 0": (None, 0x0000),
    "a subnormal scale": (None, 0x0155),
    "a negative scale": (None, 0xB800),
    "a code of 0": (_CODE, 0x00),
    "a code of -128": (_CODE, 0x80),
    "codes of 0 alone": (_CODES, 0x00),
    "codes of -128 alone": (_CODES, 0x80),
}
"""Another scale for a block, or other codes at some places: by the end of a clause."""


def _blocks(
    base: Callable[[int], Call],
    change: tuple[slice | None, int],
    places: tuple[int | slice, ...],
    side: int,
    n: int,
) -> tuple[Call, ...]:
    """Return calls on rows of blocks, of which some on one side have another scale, or other codes."""
    made = base(n)
    buffer = made.buffers[side]
    size = 36 if made.function == DOT_REAL else 34
    codes, value = change
    found = []
    for at in places:
        data = np.frombuffer(bytes(buffer.data), np.uint8).copy()
        rows = data[: n * size].reshape(n, size)
        if codes:
            rows[at, size - 32 :][..., codes] = value
        else:
            rows[at, : size - 32] = list(value.to_bytes(2, "little")) * ((size - 32) // 2)
        buffers = list(made.buffers)
        buffers[side] = replace(buffer, data=data.tobytes())
        found.append(replace(made, buffers=tuple(buffers)))
    return tuple(found)
