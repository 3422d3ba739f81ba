"""The matrix product fast: the bits of `q8a8.matmul.plain_mul_mat`, in tiles and with threads.

For each block b in turn, over a tile of 256 × 256 results that stays in the cache::

    sumi = X_b · W_b^T          a float32 matrix product over the 32 elements of the block, exact
    d    = dx ⊗ dw              f32(dx * dw), exact
    out  = out + sumi * d       f32(out + f32(sumi * d)), element by element

Why the float32 matrix product is exact: products of two int8 are integers of at most 2^14 in magnitude, and
32 of them sum to at most 2^19. Whatever order a BLAS adds them in, fused or not, in however many
accumulators, every partial sum is an integer of at most 2^19 < 2^24, which float32 holds. The last line
rounds where Q8A8-DOT-3 does, in order of b. A result belongs to one tile alone, so neither the tiles nor
the number of threads can change a bit (Q8A8-MUL-3).

Threads: tiles are handed to `threads` Python threads; NumPy releases the GIL in all three lines. No call into
the BLAS has more than 32 · 256 · 32 = 2^18 multiply-adds, which is OpenBLAS's limit for a product to stay on
the calling thread: its own pool never competes with ours, and no environment variable needs to be set.

Memory, besides the result, whatever n and m: a band of 512 rows of X as blocks, 4096 elements of each of them
as float32 (8 MiB), and for each thread as much of 256 rows of W (4 MiB) and three tiles (768 KiB).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

from q8a8.errors import DomainError
from q8a8.layout import BLOCK_Q8_A8, QK8_A8
from q8a8.quantize import quantize_row

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from numpy.typing import NDArray

    from q8a8.layout import Blocks
    from q8a8.recipe import Recipe

    F32 = NDArray[np.float32]

__all__ = ["multiply", "multiply_quantized"]

# Rows and columns of a tile: it and its two temporaries are 768 KiB.
_TILE = 256
# Rows of X in one call of the BLAS.
_SLICE = 32
# Rows of X that share one conversion of W.
_BAND = 512
# Blocks of a row that are converted to float32 at a time.
_PANEL = 128


def multiply(w: Blocks, x: F32, recipe: Recipe, threads: int) -> F32:
    """Quantize the rows of X [n, 32·nb], multiply them by the rows of W [m, nb]; return float32 [n, m]."""
    out = np.zeros((len(x), len(w)), np.float32)
    with _Workers(threads) as workers:
        for band in _slices(len(x), _BAND):
            xq = np.empty((band.stop - band.start, w.shape[1]), BLOCK_Q8_A8)
            workers.run(partial(_quantize, x, recipe, xq, band.start), _slices(len(xq), _SLICE))
            _multiply(w, xq, out[band], workers)
    return out


def multiply_quantized(w: Blocks, xq: Blocks, threads: int) -> F32:
    """Multiply the rows of a quantized X [n, nb] by the rows of W [m, nb]; return float32 [n, m]."""
    out = np.zeros((len(xq), len(w)), np.float32)
    with _Workers(threads) as workers:
        for band in _slices(len(xq), _BAND):
            _multiply(w, xq[band], out[band], workers)
    return out


def _quantize(x: F32, recipe: Recipe, xq: Blocks, first: int, rows: slice, _: _Buffers) -> None:
    """Quantize some rows of a band that starts at row `first` of X."""
    start = first + rows.start
    try:
        quantize_row(x[start : first + rows.stop], recipe, out=xq[rows])
    except DomainError as error:
        # The row is counted from the slice's first: name it in the whole of X.
        row = (start + error.row[0],)
        raise DomainError(
            error.reason, array="x", row=row, block=error.block, element=error.element, value=error.value
        ) from None


def _slices(count: int, size: int) -> list[slice]:
    """Cut a range into slices of this size, the last one shorter."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


