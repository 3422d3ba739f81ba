"""Static W8A8: int8 weights by output channel, int8 activations with one calibrated scale (OBS-10).

::

    sx  = f32(T / 127)                        T from an observer
    qx  = clamp(round(f32(x / sx)), -127, 127)            halves to even; 0 where sx is 0
    sw_i, qw_i                                the same for each row of the weights, T its amax
    y   = f32(f32(f32(acc) · sx) · sw)        acc = sum of qx · qw, exact, int32

Nothing of an activation is looked at before it is quantized: that is what calibration buys, and what clipping
costs.

With a zero point (OBS-11), for inputs whose two ends lo <= 0 <= hi are not alike::

    sx  = f32(f32(hi - lo) / 255)
    z   = clamp(round(-128 - f32(lo / sx)), -128, 127)                          0 where sx is 0
    qx  = clamp(round(f32(x / sx)) + z, -128, 127)
    y   = f32(f32(f32(acc) · sx) · sw)        acc = sum of (qx - z) · qw = sum of qx · qw - z · sum of qw

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

__all__ = ["AsymmetricStaticLinear", "StaticLinear", "quantize_static"]


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


class AsymmetricStaticLinear:
    """A linear layer in int8 whose activations have one static scale and zero point (OBS-11).

    Parameters
    ----------
    weight
        float32 `[out, in]`, finite.
    ends
        The smallest and the largest activation that have a code: `SignedObserver.ends`. 0 is put between.

    Attributes
    ----------
    scale, zero
        Of the activations.
    weight_bytes
        Stored bytes: codes, a scale an output channel, the activations' scale and zero point.
    activation_bits
        8.

    Raises
    ------
    ShapeError, DtypeError, DomainError
        for another weight.
    ArgumentError
        for ends that are no finite range of float32.
    """

    activation_bits: float = 8.0

    def __init__(self, weight: NDArray[np.float32], ends: NDArray[np.float64]) -> None:
        weight = np.asarray(weight)
        require_matrix(weight, "weight")
        low, high = (np.float32(end) for end in (min(ends[0], 0.0), max(ends[1], 0.0)))
        with np.errstate(over="ignore"):
            span = high - low
        if not np.isfinite(span):
            raise ArgumentError(f"ends: expected a finite range of float32, got {ends[0]} to {ends[1]}")
        # OBS-11
        self.scale = np.float32(span / np.float32(255))
        with np.errstate(divide="ignore", invalid="ignore"):
            place = np.float32(-128) - low / self.scale
        self.zero = int(np.clip(np.rint(place), -128, 127)) if self.scale else 0
        self.codes, scales = quantize_static(weight, np.abs(weight).max(axis=1, initial=0, keepdims=True))
        self.scales = scales[:, 0]
        self._sums = self.codes.sum(axis=1, dtype=np.int64)
        self.weight_bytes = self.codes.nbytes + self.scales.nbytes + self.scale.nbytes + 1

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Apply the layer: float32 `[t, in]` to float32 `[t, out]`.

        Raises
        ------
        ShapeError, DtypeError, DomainError
            for anything else.
        """
        x = np.asarray(x)
        require_matrix(x, "x", self.codes.shape[1])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            position = np.clip(np.rint(x / self.scale) + np.float32(self.zero), -128, 127)
        codes = np.where(self.scale == 0, self.zero, position).astype(np.int8)
        acc = int_matmul(codes, self.codes).astype(np.int64) - self.zero * self._sums
        y: NDArray[np.float32] = acc.astype(np.float32)
        with np.errstate(over="ignore", under="ignore"):
            y *= self.scale
            y *= self.scales
        return y
