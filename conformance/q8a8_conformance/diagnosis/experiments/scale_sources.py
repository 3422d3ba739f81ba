"""Whose scale a block takes: its own, the first one's, a neighbour's, another one's of a group."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.reveal.places import Seen, find_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from q8a8_conformance.diagnosis.experiments.bench import Bench, Measured
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.reveal.places import Rule

    Array = NDArray[Any]

SHIFTS = 3
"""Distances of scales that may have rules of their own."""

SCALES = (
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61,
    67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149,
)  # fmt: skip
"""Scales of x and of y, for rows of up to 17 blocks: the product of two names them."""


LENGTHS = (4, 3, 2, 5, 7, 8, 9, 16, 17)
"""Blocks of rows that are looked at; a shorter one of two that are wrong is shown."""


def block_scales(bench: Bench) -> Iterator[Measured]:
    """Find blocks that take another block's scale: each block's scales are primes, and one block counts."""
    seen, calls = {}, {}
    for nb in LENGTHS:
        taken, calls[nb] = _taken(bench, nb)
        if (-1, -1) not in taken:
            seen[nb] = np.array(taken).T
    wrong = [nb for nb, of in seen.items() if (of != np.arange(nb)).any()]
    if not wrong:
        if len(seen) == len(LENGTHS) and bench.nrc == 1:
            yield from _kept(bench)
        return
    nb = wrong[0]
    taken = [tuple(pair) for pair in seen[nb].T.tolist()]
    sides = [_source(bench, side, {nb: of[side] for nb, of in seen.items()}) for side in (0, 1)]
    (name_x, _, of_x), (name_y, _, of_y) = sides
    block = next(b for b in range(nb) if taken[b] != (b, b))
    others = [
        (side, name, words) for side, (name, words, _) in zip("xy", sides, strict=True) if name != "own"
    ]
    texts = [f"{side}'s codes meet the scale of {words}" for side, _, words in others]
    yield bench.measured(
        "scale-of-another-block",
        {
            "scale": name_x
            if name_x == name_y
            else " and ".join(f"{name} of {side}" for side, name, _ in others),
            "blocks": nb,
            "taken": taken,
        },
        "; ".join(texts) + ".",
        like="first-scale-for-all",
        cause={("first", "first"): "first-scale-for-all", ("next", "own"): "scale-of-next-block"}.get(
            (name_x, name_y), ""
        ),
        evidence=[bench.evidence(calls[nb][block], f"1 · 1 in block {block} of {nb}, every scale a prime")],
        changes={"scale_of_x": of_x, "scale_of_y": of_y},
    )


def _kept(bench: Bench) -> Iterator[Measured]:
    """Find scales that are kept while those of the other row stay the same, as if these were all."""
    nb, primes = 4, np.array(SCALES[:4])
    for side, other in ("yx", "xy"):
        codes = np.eye(nb, dtype=np.int64)
        rows = [
            (bench.row(one, primes if side == "x" else 1.0), bench.row(one, primes if side == "y" else 1.0))
            for one in codes
        ]
        if [bench.value(*row) for row in rows] != [primes[0]] * nb:
            continue

        def pick(xw: Array, _xa: Array, _yw: Array, ya: Array, side: str = side) -> tuple[Array, Array]:
            own, same = (xw, ya) if side == "x" else (ya, xw)
            first = np.arange(own.size)
            first[1:][same[1:] == same[:-1]] = 0
            kept = own[np.maximum.accumulate(first)]
            return (kept, ya) if side == "x" else (xw, kept)

        yield bench.measured(
            "scale-of-another-block",
            {"scale": f"kept of {side}", "while": f"equal scales of {other}"},
            f"The scale of {side} is kept from the block before where {other}'s is the same as there.",
            like="first-scale-for-all",
            evidence=[bench.shown(*rows[1], f"1 · 1 in block 1 of {nb}, every scale of {side} a prime")],
            changes={"pick": pick},
        )
        return


def _taken(bench: Bench, nb: int) -> tuple[list[tuple[int, int]], list[Call]]:
    """Return for each block of a row those of x and y whose scales it takes, and the calls that show it."""
    dx, dy = SCALES[:nb], SCALES[nb : 2 * nb]
    products = {float(x * y): (i, j) for i, x in enumerate(dx) for j, y in enumerate(dy)}
    taken, made = [], []
    for block in range(nb):
        codes = np.zeros(nb, np.int64)
        codes[block] = 1
        made.append(bench.call(bench.row(codes, dx), bench.row(codes, dy)))
        value = float(np.frombuffer(bench.outputs(made[-1])[0], "<f4")[0])
        taken.append(products.get(value, (-1, -1)))
    return taken, made


Source = tuple[str, str, "Callable[[Array, int], Array]"]
"""Whose scale a block takes: name, words, and the function of the blocks' numbers and of nb."""


def _source(bench: Bench, side: int, seen: Mapping[int, Array]) -> Source:
    """Return whose scales blocks take, by those that they take in rows of each length."""
    shifts = {nb: of - np.arange(nb) for nb, of in seen.items()}
    for source in (*OF_BLOCKS, *_left_over(), *_patterns(shifts)):
        if all((source[2](np.arange(nb), nb) == of).all() for nb, of in seen.items()):
            return source
    if ruled := _ruled(bench, side, shifts):
        return ruled
    nb = next(nb for nb, shift in shifts.items() if shift.any())
    block = int(np.flatnonzero(shifts[nb])[0])
    words = f"other blocks, with {nb} in a row block {block} that of block {seen[nb][block]}"
    return "others", words, partial(_as_seen, seen)


