"""Blocks of which some bytes are read a little before or behind their own: other strides, offsets of a part.

Every byte of one row is noise that is a code and a part of a scale alike, and one block of the other row has
codes. So the result names the bytes that this block meets, by a search over all near ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8 import layout
from q8a8_conformance.diagnosis.dots.addresses import LINE
from q8a8_conformance.diagnosis.dots.model import Model, matches
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.reveal.places import Condition, Rule, find_rule, seen_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call

    Shift = tuple[int, int]  # of the scale and of the codes, in bytes

LENGTHS = (*range(1, 11), 16, 17, 18, 33)
"""Blocks of the rows of which each block is looked at."""

SHORT = (1, 2, 3, 5, 7, 9, 17, 33)
"""Lengths at which a row of noise must be wrong, for the blocks to be looked at."""

LONGEST = 130
FAR = 64
"""Bytes before and behind its own at which a part of a block may be read."""

LINES = (4, 8, 16, 32, 64)
"""Powers of two to whose multiples an address may be rounded."""

STEPS = (2, 4, 8, 16, 32, 3, 5, 6)
"""Blocks of which groups consist."""


def read_elsewhere(bench: Bench) -> Iterator[Measured]:
    """Find blocks of x, or of y, whose scale or codes are read at other bytes."""
    noise = (noise_call(bench, nb, "xy", nb) for nb in SHORT)
    if all(matches(Model(), bench.answer(call)) for call in noise):
        return
    for side in "xy":
        if by_address := _by_address(bench, side):
            yield by_address
            return
        seen: dict[int, dict[Any, Array] | None] = {nb: _shifts(bench, side, nb) for nb in LENGTHS}
        known = {nb: of for nb, of in seen.items() if of is not None}
        if len(known) < len(seen) or not any(known.values()):
            continue
        for sentence, where, read_at in (*_by_stride(bench, side, known), *_by_shift(bench, side, known)):
            first = next(nb for nb, of in known.items() if of)
            yield bench.measured(
                "block-read-elsewhere",
                {"operand": side, **where},
                sentence,
                like="v2-blocks-of-34" if bench.function != calls.DOT else "block-padded",
                fix="Let every block, of loops and of what they leave over, begin where the one before ends.",
                evidence=[bench.evidence(noise_call(bench, first, side, 1), f"nb = {first}")],
                changes={"read_at": read_at},
            )
            return


def noise_call(bench: Bench, nb: int, sides: str, seed: int, block: int | None = None, at: int = 0) -> Call:
    """Return the call on rows of noise; of a side that is not named, one block, or every one, has codes.

    The row of the side that is named first lies so many bytes off a cache line.
    """
    dtype = layout.BLOCK_Q8_A8 if bench.version == 1 else layout.BLOCK_Q8_A8_V2
    rng = dot_rows.generator("noise", seed, nb)
    rows = {}
    for side in "xy":
        noise = (rng.integers(0, 256, nb * dtype.itemsize) & 0x83 | 0x38).astype(np.uint8)
        blocks = np.frombuffer(noise.tobytes(), dtype).copy()
        if side not in sides and block is not None:
            blocks["weight_qs"][np.arange(nb) != block] = 0
        rows[f"v{side}"] = blocks.tobytes()
    call = calls.build(bench.function, 32 * nb, rows, {"s": bytes(4)})
    return calls.misaligned(call, {f"v{sides[0]}": at}) if at else call


def _by_address(bench: Bench, side: str) -> Measured | None:
    """Find that codes are read at an address that is rounded down, or that the block's address says where."""
    few, size = 3, bench.size
    if bench.of_result is not None:
        return None
    first, moved = (_shifts(bench, side, few, at) for at in (0, 2))
    if first is None or moved is None or _lists(first, few) == _lists(moved, few):
        return None
    by_place: dict[int, Shift] = {}
    for at in range(0, LINE, 2):
        found = _shifts(bench, side, few, at)
        for block, shift in enumerate(_lists(found, few) if found is not None else ()):
            if by_place.setdefault((at + size * block) % LINE, shift) != shift:
                return None
    modulus = next(m for m in (*LINES, LINE) if all(by_place[at] == by_place.get(at % m) for at in by_place))
    header = size - 32
    rounded = next((m for m in LINES if all(s == (0, -((at + header) % m)) for at, s in by_place.items())), 0)
    wrong = {at: shift for at, shift in by_place.items() if at < modulus and shift != (0, 0)}
    words = f"The codes of {side} are read from their address rounded down to a multiple of {rounded}."
    if not rounded:
        some = "; ".join(
            f"where a block of {side} begins at {at} mod {modulus}, {read_words(side, *shift)}"
            for at, shift in wrong.items()
        )
        words = f"{some[:1].upper()}{some[1:]}."
    shifts = np.array([by_place.get(at, (0, 0)) for at in range(LINE)])

    def read_at(name: str, nb: int, at: int) -> tuple[Array, Array]:
        of = shifts[(at + size * np.arange(nb)) % LINE] * (name == side)
        return of[:, 0], of[:, 1]

    where = {"operand": side, "address": modulus, "shifts": {str(at): list(of) for at, of in wrong.items()}}
    nb, at = next(
        (nb, at) for at in range(0, LINE, 2) for nb in (1, 2) if (at + size * nb - size) % modulus in wrong
    )
    return bench.measured(
        "block-read-elsewhere",
        where,
        words,
        rule="Q8A8-ENV-2",
        fix="Load bytes where they are, by an instruction or a copy that needs no alignment.",
        evidence=[bench.evidence(noise_call(bench, nb, side, 1, nb - 1, at), f"v{side} at {at} mod {LINE}")],
        changes={"read_at": read_at},
    )


