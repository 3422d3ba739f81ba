"""What dequantization does wrong, as facts: the values that it reads are measured, and named afterwards.

constant
    Rows of other bytes give the same value everywhere: then nothing else is measured.
layout
    Each byte of a row is changed in turn: the elements that change with it depend on it.
scales and codes
    All 65,536 halves come with the code 1, all 256 codes with one scale: two tables of the values read.
products
    Every half also comes with 31 other codes. Where the tables' product is not what was written, the
    arithmetic is at fault: its precision, the sign of its zeros, or single pairs of values.
places
    What is otherwise in rows of some lengths (`dequantizer_places`).

Mistakes of the catalogue name what was measured: theirs is the same table, or it is another fault.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8_conformance.diagnosis.dequantizer_effects import PRODUCTS
from q8a8_conformance.diagnosis.dequantizer_model import (
    BLOCK,
    CODES,
    F32,
    FINITE,
    HALVES,
    SIZE,
    Dequantizer,
    DequantizerCalls,
    as_specified,
    bits_of,
    build_row,
    known_steps,
    layouts,
    outputs,
    read_right,
    scale_tables,
    single_mistakes,
)
from q8a8_conformance.diagnosis.dequantizer_places import lanes, places, various
from q8a8_conformance.diagnosis.dequantizer_products import as_known, of_products, of_whole
from q8a8_conformance.diagnosis.experiments.scale_sources import OF_BLOCKS
from q8a8_conformance.diagnosis.facts import Difference, MeasuredFunction, words
from q8a8_conformance.diagnosis.quantizer_values import state_facts
from q8a8_conformance.faults import steps
from q8a8_conformance.inputs.calls import DEQUANTIZE
from q8a8_conformance.reveal.asking import NoAnswerError
from q8a8_conformance.reveal.quantizer_calls import FILLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import Failure
    from q8a8_conformance.reveal.quantizer_calls import AnySession

Array = NDArray[Any]

ROW = 256
"""Blocks of the rows in which halves are read."""

SHORT, SOME = 8, 37
"""Their blocks where such a row is no good; every so many halves are read then."""

TAGGED = 4
"""Blocks of the row whose bytes are changed in turn."""

EDGES = (-128, -127, 127, 126, 0, -1, 2)
SCALE_RULES = {"subnormal": "Q8A8-HLF-2", "signs": "Q8A8-DEQ-2", "": "Q8A8-HLF-3"}
BLOCK_LAYOUT, ROW_LAYOUT, VALUE, ANY = "Q8A8-LAY-1", "Q8A8-LAY-2", "Q8A8-DEQ-1", "Q8A8-DEQ-2"
CONSTANT = "output-constant"


def dequantizer_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find what a dequantizer that has failed does wrong: the facts that explain most failed calls first."""
    calls = DequantizerCalls(session)
    found: list[Difference] = []
    model = Dequantizer()
    try:
        for step in (_constant, _layout, lanes, _tables, partial(places, failures=failures)):
            differences, model = step(calls, model)
            found += differences
            if any(one.fact == CONSTANT for one in differences):
                break  # Nothing is read that could be measured.
    except NoAnswerError:
        return []  # How it dies is another finding.
    made = MeasuredFunction(DEQUANTIZE, model, Dequantizer(), outputs, calls.make, _shown)
    return made.facts(
        found, partial(_candidates, model), failures, partial(state_facts, calls.make, failures)
    )


def _benign(nb: int) -> Array:
    """Return a row of bytes that are a scale and codes of ordinary size wherever they are read."""
    return np.random.default_rng(nb).integers(0x30, 0x40, (nb, SIZE)).astype(np.uint8)


def _constant(calls: DequantizerCalls, model: Dequantizer) -> tuple[list[Difference], Dequantizer]:
    """Find that every element is one value, whatever the row holds, and whatever is there before."""
    seen = np.concatenate([calls(_benign(nb), fill) for nb, fill in zip((TAGGED, 33), FILLS, strict=True)])
    if (seen != seen[0, 0]).any():
        return [], model
    value = seen[0, 0].view(F32)
    named = words(
        f"Every element comes out as {value:g}, whatever its scale and its code.",
        rule=VALUE,
        fix="Write d · q of each element: is the row read at all?",
    )
    found = Difference(CONSTANT, {"value": float(value)}, *named, partial(replace, product=steps.value))
    return [found], replace(model, product=lambda _, q: np.full(q.shape, value, F32))


