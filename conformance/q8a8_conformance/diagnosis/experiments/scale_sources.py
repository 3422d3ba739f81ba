"""Whose scale a block takes: its own, the first one's, a neighbour's, another one's of a group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from q8a8_conformance.diagnosis.experiments.bench import Bench, Measured
    from q8a8_conformance.protocol.messages import Call

    Array = NDArray[Any]

SCALES = (
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61,
    67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149,
)  # fmt: skip
"""Scales of x and of y, for rows of up to 17 blocks: the product of two names them."""


def block_scales(bench: Bench) -> Iterator[Measured]:
    """Find blocks that take another block's scale: each block's scales are primes, and one block counts."""
    for nb in (4, 3, 8, 7):
        taken, made = _taken(bench, nb)
        own = [(b, b) for b in range(nb)]
        if taken == own or (-1, -1) in taken:
            continue
        every = np.arange(nb)
        seen = [np.array(side) for side in zip(*taken, strict=True)]
        named = [
            next((one for one in OF_BLOCKS if (one[2](every, nb) == side).all()), ("", "", _own))
            for side in seen
        ]
        if not all(name for name, _, _ in named):
            named = _named_by_groups(bench)
        if not named:
            continue
        (name_x, words_x, of_x), (name_y, words_y, of_y) = named
        both = name_x == name_y
        wrong = next(b for b in range(nb) if taken[b] != (b, b))
        texts = [
            f"{side}'s codes meet the scale of {words}" for side, words in (("x", words_x), ("y", words_y))
        ]
        yield bench.measured(
            "scale-of-another-block",
            {
                "scale": name_x
                if both
                else " and ".join(
                    f"{name} of {side}" for side, name in (("x", name_x), ("y", name_y)) if name != "own"
                ),
                "blocks": nb,
                "taken": taken,
            },
            "Q8A8-DOT-3",
            "; ".join(text for text, name in zip(texts, (name_x, name_y), strict=True) if name != "own")
            + ".",
            "Scale each block's sum by its own scales.",
            cause={("first", "first"): "first-scale-for-all", ("next", "own"): "scale-of-next-block"}.get(
                (name_x, name_y), ""
            ),
            evidence=[bench.evidence(made[wrong], f"1 · 1 in block {wrong} of {nb}, every scale a prime")],
            changes={"scale_of_x": of_x, "scale_of_y": of_y},
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


def _named_by_groups(bench: Bench) -> list[Source]:
    """Return whose scales blocks take where it depends on their number modulo the blocks of a group."""
    seen = {nb: _taken(bench, nb)[0] for nb in (2, 3, 4, 5, 7, 8, 9, 16, 17)}
    named = []
    for side in (0, 1):
        shifts = {nb: np.array([of[side] for of in taken]) - np.arange(nb) for nb, taken in seen.items()}
        found = next(_patterns(shifts), None)
        if found is None:
            return []
        named.append(found)
    return named


def _patterns(shifts: Mapping[int, Array]) -> Iterator[Source]:
    """Yield sources by groups that agree with how far away the scales are that blocks take, by length."""
    if not any(of.any() for of in shifts.values()):
        yield OF_BLOCKS[0]
    longest = shifts[max(shifts)]
    for group, whole in ((group, whole) for group in (2, 3, 4, 5, 6, 7, 8) for whole in (True, False)):
        pattern = longest[:group]
        of = _of_group(pattern, whole=whole)
        if all((of(np.arange(nb), nb) - np.arange(nb) == shift).all() for nb, shift in shifts.items()):
            places = {r: int(step) for r, step in enumerate(pattern) if step}
            words = " and ".join(
                f"block b {step:+d} where b mod {group} is {r}" for r, step in places.items()
            )
            left = f", but for those left over after groups of {group}" if whole else ""
            yield f"by groups of {group}: {places}", words + left, of


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