def _lists(found: Mapping[Shift, Array], nb: int) -> list[Shift]:
    """Return how far away each block of a row is read."""
    return [next((shift for shift, where in found.items() if where[b]), (0, 0)) for b in range(nb)]


def _shifts(bench: Bench, side: str, nb: int, at: int = 0) -> dict[Shift, Array] | None:
    """Return which blocks of a row are read elsewhere, by how far; None where one is read nowhere near."""
    found: dict[Shift, Array] = {}
    for block in range(nb):
        fitting: set[Shift] | None = None
        for seed in (1, 2):
            call = noise_call(bench, nb, side, seed, block, at)
            value = float(np.frombuffer(bench.outputs(call)[0], "<f4")[0])
            # (What is not counted is read nowhere.)
            fits = _fitting(bench, side, call, block, value) if value else set()
            fitting = fits if fitting is None else fitting & fits
        if not fitting:
            return None
        if (0, 0) not in fitting:
            nearest = min(fitting, key=lambda of: abs(of[0]) + abs(of[1]))
            found.setdefault(nearest, np.zeros(nb, np.bool_))[block] = True
    return found


def _fitting(bench: Bench, side: str, call: Call, block: int, value: float) -> set[Shift]:
    """Return how far away scale and codes may be, where a block of the other row gives a value."""
    version, size = bench.version, bench.size
    own, other = (calls.inputs_of(call)[f"v{name}"] for name in (side, "yx"["xy".index(side)]))
    dtype = layout.BLOCK_Q8_A8 if version == 1 else layout.BLOCK_Q8_A8_V2
    met = np.frombuffer(other, dtype)[block]
    of_scale = {"x": 0, "y": 2 * (version == 2)}
    scale = float(met["activation_scale" if version == 2 and side == "x" else "weight_scale"])
    data = np.zeros(len(own) + 2 * FAR + size, np.uint8)
    data[FAR : FAR + len(own)] = np.frombuffer(own, np.uint8)
    start = FAR + block * size
    steps = np.arange(-FAR, FAR + 1)
    codes = data.view(np.int8)[start + size - 32 + steps[:, np.newaxis] + np.arange(32)].astype(np.int64)
    sums = codes @ met["weight_qs"].astype(np.int64)
    pairs = data[start + of_scale[side] + steps[:, np.newaxis] + np.arange(2)]
    scales = np.ascontiguousarray(pairs).view(np.float16)[:, 0].astype(np.float64)
    found: set[Shift] = set()
    for of_scales, of_codes in ((steps, steps), (0 * steps, steps), (steps, 0 * steps)):
        terms = scales[of_scales + FAR] * sums[of_codes + FAR] * scale
        near = np.isclose(terms, value, rtol=1e-6, atol=0)
        found |= set(zip(of_scales[near].tolist(), of_codes[near].tolist(), strict=True))
    return found


