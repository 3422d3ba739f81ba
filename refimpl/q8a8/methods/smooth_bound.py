"""How far folding may move the output of a float model: a bound for each group, proven.

Folding rounds once a weight that it touches, so that the smoothed model computes nearly, not exactly, what
the model computed (exactly, with factors that are powers of two). Let u = 2^-24, gamma(n) = n u / (1 - n u),
and x_j the input of the linear operator W as the model computes it in float32.

**A norm's group.** RMSNorm ends with x_j = f32(n_j g_j), and n_j does not depend on g. Then::

    |y' - y|_i <= gamma(4) sum_j |W_ij x_j|        y = W x, y' = W' x', both sums without rounding

Proof. In the standard model f32(v) = v (1 + d), |d| <= u, each time::

    g'_j = (g_j / s_j)(1 + d1)      x'_j = n_j g'_j (1 + d2)      W'_ij = W_ij s_j (1 + d3)
    x_j  = n_j g_j (1 + d0)

so W'_ij x'_j = W_ij x_j (1 + d1)(1 + d2)(1 + d3) / (1 + d0). Four such factors, above or below the line, are
1 + t with |t| <= gamma(4) (N. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., lemma 3.1).
Sum over j. QED.

**The down projection.** With a = silu(gate), the same in both models, h_i = f32(a_i u_i), u = f32(U x)::

    |y' - y|_k <= gamma(6) sum_i |D_ki a_i| sum_j |U_ij x_j|       y = D h, y' = D' h'

Proof. y is the sum over i and j of D_ki a_i U_ij x_j, each with two factors (of u_i and h_i); y' is the same
with four (of U'_ij, u'_i, h'_i and D'_ki): 1 + t with |t| <= gamma(2) and gamma(4), whose sum is at most
gamma(6). QED.

**Sums in float32** over n terms, in any order, add n factors to each product of each side: gamma(4 + 2 n)
and, with n = d_model within and d_ff without, gamma(6 + 2 n).

**Underflow.** A result below 2^-126 is off by up to 2^-150 instead. For the inputs x and h that is in the
checks; weights have to be normal numbers before and after. The checks take their sums in float64, which is
in the checks too: n 2^-51 of the magnitude.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]

__all__ = ["down_fraction", "gamma", "norm_fraction"]

UNIT_ROUNDOFF = 2.0**-24
# Two underflows of 2^-150 in a product, one on either side.
_UNDERFLOW = 2.0**-149
# Of float64: twice n unit roundoffs for two sums, and as much again for the magnitude's.
_DOUBLE = 2.0**-51


def gamma(n: int) -> float:
    """Compute n u / (1 - n u), the relative error of a product after n roundings to float32."""
    return n * UNIT_ROUNDOFF / (1 - n * UNIT_ROUNDOFF)


def norm_fraction(weight: F32, x: F32, folded_weight: F32, folded_x: F32) -> float:
    """Return the fraction of the bound that a fold into a norm uses, for one of its group's operators.

    Parameters
    ----------
    weight, folded_weight
        float32 `[out, in]`, before and after.
    x, folded_x
        float32 `[t, in]`: the norm's output with its weight before and after, on the same rows.

    Returns
    -------
    The largest |y' - y| / bound over all outputs: at most 1 for a right fold; infinite where nothing may
    differ, and does.
    """
    w, v, w2, v2 = (array.astype(np.float64) for array in (weight, x, folded_weight, folded_x))
    magnitude = np.abs(v) @ np.abs(w).T
    bound = (gamma(4) + x.shape[1] * _DOUBLE) * magnitude + _UNDERFLOW * (np.abs(w) + np.abs(w2)).sum(axis=1)
    return _fraction(v2 @ w2.T - v @ w.T, bound)


def down_fraction(x: F32, gated: F32, before: tuple[F32, F32], after: tuple[F32, F32]) -> float:
    """Return the fraction of the bound that a fold of the down projection into the up projection uses.

    Parameters
    ----------
    x
        float32 `[t, d_model]`, the input of the up projection.
    gated
        float32 `[t, d_ff]`: silu(gate).
    before, after
        The weights of up `[d_ff, d_model]` and of down `[d_model, d_ff]`, float32.

    Returns
    -------
    As `norm_fraction`.
    """
    a, v = gated.astype(np.float64), x.astype(np.float64)
    outputs, sizes = [], []
    for up, down in (before, after):
        u = (v @ up.astype(np.float64).T).astype(np.float32)
        outputs.append((gated * u).astype(np.float64) @ down.astype(np.float64).T)
        sizes.append(np.abs(down).astype(np.float64))
    inner = np.abs(v) @ np.abs(before[0]).astype(np.float64).T
    magnitude = (np.abs(a) * inner) @ sizes[0].T
    terms = x.shape[1] + gated.shape[1]
    bound = (gamma(6) + terms * _DOUBLE) * magnitude + _UNDERFLOW * (1 + np.abs(a)) @ (sizes[0] + sizes[1]).T
    return _fraction(outputs[1] - outputs[0], bound)


def _fraction(difference: F64, bound: F64) -> float:
    """Return the largest |difference| / bound, where 0 / 0 is 0."""
    size = np.abs(difference)
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = np.where(size == 0, 0.0, size / bound)
    return float(fraction.max(initial=0.0))
