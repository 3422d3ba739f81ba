"""Static W8A8: int8 weights by output channel, int8 activations with one calibrated scale (OBS-10).

::

    sx  = f32(T / 127)                        T from an observer
    qx  = clamp(round(f32(x / sx)), -127, 127)            halves to even; 0 where sx is 0
    sw_i, qw_i                                the same for each row of the weights, T its amax
    y   = f32(f32(f32(acc) · sx) · sw)        acc = sum of qx · qw, exact, int32

Nothing of an activation is looked at before it is quantized: that is what calibration buys, and what clipping
costs.

Source: NVIDIA TensorRT (explicit symmetric int8 quantization); ONNX QuantizeLinear with a zero point of 0,
but for -128, which is not used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8.errors import ArgumentError
from q8a8.methods.finite import require_matrix
from q8a8.methods.integer import int_matmul

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["StaticLinear", "quantize_static"]


def quantize_static(
    x: NDArray[np.float32], threshold: NDArray[np.float32]
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize to int8 with scales that are given, not measured (OBS-10).

    Parameters
    ----------
    x
        float32 `[...]`, finite.
    threshold
        float32, of a shape that broadcasts with x: the magnitude of the code 127; not negative.

    Returns
    -------
    codes, scale
        int8 `[...]`, -127 to 127; float32, in the thresholds' shape.
    """
    scale = np.asarray(threshold, np.float32) / np.float32(127)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        position = np.clip(np.rint(x / scale), -127, 127)
    return np.where(scale == 0, 0, position).astype(np.int8), scale


class StaticLinear:
    """A linear layer in int8 whose activations have one static scale: y = x · weightᵀ (OBS-10).

    Parameters
    ----------
    weight
        float32 `[out, in]`, finite.
    threshold
        The magnitude of the code 127 of an activation: an observer's threshold.

    Attributes
    ----------
    weight_bytes
        Stored bytes: codes, a scale an output channel, and the activations' one.
    activation_bits
        8.

    Raises
    ------
    ShapeError, DtypeError, DomainError
        for another weight.
    ArgumentError
        for a threshold that is negative or no finite float32.
    """

    activation_bits: float = 8.0

    def __init__(self, weight: NDArray[np.float32], threshold: float) -> None:
        weight = np.asarray(weight)
        require_matrix(weight, "weight")
        if not 0 <= threshold <= float(np.finfo(np.float32).max):
            raise ArgumentError(f"threshold: expected a finite magnitude of float32, got {threshold}")
        self.threshold = np.float32(threshold)
        self.codes, scales = quantize_static(weight, np.abs(weight).max(axis=1, initial=0, keepdims=True))
        self.scales = scales[:, 0]
        self.weight_bytes = self.codes.nbytes + self.scales.nbytes + self.threshold.nbytes

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Apply the layer.

        Parameters
        ----------
        x
            float32 `[t, in]`, finite.

        Returns
        -------
        float32 `[t, out]`.

        Raises
        ------
        ShapeError, DtypeError, DomainError
            for anything else.
        """
        x = np.asarray(x)
        require_matrix(x, "x", self.codes.shape[1])
        codes, scale = quantize_static(x, np.asarray(self.threshold))
        y = int_matmul(codes, self.codes).astype(np.float32)
        with np.errstate(over="ignore", under="ignore"):
            y *= scale
            y *= self.scales
        return y