def _by_stride(
    bench: Bench, side: str, seen: Mapping[int, dict[Shift, Array]]
) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield another distance of the blocks that groups leave over: words, data, and a step of a model."""
    size = bench.size
    nb, of_first = next((nb, of) for nb, of in seen.items() if of)
    shift, where = next(iter(of_first.items()))
    block = int(np.argmax(where))
    for step in STEPS:
        by = shift[0] // max(block - nb // step * step, 1)

        def of_row(nb: int, step: int = step, by: int = by) -> Array:
            blocks = np.arange(nb)
            return np.where(blocks >= nb // step * step, (blocks - nb // step * step) * by, 0)

        if by and all(
            np.array_equal(of_row(nb), _as_row(of, nb, 0)) and np.array_equal(of_row(nb), _as_row(of, nb, 1))
            for nb, of in seen.items()
        ):
            which = f"The blocks of {side} that are left over after groups of {step}"
            sentence = f"{which} are read {size + by} bytes apart, not {size}."
            yield (
                sentence,
                {"apart": size + by, "groups": step},
                _step(side, lambda nb: (of_row(nb), of_row(nb))),
            )
            return


def _as_row(of: Mapping[Shift, Array], nb: int, part: int) -> Array:
    shifts = np.zeros(nb, np.int64)
    for shift, where in of.items():
        shifts[where] = shift[part]
    return shifts


def _by_shift(
    bench: Bench, side: str, seen: Mapping[int, dict[Shift, Array]]
) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield blocks that are all read as far away: words, data, and a step of a model."""
    shifts = {shift for of in seen.values() for shift in of}
    size = bench.size
    shift = shifts.pop()
    if shifts or not any(part % size for part in shift):
        return
    found, ask = seen_of(shift, dict(seen), lambda nb: _shifts(bench, side, nb) or {})
    rule = find_rule(found, ask, LONGEST)
    if rule is None:
        return
    text = "" if rule == Rule(Condition("any")) else f"in {rule.text('block', 'nb')}: "
    words = f"{text}{read_words(side, *shift)}."
    yield (
        f"{words[0].upper()}{words[1:]}",
        {"scale": shift[0], "codes": shift[1], "blocks": rule.to_json()},
        _step(side, lambda nb: (shift[0] * rule.holds(nb), shift[1] * rule.holds(nb))),
    )


def read_words(side: str, of_scale: int, of_codes: int) -> str:
    """Say which part of a block is read how far away."""
    part = "the codes" if of_codes else "the scale"
    part = "the scale and the codes" if of_scale == of_codes else part
    by = of_codes or of_scale
    read = f"{'is' if part == 'the scale' else 'are'} read {abs(by)} byte{'s' * (abs(by) > 1)}"
    return f"{part} of {'both rows' if side == 'xy' else side} {read} too {'early' if by < 0 else 'late'}"


def _step(
    side: str, of_row: Callable[[int], tuple[Array, Array]]
) -> Callable[[str, int, int], tuple[Array, Array]]:
    """Return how far away scales and codes of one row are read: a step of a model."""

    def read_at(name: str, nb: int, _at: int) -> tuple[Array, Array]:
        none = np.zeros(nb, np.int64)
        return of_row(nb) if name == side else (none, none)

    return read_at