def _layout(calls: DequantizerCalls, model: Dequantizer) -> tuple[list[Difference], Dequantizer]:
    """Find the bytes that each element depends on, and which layout that is."""
    row = _benign(TAGGED)
    got = calls(row)
    if np.array_equal(got, model.predict(row, got)):
        return [], model
    depends = np.zeros((TAGGED, BLOCK, row.size), np.bool_)
    for place in range(row.size):
        changed = row.copy()
        changed.reshape(-1)[place] ^= 0x05
        depends[:, :, place] = calls(changed) != got
    fitting = [(slug, of) for slug, of in layouts().items() if _fits(of, depends)]
    where: dict[str, Any]
    if fitting:
        # Two orders of a scale's bytes depend on the same ones.
        right = [(replace(model, places=of).predict(row, got) == got).sum() for _, of in fitting]
        slug, places = fitting[int(np.argmax(right))]
        if not slug:
            return [], model
        fact, where, named = "layout", {"layout": slug}, words(cause=slug)
    elif other := _scale_of_another(depends):
        name, whose, places = other
        fact, where = "scale-of-another-block", {"scale": name}
        named = words(
            f"Codes are multiplied by the scale of {whose}.",
            rule=VALUE,
            fix="Multiply each code by the scale of its own block.",
        )
    elif sum(_fits(as_specified, depends, b) for b in range(TAGGED)) > TAGGED // 2:
        return [], model  # What is otherwise in the others is a matter of places.
    else:
        read = [np.flatnonzero(of).tolist() for of in depends[0]]
        wrong = next((j for j in range(BLOCK) if read[j] != [0, 1, 2 + j]), 0)
        in_scale = not depends[0, :, :2].any(axis=0).all()
        fact, where, places = "layout", {"bytes": read}, _gathered(depends)
        own = f"{_few(read[wrong])}, not on 0, 1, {2 + wrong}"
        named = words(
            f"Element {wrong} of block 0 depends on the row's bytes {own}.",
            rule=BLOCK_LAYOUT if in_scale else ROW_LAYOUT,
            fix="Read the scale of block b at byte 34·b, and its element j at byte 34·b + 2 + j.",
        )
    found = Difference(fact, where, *named, partial(replace, places=as_specified))
    return [found], replace(model, places=places)


def _scale_of_another(depends: Array) -> tuple[str, str, Callable[[int], Array]] | None:
    """Return whose scale codes meet that are read at their own places: its name, words, and the layout."""
    every = np.arange(TAGGED)
    by_block = depends.reshape(TAGGED, BLOCK, TAGGED, SIZE)
    scales = by_block[..., :2].any(axis=(1, 3))
    own = (every[:, np.newaxis, np.newaxis, np.newaxis] == every[:, np.newaxis]) & np.eye(
        BLOCK, dtype=np.bool_
    )[:, np.newaxis, :]
    if (by_block[..., 2:] != own).any() or (scales.sum(axis=1) != 1).any():
        return None
    for name, whose, of in OF_BLOCKS[1:]:
        if np.array_equal(of(every, TAGGED), scales.argmax(axis=1)):

            def places(nb: int, of: Callable[[Array, int], Array] = of) -> Array:
                numbers = np.arange(nb)
                layout = SIZE * numbers[:, np.newaxis] + np.arange(SIZE)
                layout[:, :2] = SIZE * of(numbers, nb)[:, np.newaxis] + np.arange(2)
                return layout

            return name, whose, places
    return None


def _fits(places: Callable[[int], Array], depends: Array, *blocks: int) -> bool:
    """Return whether elements depend on the bytes that a layout reads, but for those behind the row.

    Those of all blocks, unless some are given.
    """
    of = places(TAGGED)
    return all(
        set(np.flatnonzero(depends[b, j]).tolist()) == {*of[b, :2].tolist(), int(of[b, 2 + j])}
        for b, j in itertools.product(blocks or range(TAGGED), range(BLOCK))
        if min(*of[b, :2], of[b, 2 + j]) >= 0
    )


def _gathered(depends: Array) -> Callable[[int], Array]:
    """Return a layout in which each block is read alike, from what its elements depend on."""
    first = depends[0].sum(axis=0)
    scale = np.flatnonzero(first > 1)[:2]
    order = np.arange(SIZE)
    if scale.size == 2:
        order[:2] = scale
        for j in range(BLOCK):
            own = [place for place in np.flatnonzero(depends[0, j]) if place not in scale]
            order[2 + j] = own[0] if len(own) == 1 and own[0] < SIZE else 2 + j
    return lambda nb: SIZE * np.arange(nb)[:, np.newaxis] + order


