"""Elements of a vector that do not count in amax by no rule of their places: trees that lose entries.

Of each size it is known which elements count. That is compared with reductions as programmers write them:
halves, pairs or strides, over elements, threads or the largest of chunks. What is none of these is said by
the sizes, and their elements, that were measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from q8a8_conformance.reveal.quantizers.words import either, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from q8a8_conformance.inputs.arrays import Array

    Counted = Callable[..., NDArray[Any]]

THREADS = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 12, 24, 48, 96, 192, 384, 768)
CHUNKS = (4, 8, 16, 32, 64, 128, 256, 1024)
FIXED = (3, 5, 6, 12, 20, 24, 40, 48, 96, 160, 192, 320, 384, 768)
MODULI = (2, 3, 4, 8, 16, 32)

WHOLE = 300
"""Sizes by which the words for what a tree loses are chosen."""

SHOWN = 3
"""Sizes that are named as examples."""


class Lost(NamedTuple):
    """What does not count: words, parameters, what counts (None where unknown), and which sizes lose any."""

    text: str
    where: dict[str, Any]
    counted: Counted | None
    sizes: Counted | None


def _halves(n: int) -> Array:
    need: Array = np.arange(n) == 0
    levels = [n >> k for k in range(1, n.bit_length())]
    for s in reversed(levels):
        need[s : 2 * s] |= need[:s]
    return need


def _pairs(n: int) -> Array:
    need: Array = np.ones(1, np.bool_)
    for k in reversed(range(n.bit_length() - 1)):
        before = np.zeros(n >> k, np.bool_)
        before[: 2 * need.size] = np.repeat(need, 2)
        need = before
    return need


def _strides(n: int) -> Array:
    need: Array = np.arange(n) == 0
    for k in reversed(range(max(n - 1, 1).bit_length())):
        at = np.arange(0, n - (2 << k) + 1, 2 << k)
        need[at + (1 << k)] |= need[at]
    return need


TREES: tuple[tuple[str, str, Counted], ...] = (
    ("halves", "a tree of halves, which loses the last one of an odd count", _halves),
    ("pairs", "a tree of pairs, which loses the last one of an odd count", _pairs),
    ("strides", "a tree of growing strides, which loses what is in no whole pair", _strides),
    (
        "power",
        "a tree over the largest power of two of them alone",
        lambda n: np.arange(n) < 1 << (n.bit_length() - 1),
    ),
)


def trees() -> Iterator[tuple[str, dict[str, Any], Counted]]:
    """Yield which elements of a vector count, by a tree: in words, with its parameters."""
    for name, text, of in TREES:
        yield text, {"tree": name}, of
        for t in THREADS:
            words = f"{text}, of {t} partial results, or one for each element"
            yield words, {"tree": name, "threads": t}, lambda n, t=t, of=of: of(min(n, t))[np.arange(n) % t]
        for t in FIXED:
            words = f"{text}, of {t} partial results"
            yield words, {"tree": name, "partial": t}, lambda n, t=t, of=of: of(t)[np.arange(n) % t]
        for t in CHUNKS:
            words = f"{text}, of the largest of every {t} elements"
            yield words, {"tree": name, "chunk": t}, lambda n, t=t, of=of: np.repeat(of(-(-n // t)), t)[:n]


def tree_of(found: Mapping[int, tuple[Array, Array]]) -> Lost | None:
    """Return what sizes lose whose elements out, and known, are given; None where it has no words."""
    if not any((out & known).any() for out, known in found.values()):
        return None
    for text, where, of in trees():
        if all(np.array_equal(out[known], ~of(n)[known]) for n, (out, known) in found.items()):
            lost = {n: np.flatnonzero(~of(n)) for n in range(1, WHOLE)}
            words = _said(lost)
            return Lost(f"Some elements do not count in amax, as in {text}{words[0]}", where, of, words[1])
    lost = {n: np.flatnonzero(out) for n, (out, known) in found.items() if known.all()}
    text, holds = _said(lost)
    if not holds:
        return None
    where = {"sizes": [n for n, of in lost.items() if of.size]}
    return Lost(f"Some elements do not count in amax{text}", where, None, holds)


def _said(lost: Mapping[int, Array]) -> tuple[str, Counted | None]:
    """Return which sizes lose elements, with examples, and the test of them; None where it has no words."""
    bad = sorted(n for n, of in lost.items() if of.size)
    if not bad:
        return "", None
    shown = ", ".join(
        f"of size {n} element{'s' if lost[n].size > 1 else ''} {listed(lost[n].tolist())}"
        for n in bad[:SHOWN]
    )
    sizes, holds = _sizes(bad, [n for n in lost if n not in bad])
    return f"{f', where {sizes}' if sizes else ''}: {shown}", holds


def _sizes(bad: list[int], good: list[int]) -> tuple[str, Counted | None]:
    """Say what sizes have in common that others have not; nothing where that has no words."""
    hit, missed = np.array(bad), np.array(good, np.int64)
    least = int(hit.min())
    for text, holds in _tests(hit):
        if holds(hit).all() and not holds(missed).any():
            return text, holds
        if holds(hit).all() and not (holds(missed) & (missed >= least)).any():
            return f"{text} and size >= {least}", lambda n, holds=holds: holds(n) & (n >= least)
    return "", None


def _tests(bad: Array) -> Iterator[tuple[str, Counted]]:
    """Yield what sizes may have in common, in words, and of which sizes it is so."""
    yield f"size >= {bad.min()}", lambda n: np.asarray(n >= bad.min())
    yield "size is no power of two", lambda n: np.asarray(n & (n - 1) != 0)
    yield "size is a power of two", lambda n: np.asarray(n & (n - 1) == 0)
    for m in MODULI:
        rests = np.unique(bad % m).tolist()
        text = f"size is no multiple of {m}" if rests == [*range(1, m)] else f"size % {m} is {either(rests)}"
        yield text, lambda n, m=m, rests=rests: np.isin(n % m, rests)
