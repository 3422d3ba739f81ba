"""Plot for docs/methods/fp8.md: what a number's size costs in int8 and FP8, and errors on real activations.

``python -m q8a8_lab.evaluation.plots.fp8``
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8.methods.fp8 import FORMATS, decode, encode, quantize
from q8a8.methods.static_linear import quantize_static
from q8a8_lab.evaluation.plots.figure import FOLDER, finish, panels, table
from q8a8_lab.evaluation.plots.inputs import observe

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]

NAMES = ("e4m3fn", "e5m2", "int8")
KINDS = ("attn_q", "attn_output", "ffn_gate", "ffn_down")


def again(x: F32, name: str, *, channel: bool) -> F32:
    """Quantize and dequantize rows, with one scale or one a row."""
    if name == "int8":
        amax = np.abs(x).max(axis=1 if channel else None, keepdims=True)
        codes, scales = quantize_static(x, amax)
        return np.asarray(codes * scales)
    stored = quantize(x, name, "channel" if channel else "tensor")
    return np.asarray(decode(stored.codes, stored.format) * stored.scales[:, None])


def curves() -> dict[str, tuple[F32, NDArray[np.float64]]]:
    """Give the largest relative error of numbers of each size, the size as a share of the largest number."""
    found = {}
    sizes = np.exp2(np.arange(-24, 0, 1 / 16)).astype(np.float32)
    # In each sixteenth of a binade, 257 numbers.
    x = sizes[:, None] * np.exp2(np.linspace(0, 1 / 16, 257, dtype=np.float32))
    for name in NAMES:
        if name == "int8":
            values = np.rint(x * 127) / 127
        else:
            fmt = FORMATS[name]
            largest = np.float32(fmt.largest)
            values = decode(encode(x * largest, fmt, "saturating"), fmt) / largest
        found[name] = (sizes, (np.abs(values - x) / x).max(axis=1))
    return found


def measure() -> dict[str, dict[str, list[float]]]:
    """Give the relative error of every layer's inputs, by format and granularity, and kind of operator."""
    layers = observe()
    found: dict[str, dict[str, list[float]]] = {}
    for name in NAMES:
        for channel in (False, True):
            lines = found.setdefault(f"{name}, {'token' if channel else 'tensor'}", {})
            for kind in KINDS:
                inputs = [layers.inputs[operator] for operator in layers.of(kind)]
                errors = [
                    np.linalg.norm(again(x, name, channel=channel) - x) / np.linalg.norm(x) for x in inputs
                ]
                lines[kind] = [float(e) for e in errors]
    return found


def draw(
    sizes: dict[str, tuple[F32, NDArray[np.float64]]], real: dict[str, dict[str, list[float]]], path: Path
) -> None:
    """Draw the errors by size, and those of the inputs of down by layer."""
    figure, (left, right) = panels(2)
    for color, (name, (size, worst)) in enumerate(sizes.items()):
        left.plot(size, worst, label=name, color=f"C{color}")
    left.set(
        title="largest relative error", xlabel="magnitude / largest magnitude", xscale="log", yscale="log"
    )
    left.axhline(1, color="grey", linewidth=0.8)
    for name, lines in real.items():
        style = "-" if name.endswith("token") else "--"
        color = NAMES.index(name.split(",")[0])
        right.plot(lines["ffn_down"], style, color=f"C{color}", label=name)
    right.set(title="relative error, inputs of ffn_down", xlabel="layer", yscale="log")
    left.legend(fontsize=8)
    right.legend(fontsize=7, ncols=2)
    finish(figure, path)


def main() -> None:
    """Measure on the real model, print a table and write the plot."""
    real = measure()
    rows = [(name, *(float(np.mean(lines[kind])) for kind in KINDS)) for name, lines in real.items()]
    table(("codes, scale", *KINDS), rows)
    draw(curves(), real, FOLDER / "fp8.svg")


if __name__ == "__main__":
    main()
