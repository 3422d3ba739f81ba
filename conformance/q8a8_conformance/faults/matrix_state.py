"""Mutants of the matrix product by what lasts or is shared: caches, workers, values outside the domain."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.faults import steps
from q8a8_conformance.faults.kernel import MUL_MAT
from q8a8_conformance.faults.mutant import Mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

F32 = np.float32
TILE = 4
APART, INVARIANT, STATE = "Q8A8-MUL-8", "Q8A8-MUL-9", "Q8A8-ENV-2"


def _blocks_of_x(n: int, k: int, x: Array) -> tuple[Array, Array]:
    return steps.activations(x[: n * k].reshape(n, k // 32, 32))


def _blocks_of_w(m: int, k: int, w: Array) -> tuple[Array, Array]:
    h, q = steps.unpack(w, m * k // 32)
    return h.reshape(m, k // 32), q.reshape(m, k // 32, 32)


class _InAnyOrder:
    """Adds what four workers have added up of a quarter of the blocks each, in the order they end in."""

    def __init__(self) -> None:
        self._calls = itertools.count()

    def __call__(self, call: Callable[[], None], function: str, arguments: Sequence[Any]) -> None:
        """Call, and add the parts anew."""
        del function
        call()
        m, n, k, w, x, out = arguments
        orders = tuple(itertools.permutations(range(4)))
        result = np.zeros((n, m), F32)
        with np.errstate(all="ignore"):
            terms = steps.terms_of_matrix(*_blocks_of_x(n, k, x), *_blocks_of_w(m, k, w))
            for part in orders[7 * next(self._calls) % len(orders)]:
                result += sum(np.array_split(terms, 4)[part], np.zeros((n, m), F32))
        out[: n * m] = result.reshape(-1)


class _Kept:
    """Keeps w, or x, where it sees an address, a shape and some bytes first, and uses that again.

    Parameters
    ----------
    name
        ``w`` or ``x``.
    looked_at
        Of what is kept, the bytes that it compares.
    """

    def __init__(self, name: str, looked_at: Callable[[Array], bytes]) -> None:
        self._name, self._looked_at = name, looked_at
        self._held: dict[tuple[int, int, int, bytes], Array] = {}

    def __call__(self, call: Callable[[], None], function: str, arguments: Sequence[Any]) -> None:
        """Call, with what was kept."""
        del function
        call()
        m, n, k, w, x, out = arguments
        used = {"w": w[: m * k // 32 * 34], "x": x[: n * k]}
        given, rows = used[self._name], {"w": m, "x": n}[self._name]
        key = (given.ctypes.data, rows, k, self._looked_at(given))
        used[self._name] = self._held.setdefault(key, given.copy())
        with np.errstate(all="ignore"):
            of_x, of_w = _blocks_of_x(n, k, used["x"]), _blocks_of_w(m, k, used["w"])
            out[: n * m] = steps.matrix(*of_x, *of_w).reshape(-1)


def _samples(w: Array) -> bytes:
    """Return every 64th byte of w, the first and the last ones."""
    return w[::64].tobytes() + w[:34].tobytes() + w[-34:].tobytes()


def _stopped(x: Array) -> tuple[Array, Array]:
    """Leave out the rest of a tile of rows of x after an infinite scale in it: its codes stay zero."""
    h, q = steps.activations(x)
    q = q.copy()
    for row in np.flatnonzero(np.isinf(h).any(axis=1)):
        q[row + 1 : row - row % TILE + TILE] = 0
    return h, q


MUTANTS = (
    Mutant(
        "matrix-split-k",
        "Four workers add up a quarter of the blocks each, and their sums are added as they come.",
        {},
        (MUL_MAT,),
        _InAnyOrder,
        rule=INVARIANT,
        fix="Add the blocks in an order that depends on k alone, whatever the shape."
        " Let one worker add the parts, not atomic additions.",
        seen="split-K products on GPUs",
    ),
    Mutant(
        "matrix-repacked-by-address",
        "The repacked w of an address is used again, though its contents have changed.",
        {},
        (MUL_MAT,),
        partial(_Kept, "w", lambda _: b""),
        rule=STATE,
        fix="Repack where the caller asks for it, or remember nothing by address.",
    ),
    Mutant(
        "matrix-activations-remembered",
        "The quantized x of an address is used again where its first element is the same.",
        {},
        (MUL_MAT,),
        partial(_Kept, "x", lambda x: x[:1].tobytes()),
        rule=STATE,
        fix="Quantize x in every call.",
    ),
    Mutant(
        "matrix-repacked-by-samples",
        "The repacked w of an address is used again where every 64th byte is the same.",
        {},
        (MUL_MAT,),
        partial(_Kept, "w", _samples),
        rule=STATE,
        fix="Compare all bytes, or remember nothing by address.",
    ),
    Mutant(
        "matrix-infinity-stops",
        "An infinity in a row of x ends its tile of four rows: the others of the tile are not computed.",
        {"activations": _stopped},
        rule=APART,
        fix="Go on with the next row, whatever one holds.",
    ),
)
