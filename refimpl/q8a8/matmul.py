"""The matrix product: X quantized at run time, times quantized weights W (Q8A8-MUL).

    xq        = quantize_row(x)          every row of X block by block                  Q8A8-MUL-1
    out[i, j] = xq_i · w_j               the dot product of two rows, order `scalar`    Q8A8-MUL-2

`plain_mul_mat` is these lines: the definition. `mul_mat` returns the same bits and raises the same errors,
fast, in bounded memory, and with any number of threads (`q8a8._fast_matmul`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8 import _fast_matmul
from q8a8.dot import plain_vec_dot
from q8a8.errors import ShapeError, require_dtype, require_row_length
from q8a8.layout import BLOCK_Q8_A8, QK8_A8, require_blocks, require_finite_scales
from q8a8.quantize import plain_quantize_row
from q8a8.recipe import get_recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from q8a8.layout import Blocks
    from q8a8.recipe import Recipe

    F32 = NDArray[np.float32]

__all__ = ["mul_mat", "mul_mat_quantized", "plain_mul_mat", "plain_mul_mat_quantized"]


def plain_mul_mat(w: Blocks, x: F32, *, recipe: str | Recipe = "design") -> F32:
    """Quantize the rows of X and multiply them by the rows of W: the definition of `mul_mat`."""
    x = _require_float(w, x)
    # Q8A8-MUL-1: X is quantized row by row
    return plain_mul_mat_quantized(w, plain_quantize_row(x, recipe))


def plain_mul_mat_quantized(w: Blocks, xq: Blocks) -> F32:
    """Multiply quantized rows: the definition of `mul_mat_quantized`."""
    _require_quantized(w, xq)
    # Q8A8-MUL-2: out[i, j] = xq_i · w_j
    return plain_vec_dot(xq[:, np.newaxis], w[np.newaxis])


def mul_mat(w: Blocks, x: F32, *, recipe: str | Recipe = "design", threads: int = 1) -> F32:
    """Quantize the rows of X and multiply them by the rows of W (Q8A8-MUL-1 to -3).

    Parameters
    ----------
    w
        Weights, `BLOCK_Q8_A8` [m, k/32].
    x
        Activations, float32 [n, k].
    recipe
        The arithmetic that quantizes X; only `design` conforms.
    threads
        How many threads work; the bits do not depend on it.

    Returns
    -------
    numpy.ndarray
        float32 [n, m].

    Raises
    ------
    DtypeError, ShapeError, UnknownNameError
        another dtype; no matrices, or rows of different length; no such recipe.
    DomainError
        values that have no quantization, or a scale that is NaN or infinite.
    ValueError
        fewer than one thread.
    """
    recipe = get_recipe(recipe)
    x = _require_float(w, x)
    return _fast_matmul.multiply(w, x, recipe, threads)


def mul_mat_quantized(w: Blocks, xq: Blocks, *, threads: int = 1) -> F32:
    """Multiply quantized rows: `mul_mat` from where X is quantized (Q8A8-MUL-2, -3).

    Parameters
    ----------
    w, xq
        `BLOCK_Q8_A8` [m, nb] and [n, nb].
    threads
        As `mul_mat`.

    Returns
    -------
    numpy.ndarray
        float32 [n, m].

    Raises
    ------
    DtypeError, ShapeError
        another dtype; no matrices, or rows of different length.
    DomainError
        a scale that is NaN or infinite.
    ValueError
        fewer than one thread.
    """
    _require_quantized(w, xq)
    return _fast_matmul.multiply_quantized(w, xq, threads)


def _require_float(w: Blocks, x: F32) -> F32:
    """Check W and a float32 X, and return X as an array."""
    x = np.asarray(x)
    require_dtype(x, np.float32, "x")
    require_row_length(x, QK8_A8, "x")
    _require_matrices(w, x, "x", x.shape[-1] // QK8_A8)
    return x


def _require_quantized(w: Blocks, xq: Blocks) -> None:
    """Check W and a quantized X."""
    require_blocks(xq, "xq", BLOCK_Q8_A8)
    _require_matrices(w, xq, "xq", xq.shape[-1])
    require_finite_scales(xq["weight_scale"], "xq")


def _require_matrices(w: Blocks, x: NDArray[Any], name: str, nb: int) -> None:
    """Check W, and that X has rows of as many blocks."""
    require_blocks(w, "w", BLOCK_Q8_A8)
    if w.ndim != 2 or x.ndim != 2:
        raise ShapeError(f"w, {name}: expected matrices, got shapes {w.shape} and {x.shape}")
    if w.shape[1] != nb:
        raise ShapeError(f"w, {name}: rows of {w.shape[1]} and {nb} blocks")
    require_finite_scales(w["weight_scale"], "w")
