"""The functions of the C interface, as the reference computes them.

`Reference` has one method for each function, named and ordered as in C::

    void quantize_row_q8_a8_ref   (const float *x, void *y, int64_t k);
    void quantize_row_q8_a8       (const float *x, void *y, int64_t k);
    void dequantize_row_q8_a8     (const void *x, float *y, int64_t k);
    void quantize_activation_q8_a8(const float *input, int8_t *output, uint16_t *scale, int size);
    void ggml_vec_dot_q8_a8_q8_a8 (int n, float *s, size_t bs, const void *vx, size_t bx,
                                   const void *vy, size_t by, int nrc);
    void ggml_vec_dot_q8_a8_q8_a8_real(int n, float *s, const void *vx, const void *vy);
    void mul_mat_q8_a8(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out);

A pointer is a one-dimensional array, and what C writes through it is written into that array: float32 for
`float *`, int8 for `int8_t *`, uint16 for the bits of a half, uint8 for the bytes of blocks (`void *`). An
array may be longer than the counts require; the rest is neither read nor written (Q8A8-MEM-1,
Q8A8-MEM-2). An array that is shorter, which C could not notice, raises `BufferSizeError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.dot import vec_dot, vec_dot_real
from q8a8.errors import ArgumentError, BufferSizeError, ShapeError, require_dtype
from q8a8.layout import BLOCK_Q8_A8, BLOCK_Q8_A8_V2, QK8_A8, as_blocks
from q8a8.matmul import mul_mat
from q8a8.order import get_order
from q8a8.quantize import dequantize_row, quantize_activation, quantize_row
from q8a8.recipe import get_recipe

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from q8a8.layout import Blocks
    from q8a8.order import AnyOrder
    from q8a8.recipe import Recipe

__all__ = ["Reference"]


class Reference:
    """The reference behind the C interface: an object that a test can call in place of a kernel.

    Parameters
    ----------
    recipe
        The arithmetic of the quantizers; `design` is the specification.
    order
        The order of the dot products' sums; `scalar` is the specification.

    Raises
    ------
    UnknownNameError
        for a recipe or an order that does not exist.
    """

    def __init__(self, recipe: str | Recipe = "design", order: str | AnyOrder = "scalar") -> None:
        self.recipe = get_recipe(recipe)
        self.order = get_order(order)

    def quantize_row_q8_a8(self, x: NDArray[np.float32], y: NDArray[np.uint8], k: int) -> None:
        """Quantize k elements of x to k/32 blocks in y (Q8A8-QNT-1 to Q8A8-QNT-7).

        Raises
        ------
        DtypeError, ShapeError, BufferSizeError, ArgumentError
            for arrays or counts that do not fit.
        DomainError
            for values outside the recipe's domain; y is then partly written.
        """
        blocks = as_blocks(_buffer(y, np.uint8, _blocks(k, "k") * BLOCK_Q8_A8.itemsize, "y"))
        quantize_row(_buffer(x, np.float32, k, "x"), self.recipe, out=blocks)

    def quantize_row_q8_a8_ref(self, x: NDArray[np.float32], y: NDArray[np.uint8], k: int) -> None:
        """Do the same as `quantize_row_q8_a8` (Q8A8-QNT-8)."""
        self.quantize_row_q8_a8(x, y, k)

    def dequantize_row_q8_a8(self, x: NDArray[np.uint8], y: NDArray[np.float32], k: int) -> None:
        """Turn k/32 blocks of x into k elements of y (Q8A8-DEQ-1 to Q8A8-DEQ-3).

        Raises
        ------
        DtypeError, ShapeError, BufferSizeError, ArgumentError
            for arrays or counts that do not fit.
        DomainError
            for a scale that is not finite; y is then partly written.
        """
        blocks = as_blocks(_buffer(x, np.uint8, _blocks(k, "k") * BLOCK_Q8_A8.itemsize, "x"))
        dequantize_row(blocks, out=_buffer(y, np.float32, k, "y"))

    def quantize_activation_q8_a8(
        self,
        input: NDArray[np.float32],  # noqa: A002 - the C parameter's name
        output: NDArray[np.int8],
        scale: NDArray[np.uint16],
        size: int,
    ) -> None:
        """Quantize `size` elements with one scale, given as the bits of a half (Q8A8-QNT-9, Q8A8-QNT-10).

        Raises
        ------
        DtypeError, ShapeError, BufferSizeError, ArgumentError
            for arrays or counts that do not fit.
        DomainError
            for values outside the recipe's domain; nothing is written.
        """
        if size < 0:
            raise ArgumentError(f"size: expected 0 or more, got {size}")
        target = _buffer(output, np.int8, size, "output")
        half = _buffer(scale, np.uint16, 1, "scale")
        q, h = quantize_activation(_buffer(input, np.float32, size, "input"), self.recipe)
        target[...] = q
        half[0] = h.view(np.uint16)

    def ggml_vec_dot_q8_a8_q8_a8(
        self,
        n: int,
        s: NDArray[np.float32],
        bs: int,
        vx: NDArray[np.uint8],
        bx: int,
        vy: NDArray[np.uint8],
        by: int,
        nrc: int,
    ) -> None:
        """Compute dot products of one row of x and y, or of two of each (Q8A8-DOT-1 to Q8A8-DOT-12).

        With nrc = 2 (Q8A8-DOT-6) the rows x1 and y1 start `bx` and `by` bytes after x0 and y0, and the
        results for y1 lie `bs` floats after those for y0::

            s:  | x0·y0 | x1·y0 |  ...  | x0·y1 | x1·y1 |
                  0       1               bs      bs+1

        With nrc = 1, bs, bx and by are ignored (Q8A8-DOT-12).

        Raises
        ------
        DtypeError, ShapeError, BufferSizeError, ArgumentError
            for arrays, counts or strides that do not fit, or any other nrc.
        """
        if nrc not in (1, 2):
            raise ArgumentError(f"nrc: expected 1 or 2 rows at a time, got {nrc}")
        strides = {"bs": bs, "bx": bx, "by": by}
        for name, stride in strides.items() if nrc == 2 else ():
            if stride < 0:
                raise ArgumentError(f"{name}: expected a stride of 0 or more, got {stride}")
        nb = _blocks(n, "n")
        rows = range(nrc)
        sums = _buffer(s, np.float32, 1 if nrc == 1 else bs + 2, "s")
        x = [_row(vx, row * bx, nb, BLOCK_Q8_A8, "vx") for row in rows]
        y = [_row(vy, row * by, nb, BLOCK_Q8_A8, "vy") for row in rows]
        if nrc == 1:
            sums[0] = vec_dot(x[0], y[0], self.order)
            return
        products = vec_dot(np.stack(x), np.stack(y)[:, np.newaxis], self.order)
        for j in rows:
            sums[j * bs : j * bs + 2] = products[j]

    def ggml_vec_dot_q8_a8_q8_a8_real(
        self, n: int, s: NDArray[np.float32], vx: NDArray[np.uint8], vy: NDArray[np.uint8]
    ) -> None:
        """Compute the dot product of one row of version 2 blocks each (Q8A8-DOT-9).

        Raises
        ------
        DtypeError, ShapeError, BufferSizeError, ArgumentError
            for arrays or counts that do not fit.
        """
        nb = _blocks(n, "n")
        sums = _buffer(s, np.float32, 1, "s")
        x = _row(vx, 0, nb, BLOCK_Q8_A8_V2, "vx")
        y = _row(vy, 0, nb, BLOCK_Q8_A8_V2, "vy")
        sums[0] = vec_dot_real(x, y, self.order)

    def mul_mat_q8_a8(
        self, m: int, n: int, k: int, w: NDArray[np.uint8], x: NDArray[np.float32], out: NDArray[np.float32]
    ) -> None:
        """Multiply m rows of blocks of w by n rows of k elements of x (Q8A8-MUL-4 to Q8A8-MUL-9).

        The result of row j of w and row i of x lies at ``out[i * m + j]``.

        Raises
        ------
        DtypeError, ShapeError, BufferSizeError, ArgumentError
            for arrays or counts that do not fit.
        DomainError
            for values outside the recipe's domain; nothing is written.
        """
        for name, count in (("m", m), ("n", n)):
            if count < 0:
                raise ArgumentError(f"{name}: expected 0 or more, got {count}")
        nb = _blocks(k, "k")
        products = _buffer(out, np.float32, n * m, "out").reshape(n, m)
        rows = as_blocks(_buffer(w, np.uint8, m * nb * BLOCK_Q8_A8.itemsize, "w")).reshape(m, nb)
        activations = _buffer(x, np.float32, n * k, "x").reshape(n, k)
        if self.order.name == "scalar":
            products[...] = mul_mat(rows, activations, recipe=self.recipe)
        else:
            xq = quantize_row(activations, self.recipe)
            products[...] = vec_dot(xq[:, np.newaxis], rows[np.newaxis], self.order)


def _blocks(count: int, name: str) -> int:
    """Turn a count of elements into a count of blocks."""
    if count < 0 or count % QK8_A8:
        raise ArgumentError(f"{name}: expected a multiple of {QK8_A8}, 0 or more, got {count}")
    return count // QK8_A8


def _buffer(array: NDArray[Any], dtype: DTypeLike, count: int, name: str) -> NDArray[Any]:
    """Check the array that stands in for a pointer, and return the part that the function may access."""
    require_dtype(array, dtype, name)
    if array.ndim != 1:
        raise ShapeError(f"{name}: expected one axis, got shape {array.shape}")
    if array.size < count:
        raise BufferSizeError(f"{name}: expected {count} elements or more, got {array.size}")
    part = array[:count]
    if not part.flags.c_contiguous:
        raise ShapeError(f"{name}: the elements are {array.strides[0]} bytes apart, not contiguous")
    return part


def _row(data: NDArray[np.uint8], start: int, blocks: int, dtype: np.dtype[Any], name: str) -> Blocks:
    """Read a row of blocks that starts at a byte of a buffer."""
    stop = start + blocks * dtype.itemsize
    return as_blocks(_buffer(data, np.uint8, stop, name)[start:], dtype)