class _Buffers:
    """Arrays that are made once and used again: every page of fresh memory costs a page fault."""

    def __init__(self) -> None:
        self._memory: dict[str, F32] = {}

    def get(self, name: str, shape: tuple[int, ...]) -> F32:
        """Return a float32 array of this shape, not initialized; under one name always the same memory."""
        size = prod(shape)
        if name not in self._memory or self._memory[name].size < size:
            self._memory[name] = np.empty(size, np.float32)
        return self._memory[name][:size].reshape(shape)


class _Workers:
    """A pool of threads, each with its own buffers. A single thread is the caller's."""

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"threads: expected at least 1, got {threads}")
        self.threads = threads
        self.shared = _Buffers()
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._idle: SimpleQueue[_Buffers] = SimpleQueue()
        for _ in range(threads):
            self._idle.put(_Buffers())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown()

    def run(self, work: Callable[[slice, _Buffers], None], slices: list[slice]) -> None:
        """Do the work for each slice, with buffers that no other thread uses; the first failure is raised."""

        def one(part: slice) -> None:
            buffers = self._idle.get()
            try:
                work(part, buffers)
            finally:
                self._idle.put(buffers)

        for _ in (self._pool.map if self._pool else map)(one, slices):
            pass


def _multiply(w: Blocks, xq: Blocks, out: F32, workers: _Workers) -> None:
    """Add the products of the rows of W [m, nb] and of a band of X [n, nb] to out [n, m]."""
    m, nb = w.shape
    width = _TILE
    # Narrower tiles where there would be too few to keep all threads busy.
    while workers.threads > 1 and width > _SLICE and m < 2 * width * workers.threads:
        width //= 2
    for blocks in _slices(nb, _PANEL):
        band = _Band(xq[:, blocks], workers.shared)
        workers.run(partial(_columns, w[:, blocks], band, out), _slices(m, width))


class _Band:
    """Some blocks of a band of X in float32, each block's elements together.

    Attributes
    ----------
    scales
        [nb, n, 1]
    qs
        [nb, slices, rows of a slice, 32]; rows after the last one are zero.
    """

    def __init__(self, xq: Blocks, buffers: _Buffers) -> None:
        n, nb = xq.shape
        self.rows_of_slice = min(n, _SLICE)
        padded = -(-n // self.rows_of_slice) * self.rows_of_slice
        panel = buffers.get("band", (nb, padded, QK8_A8))
        panel[:, :n] = xq["weight_qs"].swapaxes(0, 1)
        panel[:, n:] = 0
        self.qs = panel.reshape(nb, -1, self.rows_of_slice, QK8_A8)
        self.scales = xq["weight_scale"].T.astype(np.float32, order="C")[:, :, np.newaxis]


def _columns(w: Blocks, band: _Band, out: F32, columns: slice, buffers: _Buffers) -> None:
    """Add the products with some rows of W, which are columns of out, to it: tile by tile, block by block."""
    w = w[columns]
    width, nb = w.shape
    w_qs = buffers.get("w", (nb, width, QK8_A8))
    w_qs[...] = w["weight_qs"].swapaxes(0, 1)
    w_scales = w["weight_scale"].T.astype(np.float32, order="C")
    for rows in _slices(len(out), _TILE):
        tile = out[rows, columns]
        slices = slice(rows.start // _SLICE, -(-rows.stop // _SLICE))
        products = buffers.get("products", (slices.stop - slices.start, band.rows_of_slice, width))
        sumi = products.reshape(-1, width)[: len(tile)]
        term = buffers.get("term", tile.shape)
        total = buffers.get("total", tile.shape)
        total[...] = tile
        for b in range(nb):
            # sumi, exact
            np.matmul(band.qs[b, slices], w_qs[b].T, out=products)
            # f32(dx * dy), exact
            np.multiply(band.scales[b, rows], w_scales[b], out=term)
            # f32(sumi * d)
            np.multiply(sumi, term, out=term)
            # f32(sum + ...)
            np.add(total, term, out=total)
        tile[...] = total
