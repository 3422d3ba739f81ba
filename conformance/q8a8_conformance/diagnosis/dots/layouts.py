"""At which bytes of a block, and as which numbers, its scale is read: of x, of y, or of both rows.

Rows of random bytes are compared with every layout of a list: the forms in which sixteen bits may be read,
the bytes at which a scale may be looked for, the distances of blocks. Beside a second mistake no such row is
right in any of them: there one code in one block is enough for the forms, or, where products of scales are
rounded, too, one under scales that are written as powers of two in a form.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots.model import Model, matches
from q8a8_conformance.diagnosis.dots.read_at import read_words
from q8a8_conformance.diagnosis.dots.right_steps import SIZES
from q8a8_conformance.faults.catalogue import MUTANTS
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.inputs.arrays import Array

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.results.observations import CallResult

Form = Callable[[Array], Array]
Far = Callable[[str, Array], tuple[Array, Array]]

LENGTHS = (2, 3, 5, 8)
"""Blocks of the rows of random bytes."""

BITS = ((0x3431, 0x3935), (0x31B4, 0x3534), (0x3533, 0xB2B1), (0xB8B2, 0x34B9))
"""Scales of rows of one block: each byte is the high byte of a half of some size, of either sign."""

SINGLE = 12
"""Blocks of one code, under random scales."""

POWERS = ((1.0, 2.0), (0.5, 4.0), (8.0, 8.0), (2.0, 0.25))
"""Scales of a block whose product no known mistake changes."""

UNITS = (0, 8, 10, 12, 14, 15, 16)
"""Bits behind the point of integers that scales may be read as."""

APART = (*range(32, 41), 48, 64)
"""Bytes of blocks, as a row may be read."""

OPERANDS = ("x", "y", "xy")


def _as_half(bits: Array) -> Array:
    return np.asarray(bits.astype(np.uint16).view(np.float16))


def _as_bfloat16(bits: Array) -> Array:
    return np.asarray((bits.astype(np.uint32) << 16).view(np.float32), np.float64)


def _as_integer(bits: Array, kind: str, unit: int) -> Array:
    return np.asarray(bits.view(kind) / 2.0**unit)


def _sign_extended(bits: Array) -> Array:
    return _as_half(bits | (bits & 0x80) // 0x80 * 0xFF00)


def _added_signed(bits: Array) -> Array:
    return _as_half(bits - (bits & 0x80) * 2)


def _forms() -> Iterator[tuple[str, str, str, Form]]:
    """Yield how sixteen bits may be read: names, words, names of the catalogue, and functions of the bits."""
    slug = "scale-read-big-endian"
    yield "big-endian", "with its high byte first", slug, lambda bits: _as_half(bits.byteswap())
    yield "bfloat16", "as a bfloat16", "half-read-as-bfloat16", _as_bfloat16
    yield "high-byte", "from its high byte alone", "", lambda bits: _as_half(bits & 0xFF00)
    yield "low-byte", "from its low byte alone", "", lambda bits: _as_half(bits & 0x00FF)
    yield "sign-extended", "with its low byte sign-extended over the high one", "", _sign_extended
    yield "signed-low-byte", "with its low byte added to the high one as a signed number", "", _added_signed
    for kind, unit in itertools.product(("int16", "uint16"), UNITS):
        words = f"as {'an' if kind == 'int16' else 'a'} {kind}_t{f', in units of 2^-{unit}' * (unit > 0)}"
        yield f"{kind}/{unit}", words, "", partial(_as_integer, kind=kind, unit=unit)


OTHER_HALVES = ("big-endian", "high-byte", "low-byte", "sign-extended", "signed-low-byte")
"""Forms that are halves of other bits: what is wrong with how halves are read is another step."""


@dataclass(frozen=True)
class Layout:
    """How the blocks of some rows are read.

    Attributes
    ----------
    operand
        "x", "y" or "xy".
    name, words
        For programs, and for people: a sentence.
    cause
        The catalogue's name; empty where it has none.
    changes
        Fields of a `Model`.
    encode
        Writes version 1 blocks so that they are read as those that were given; None where that is not done.
    """

    operand: str
    name: str
    words: str
    cause: str
    changes: Mapping[str, Any]
    encode: Callable[[Array], Array] | None = None


@cache
def _layouts(version: int) -> tuple[Layout, ...]:
    """Return the layouts in which blocks of a version may be read."""
    return (*_of_forms(), *_of_catalogue(version), *_of_places(version))


@cache
def _of_forms() -> tuple[Layout, ...]:
    made = []
    for (name, words, slug, form), operand in itertools.product(_forms(), OPERANDS):
        whose = "The scale" if operand == "xy" else f"{operand.upper()}'s scale"
        one = Layout(
            operand,
            name,
            f"{whose} is read {words}.",
            slug if operand == "xy" else "",
            {
                f"{'half' if name in OTHER_HALVES else 'widen'}_{side}": partial(_read, form=form)
                for side in operand
            },
            partial(_encoded, form=form),
        )
        made.append(one)
    return tuple(made)


def _read(halves: Array, form: Form) -> Array:
    return form(np.ascontiguousarray(halves, np.float16).view(np.uint16))


def _encoded(rows: Array, form: Form) -> Array:
    """Return rows whose scales are read, in a form, as those that were given, where there are such scales."""
    values, order = _sorted(form)
    given = np.asarray(rows["weight_scale"], np.float64)
    at = order[np.clip(np.searchsorted(values, given, sorter=order), 0, order.size - 1)]
    encoded = rows.copy()
    is_given = values[at] == given
    encoded["weight_scale"] = np.where(is_given, at.astype(np.uint16).view(np.float16), rows["weight_scale"])
    return encoded


@cache
def _sorted(form: Form) -> tuple[Array, Array]:
    """Return what each pattern of bits is read as: float64 [65536], and the patterns in this order."""
    with np.errstate(invalid="ignore"):  # (Some are signaling NaN.)
        values = np.asarray(form(np.arange(1 << 16).astype(np.uint16)), np.float64)
    return values, np.argsort(values, kind="stable")


def _scale_last(rows: Array) -> Array:
    data = np.ascontiguousarray(rows).view(np.uint8).reshape(*rows.shape, rows.itemsize)
    return np.ascontiguousarray(np.roll(data, -2, axis=-1)).view(rows.dtype).reshape(rows.shape)


def _of_catalogue(version: int) -> Iterator[Layout]:
    """Yield layouts of both rows in which scales and codes are elsewhere."""
    known: dict[str, tuple[Far, Callable[[Array], Array] | None]] = {
        "scale-read-last": (lambda _side, every: (0 * every + 32, 0 * every - 2), _scale_last),
        "block-padded": (lambda _side, every: (2 * every, 2 * every), None),
    }
    if version == 2:
        known = {
            "v2-codes-early": (lambda _side, every: (0 * every, 0 * every - 2), None),
            "v2-blocks-of-34": (
                lambda side, every: (-2 * every - 2 * (side == "y"), -2 * every - 2),
                None,
            ),
        }
    for slug, (far, encode) in known.items():
        yield Layout("xy", slug, MUTANTS[slug].sentence, slug, {"read_at": _read_at("xy", far)}, encode)


def _of_places(version: int) -> Iterator[Layout]:
    size = SIZES[version]
    for operand, far in itertools.product(OPERANDS, range(-4, size)):
        if far:
            words = read_words(operand, far, 0)
            words = f"{words[0].upper()}{words[1:]}."
            step = _read_at(operand, partial(_late, by=far))
            yield Layout(operand, f"scale+{far}", words, "", {"read_at": step})
    for operand, apart in itertools.product(OPERANDS, APART):
        if apart != size:
            rows = "both rows" if operand == "xy" else operand
            step = _read_at(operand, partial(_apart, by=apart - size))
            yield Layout(
                operand,
                f"apart-{apart}",
                f"Blocks of {rows} are read {apart} bytes apart, not {size}.",
                "",
                {"read_at": step},
            )


def _late(_side: str, every: Array, by: int) -> tuple[Array, Array]:
    return 0 * every + by, 0 * every


def _apart(_side: str, every: Array, by: int) -> tuple[Array, Array]:
    return by * every, by * every


def _read_at(operand: str, far: Far) -> Callable[[str, int, int], tuple[Array, Array]]:
    """Return how far away scales and codes are read in some rows: a step of a model."""

    def read_at(side: str, nb: int, _at: int) -> tuple[Array, Array]:
        every = np.arange(nb)
        of = far(side, every)
        return of if side in operand else (0 * every, 0 * every)

    return read_at


def layouts(bench: Bench) -> Iterator[Measured]:
    """Find another layout of blocks, and let the experiments to come write rows in it."""
    rng = dot_rows.generator("layouts")
    tried = [bench.answer(bench.call(*(_random(rng, nb) for _ in "xy"))) for nb in LENGTHS]
    tried += [bench.answer(bench.call(*(_random(rng, 1, bits) for bits in both))) for both in BITS]
    if all(matches(Model(), one) for one in tried):
        return
    found = next((one for one in _layouts(bench.version) if _gives(one, tried)), None)
    if found is None:
        tried = list(_single(bench, rng))
        is_wrong = not all(matches(Model(), one) for one in tried)
        every = itertools.chain(
            (one for one in _of_forms() if _gives(one, tried)),
            (one for one in _of_forms() if _is_read_so(bench, one)),
        )
        found = next(every, None) if is_wrong else None
    if found is None:
        return
    shown = next(one.call for one in tried if not matches(Model(), one))
    yield bench.measured(
        "scale-read" if found.name == "bfloat16" else "block-layout",
        {"as": found.name, "operand": found.operand},
        "" if found.cause else found.words,
        cause=found.cause,
        rule="" if found.cause else f"Q8A8-LAY-{1 if bench.version == 1 else 3}",
        fix="" if found.cause else FIX,
        evidence=[bench.evidence(shown, f"{shown.n // 32} random blocks")],
        changes=found.changes,
    )


FIX = "Read each block's scale as the little-endian half at its own place."


def encoders_of(version: int, found: Sequence[Measured]) -> dict[str, Callable[[Array], Array]]:
    """Return how rows of x and of y are written so that they are read as they are given."""
    # (Of other facts what is read may be several things, in a list.)
    named = [(one.where.get("as"), one.where.get("operand")) for one in found]
    return {
        side: one.encode
        for one in _layouts(version)
        if (one.name, one.operand) in named and one.encode is not None
        for side in one.operand
    }


def _gives(one: Layout, tried: Sequence[CallResult]) -> bool:
    return all(matches(Model(**one.changes), each) for each in tried)


def _is_read_so(bench: Bench, one: Layout) -> bool:
    """Return whether single products are right once their scales are written in a form, and not before."""
    right = []
    for encode in (None, one.encode):
        results = []
        for both in POWERS:
            rows = {side: bench.one(3) for side in "xy"}
            for (side, row), scale in zip(rows.items(), both, strict=True):
                row["weight_scale"][bench.place] = scale
                rows[side] = encode(row) if encode and side in one.operand else row
            found = np.frombuffer(bench.outputs(bench.call(*rows.values()))[0], "<f4")
            results.append(found[0] == 9 * both[0] * both[1])
        right.append(all(results))
    return right == [False, True]


def _numbers(bits: Array) -> Array:
    """Return halves that are neither small nor large, in any byte order."""
    return np.asarray((bits & 0xBBBB | 0x3030).astype(np.uint16).view(np.float16))


def _random(rng: np.random.Generator, nb: int, bits: int | None = None) -> Array:
    row = dot_rows.blocks(1.0, rng.integers(-60, 61, (nb, 32)))
    row["weight_scale"] = _numbers(rng.integers(0, 1 << 16, nb) if bits is None else np.array([bits]))
    return row


def _single(bench: Bench, rng: np.random.Generator) -> Iterator[CallResult]:
    """Yield calls of one block that counts, with one code in it."""
    for bits in rng.integers(0, 1 << 16, (SINGLE, 2)):
        rows = [bench.one(code) for code in (3, 5)]
        for row, scale in zip(rows, _numbers(bits), strict=True):
            row["weight_scale"][bench.place] = scale
        yield bench.answer(bench.call(*rows))
