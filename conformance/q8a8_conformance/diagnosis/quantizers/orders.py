"""Words for the order in which bytes stand: groups exchanged, halves, lanes, steps; else as ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.inputs.arrays import Array

GROUPS = (16, 8, 4, 2)


def order_text(source: Array, noun: str) -> str:
    """Say which of the codes, or bytes, of a block stand at its places: `source` [n] by place."""
    name = next((text for text, of in _shapes(source.size) if np.array_equal(of, source)), "")
    if name:
        return f"The {noun} of a block stand {name}"
    moved = np.flatnonzero(source != np.arange(source.size)).tolist()
    runs = list(_runs(moved, source))
    for t in GROUPS if len(runs) > 1 else ():
        if source.size % t:
            continue
        groups = source.reshape(-1, t)
        if (groups - groups[:, :1] == np.arange(t)).all() and (groups[:, 0] % t == 0).all():
            order = ", ".join(str(int(first) // t) for first in groups[:, 0])
            return f"The {noun} of a block stand in groups of {t} in the order {order}"
    for t in (4, 8, 16) if len(runs) > 1 else ():
        if source.size % t:
            continue
        within = source.reshape(-1, t) - np.arange(0, source.size, t)[:, np.newaxis]
        if (within == within[0]).all():
            order = ", ".join(map(str, within[0].tolist()))
            return f"The {noun} of a block stand, within every {t}, in the order {order}"
    one = noun.rstrip("s")
    return "; ".join(
        f"At {noun if b > a else one} {f'{a} to {b}' if b > a else a} of a block stand"
        f"{'' if b > a else 's'} {noun if b > a else one} "
        f"{f'{source[a]} to {source[b]}' if b > a else source[a]}"
        for a, b in runs
    )


def _runs(places: list[int], source: Array) -> Iterator[tuple[int, int]]:
    """Yield first and last places of runs whose sources follow each other, too."""
    start = 0
    for i in range(1, len(places) + 1):
        if (
            i == len(places)
            or places[i] != places[i - 1] + 1
            or source[places[i]] != source[places[i - 1]] + 1
        ):
            yield places[start], places[i - 1]
            start = i


def _shapes(n: int) -> Iterator[tuple[str, Array]]:
    """Yield orders that have a name."""
    i = np.arange(n)
    yield "in the reversed order", i[::-1]
    if n % 2 == 0:
        yield "with their halves exchanged", np.roll(i, n // 2)
        yield "interleaved: one of the first half, one of the second", i.reshape(2, -1).T.reshape(-1)
        yield "with the even ones before the odd ones", np.concatenate([i[::2], i[1::2]])
        yield "with every two exchanged", i ^ 1
    for t in (4, 8, 16):
        if n % t == 0:
            yield f"reversed within every {t}", i.reshape(-1, t)[:, ::-1].reshape(-1)
            yield (
                f"with the halves of every {t} exchanged",
                np.roll(i.reshape(-1, t), t // 2, axis=1).reshape(-1),
            )
            yield f"as columns of rows of {t}", i.reshape(-1, t).T.reshape(-1)
    for s in (*range(1, 9), 12, 16, 24):
        yield f"{s} place{'s' if s > 1 else ''} too early, the first at the end", np.roll(i, -s)
        yield f"{s} place{'s' if s > 1 else ''} too late, the last at the beginning", np.roll(i, s)
        yield f"{s} place{'s' if s > 1 else ''} too early", np.minimum(i + s, n - 1)
        yield f"{s} place{'s' if s > 1 else ''} too late", np.maximum(i - s, 0)