def _ruled(bench: Bench, side: int, shifts: Mapping[int, Array]) -> Source | None:
    """Return the source of blocks that take scales as far away at places of a rule; None without one."""
    rules: dict[int, Rule] = {}

    def ask(nb: int) -> Array:
        return np.array(_taken(bench, nb)[0])[:, side] - np.arange(nb)

    def shifted(shift: int, nb: int) -> tuple[Array, None]:
        return ask(nb) == shift, None

    for shift in {int(step) for of in shifts.values() for step in of if step}:
        seen = Seen({nb: of == shift for nb, of in shifts.items()})
        rule = find_rule(seen, partial(shifted, shift), max(LENGTHS))
        if rule is None or len(rules) == SHIFTS:
            return None
        rules[shift] = rule
    words = " and ".join(
        f"block b {'-' if shift < 0 else '+'} {abs(shift)} in {rule.text('block', 'nb')}"
        for shift, rule in rules.items()
    )

    def of(numbers: Array, nb: int) -> Array:
        blocks = numbers % max(nb, 1)
        return np.asarray(numbers + sum(shift * rule.holds(nb)[blocks] for shift, rule in rules.items()))

    return "by a rule", words, of


def _as_seen(seen: Mapping[int, Array], numbers: Array, nb: int) -> Array:
    """Take the scales that were seen to be taken; in rows of other lengths their own."""
    return np.asarray(numbers - numbers % nb + seen[nb][numbers % nb]) if nb in seen else numbers


def _left_over() -> Iterator[Source]:
    """Yield sources of the blocks alone that a loop leaves over."""
    for step in (2, 3, 4, 5, 6, 7, 8, 16):
        for name, words, of in OF_BLOCKS[1:6]:
            left = f"left over after steps of {step}"
            yield (
                f"{name} of those {left}",
                f"{words} among those {left}, in these blocks",
                partial(_of_rest, of, step, within=True),
            )
            yield f"{name} in those {left}", f"{words}, in blocks {left}", partial(_of_rest, of, step)


def _of_rest(
    of: Callable[[Array, int], Array], step: int, numbers: Array, nb: int, *, within: bool = False
) -> Array:
    """Apply a function of blocks to those left over alone; within them, or in the whole row."""
    blocks, first = numbers % max(nb, 1), nb - nb % step
    if first == nb:
        return numbers
    source = first + of(blocks - first, nb - first) if within else of(blocks, nb)
    return np.asarray(numbers - blocks + np.where(blocks < first, blocks, source))


def _patterns(shifts: Mapping[int, Array]) -> Iterator[Source]:
    """Yield sources by groups, by how far away the scales are that blocks of the longest row take."""
    longest = shifts[max(shifts)]
    for group, whole in ((group, whole) for group in (2, 3, 4, 5, 6, 7, 8) for whole in (True, False)):
        pattern = longest[:group]
        places = {r: int(step) for r, step in enumerate(pattern) if step}
        words = " and ".join(
            f"block b {'-' if shift < 0 else '+'} {abs(shift)} where b mod {group} is "
            + " or ".join(str(r) for r, step in places.items() if step == shift)
            for shift in dict.fromkeys(places.values())
        )
        left = f", but for those left over after groups of {group}" if whole else ""
        yield f"by groups of {group}: {places}", words + left, _of_group(pattern, whole=whole)


def _of_group(pattern: Array, *, whole: bool) -> Callable[[Array, int], Array]:
    """Return the blocks that lie as far away as a pattern says, by their numbers modulo its length."""

    def of(numbers: Array, nb: int) -> Array:
        blocks = numbers % max(nb, 1)
        most = nb // pattern.size * pattern.size if whole else nb
        return np.asarray(numbers + np.where(blocks < most, pattern[blocks % pattern.size], 0))

    return of


def _own(numbers: Array, _nb: int) -> Array:
    return numbers


def _first(numbers: Array, nb: int) -> Array:
    return numbers // max(nb, 1) * nb


def _next(numbers: Array, nb: int) -> Array:
    return np.asarray(numbers // nb * nb + (numbers + 1) % nb)


def _before(numbers: Array, nb: int) -> Array:
    return np.asarray(numbers // nb * nb + (numbers - 1) % nb)


def _last(numbers: Array, nb: int) -> Array:
    return numbers // max(nb, 1) * nb + nb - 1


def _of_step(step: int) -> Callable[[Array, int], Array]:
    return lambda numbers, nb: np.asarray(numbers - numbers % nb % step)


def _last_of_step(step: int) -> Callable[[Array, int], Array]:
    def of(numbers: Array, nb: int) -> Array:
        blocks = numbers % nb
        return np.asarray(numbers - blocks + np.minimum(blocks - blocks % step + step - 1, nb - 1))

    return of


def _exchanged(numbers: Array, nb: int) -> Array:
    blocks = numbers % nb
    return np.asarray(numbers - blocks + np.where(blocks ^ 1 < nb, blocks ^ 1, blocks))


OF_BLOCKS: tuple[Source, ...] = (
    ("own", "their own block", _own),
    ("first", "the first block", _first),
    ("next", "the next block", _next),
    ("previous", "the block before", _before),
    ("last", "the last block", _last),
    ("other of two", "the other block of two", _exchanged),
    *((f"first of {k}", f"the first block of {k}", _of_step(k)) for k in (2, 4, 3)),
    *((f"last of {k}", f"the last block of {k}", _last_of_step(k)) for k in (2, 4, 3)),
)
"""Whose scale a block may take: name, words, and the function of the blocks' numbers and of nb."""