def _tables(calls: DequantizerCalls, model: Dequantizer) -> tuple[list[Difference], Dequantizer]:
    """Measure the values of scales and codes, and what is made of them."""
    nb = ROW if _is_alike(calls) else SHORT
    halves = HALVES if nb == ROW else HALVES[::SOME][: len(HALVES) // SOME // SHORT * SHORT]
    bits, h, q = _read(calls, model, halves, _codes(len(halves)), nb)
    if not model.lanes and (whole := of_whole(h, q, bits)):
        return whole, replace(model, product=PRODUCTS[whole[0].where["as"]][1])
    scales = read_right()[0].copy()
    block, lane = np.nonzero((q == 1) & model.plain())
    scales[h[block]] = bits[block, lane].view(F32)
    was_read = np.isin(HALVES, h[block]) & FINITE
    # What is made of infinities and NaNs is taken as it is: any value is right.
    finite = FINITE[h]
    bits, h, q = bits[finite], h[finite], q[finite]
    table = read_right()[1] if model.lanes else _code_table(calls, model, scales, was_read)
    model = replace(model, scales=scales, codes=table)
    found: list[Difference] = []
    is_unsigned = not (bits == 0x80000000).any()
    if is_unsigned:
        model = replace(model, **single_mistakes()["dequantize-zero-unsigned"])
        found.append(as_known("zero-sign", "dequantize-zero-unsigned", "product", steps.value))
    same = partial(_same, unsigned=is_unsigned)
    found += [*_of_scales(scales, was_read, same), *_of_codes(table, same)]
    with np.errstate(all="ignore"):
        wrong = ~same(bits_of(model.product(scales[h], model.values(q))), bits)
    if wrong.any():
        differences, model = of_products(model, h, q, bits, wrong)
        found += differences
    return found, model


def _codes(n: int) -> Array:
    """Return the codes of n blocks by their bytes: 1 and `EDGES` in each, at other places, and 24 more."""
    numbers = np.arange(n)[:, np.newaxis]
    some = np.broadcast_to([1, *EDGES], (n, 8))
    codes = np.concatenate([some, (numbers * 24 + np.arange(24)) % 256], axis=1).astype(np.uint8)
    return np.take_along_axis(codes, (np.arange(BLOCK) - numbers) % BLOCK, axis=1)


def _code_table(calls: DequantizerCalls, model: Dequantizer, scales: Array, was_read: Array) -> Array:
    """Return the values of all codes, read off with a scale that is a power of two: to divide is exact."""
    table = read_right()[1].copy()
    is_plain = was_read & (bits_of(scales) & 0x7FFFFF == 0) & (scales > 2.0**-20) & (scales < 8)
    plain = np.flatnonzero(is_plain)
    if plain.size:
        unit = plain[np.argmax(np.minimum(scales[plain], 1))]
        halves, codes = np.full(SHORT, unit, np.uint16), CODES.view(np.uint8).reshape(SHORT, BLOCK)
        bits, _, read = _read(calls, model, halves, codes, SHORT)
        table[read] = bits.view(F32) / scales[unit]
    return table


def _is_alike(calls: DequantizerCalls) -> bool:
    """Return whether blocks of a long row come out as those of short ones."""
    row = _benign(ROW)
    short = np.concatenate([calls(row[b : b + SHORT]) for b in range(0, ROW, SHORT)])
    return bool((calls(row) == short).all())


def _read(
    calls: DequantizerCalls, model: Dequantizer, halves: Array, codes: Array, nb: int
) -> tuple[Array, Array, Array]:
    """Dequantize blocks so that halves [n] and codes [n, 32] are read; return bits, and what is read."""
    wanted = np.concatenate([halves.astype("<u2").view(np.uint8).reshape(-1, 2), codes], axis=1)
    made: list[Any] = []
    places, benign = model.places(nb), _benign(nb)
    before = calls(benign)
    # A block that is read from behind the row shows nothing, nor does one that is wrong whatever it holds.
    inside = (places >= 0).all(axis=1)
    right = inside & (before == model.predict(benign, before)).all(axis=1)
    # Of those that are right, the ones that are so for scales and codes of either sign.
    mixed = various(nb)
    other = mixed ^ (np.uint8(0x80) * (np.arange(SIZE) == 1).astype(np.uint8))
    signs = [(calls(of) == model.predict(of, before)).all(axis=1) for of in (mixed, other)]
    both = right & signs[0] & signs[1]
    used = np.flatnonzero(both if both.any() else right if right.any() else inside)
    for start in range(0, len(wanted), used.size):
        some = wanted[start : start + used.size]
        here = used[: len(some)]
        row = np.append(benign.reshape(-1), np.uint8(0))
        row[places[here]] = some
        whole = row[:-1].reshape(nb, SIZE)
        made.append([of[here] for of in (calls(whole), *model.read(whole))])
    bits, h, q = (np.concatenate(of) for of in zip(*made, strict=True))
    return bits, h, q


def _same(one: Array, other: Array, *, unsigned: bool) -> Array:
    """Return where bits are equal; where zeros have no sign, those of zeros are all equal."""
    zeros = ((one | other) << 1 == 0) & unsigned
    return np.asarray((one == other) | zeros)


def _of_scales(scales: Array, was_read: Array, same: Callable[[Array, Array], Array]) -> Iterator[Difference]:
    """Yield in what the values of halves differ from the right ones."""
    right, _ = read_right()
    bits = bits_of(scales)
    wrong = was_read & ~same(bits, bits_of(right))
    if not wrong.any():
        return
    tables = scale_tables()
    small = np.where((HALVES & 0x7C00) == 0, F32(0), right)
    if not any(
        same(bits, bits_of(table))[was_read].all() for slugs, table in tables.items() if not slugs[1:]
    ) and (same(bits, bits_of(small))[was_read].all()):
        sentence = "Subnormal scales are read as +0, and so is -0: the sign is lost."
        fix = "Convert every half alike: take its exact value."
        named = words(sentence, rule=SCALE_RULES["subnormal"], fix=fix)
        yield Difference("scale-read", {"halves": "subnormal"}, *named, partial(replace, scales=right))
        return
    for slugs, table in tables.items():
        if same(bits, bits_of(table))[was_read].all():
            for slug in slugs:
                others = [other for other in slugs if other != slug]
                left = tables[others[0],] if others else right
                yield as_known("scale-read", slug, "scales", left)
            return
    which = HALVES[wrong]
    first = int(which[0])
    kind = "subnormal" if ((which & 0x7C00) == 0).all() else ""
    kind = "signs" if (which >= 0x8000).all() else kind
    where = {"halves": which[:64].tolist(), "count": len(which)}
    value = f"{scales[first]:g}, not {right[first]:g}"
    named = words(
        f"{len(which)} halves, 0x{first:04x} the first, are read as another value: {value}.",
        rule=SCALE_RULES[kind],
        fix="Convert every half alike: take its exact value.",
    )
    yield Difference("scale-read", where, *named, partial(replace, scales=right))


def _of_codes(table: Array, same: Callable[[Array, Array], Array]) -> Iterator[Difference]:
    """Yield in what the values of codes differ from the right ones."""
    _, right = read_right()
    wrong = ~same(bits_of(table), bits_of(right))
    if not wrong.any():
        return
    one = np.ones(8, F32)
    for slug, value in known_steps("value").items():
        if same(bits_of(value(one, CODES.reshape(8, 32)).reshape(-1)), bits_of(table)).all():
            yield as_known("code-read", slug, "codes", right)
            return
    which = CODES[wrong]
    where = {"codes": which.tolist(), "values": [float(v) for v in table[wrong]]}
    named = words(
        f"{len(which)} codes, {which[0]} the first, are read as another value: {table[wrong][0]:g}.",
        rule=ANY,
        fix="Take every int8 as it is.",
    )
    yield Difference("code-read", where, *named, partial(replace, codes=right))


def _few(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:6])) + (", ..." if len(numbers) > 6 else "")


def _candidates(model: Dequantizer) -> Iterator[Call]:
    """Yield calls that may show a difference, the short ones first."""
    wrong = HALVES[FINITE & (bits_of(model.scales) != bits_of(read_right()[0]))][:4].tolist()
    codes = np.array([1, *EDGES, *range(-76, -100, -1)], np.int8).view(np.uint8)
    single = [(half, code) for half, code, _ in model.pairs[:4]]
    for half in (0x3C00, 0xBC00, 0x0000, 0x8000, 0x0001, 0x3C01, 0x3FFF, *wrong, *(h for h, _ in single)):
        q = codes.copy()
        q[-1:] = [code for h, code in single if h == half][:1] or q[-1:]
        yield build_row(np.concatenate([np.array([half], "<u2").view(np.uint8), q])[np.newaxis])
    lengths = {n for rule, _ in model.parts for n in rule.shortest()}
    yield from (build_row(various(n)) for n in sorted({1, 2, 3, 4, *lengths}))


def _shown(call: Call, expected: tuple[bytes, ...], actual: tuple[bytes, ...]) -> str:
    """Describe the first difference in one line."""
    want, got = (np.frombuffer(outputs[0], "<f4") for outputs in (expected, actual))
    i = int(np.flatnonzero(want.view(np.uint32) != got.view(np.uint32))[0])
    row = np.frombuffer(bytes(call.buffers[0].data), np.uint8).reshape(-1, SIZE)
    h, q = Dequantizer().read(row)
    b, j = divmod(i, BLOCK)
    read = f"scale 0x{h[b]:04x}, code {CODES[q[b, j]]}"
    return f"element {j} of block {b}, {read}: expected {want[i]!s}, got {got[i]!s}"
