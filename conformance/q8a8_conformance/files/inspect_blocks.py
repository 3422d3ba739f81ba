"""Contents of a file of blocks, and its deviation from the floats that it was made from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8 import BLOCK_Q8_A8, BLOCK_Q8_A8_V2, QK8_A8, dequantize_row, unpack
from q8a8_conformance.files.arrays import (
    FileError,
    Shape,
    block_parts,
    float_parts,
    float_shape,
    open_array,
    open_blocks,
    used_scale,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Deviation", "Report", "inspect_file"]

FORMAT = 1
"""Of the JSON document: keys may come, none goes."""

BLOCK_TYPES = {BLOCK_Q8_A8: "block_q8_a8", BLOCK_Q8_A8_V2: "block_q8_a8_v2"}


@dataclass(kw_only=True)
class Deviation:
    """How far the numbers of an array lie from those that it was made from, part by part.

    Parameters
    ----------
    shape
        In elements.
    """

    shape: Shape
    largest_error: float = 0.0
    largest_error_at: Shape = ()
    squared_error: float = 0.0
    squared_source: float = 0.0
    compared: int = 0

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def rms(self) -> float:
        """Root of the mean square of the error over the elements that were compared, 0 without any."""
        return math.sqrt(self.squared_error / self.compared) if self.compared else 0.0

    @property
    def snr(self) -> float:
        """Signal to noise in dB: infinite without an error."""
        if self.squared_error == 0:
            return math.inf
        if self.squared_source == 0:
            return -math.inf
        return 10 * math.log10(self.squared_source / self.squared_error)

    def compare(self, values: NDArray[np.float32], source: NDArray[np.float32], first: int) -> None:
        """Add the error of a part, `first` elements into the array; where it is not finite it is left out."""
        error = values.astype(np.float64)
        # Infinities of one sign, or a NaN: the error is not finite.
        with np.errstate(invalid="ignore"):
            error -= source
        used = np.isfinite(error)
        self.compared += int(used.sum())
        error[~used] = 0
        self.squared_error += float(np.vdot(error, error))
        signal = np.where(used, source, 0).astype(np.float64)
        self.squared_source += float(np.vdot(signal, signal))
        np.abs(error, out=error)
        at = int(error.argmax())
        if error.flat[at] > self.largest_error:
            self.largest_error = float(error.flat[at])
            self.largest_error_at = tuple(int(i) for i in np.unravel_index(first + at, self.shape))

    def as_json(self) -> dict[str, object]:
        """Return the figures for a JSON document; an infinite SNR, which JSON has no number for, is null."""
        return {
            "largest": self.largest_error,
            "largest_at": list(self.largest_error_at),
            "rms": self.rms,
            "snr_db": self.snr if math.isfinite(self.snr) else None,
            "compared": self.compared,
        }


@dataclass(kw_only=True)
class Report(Deviation):
    """The report of `inspect` on a file of blocks; `lines` prints it.

    Parameters
    ----------
    type_name, stored
        The block type, and the bytes of all blocks.
    scale_field
        The scale that is looked at.
    """

    type_name: str
    stored: int
    scale_field: str
    smallest_scale: float = math.inf
    largest_scale: float = -math.inf
    zero_blocks: int = 0
    zero_scales: int = 0
    negative_scales: int = 0
    non_finite_scales: int = 0
    minus_128: int = 0
    against: Path | None = None

    def add(self, blocks: NDArray[Any]) -> NDArray[np.bool_]:
        """Count what a part of the blocks holds, and give which of them have a finite scale."""
        h, q = unpack(blocks, self.scale_field)
        finite = np.isfinite(h)
        self.non_finite_scales += int((~finite).sum())
        self.zero_scales += int((h == 0).sum())
        self.negative_scales += int((h < 0).sum())
        self.zero_blocks += int((~q.any(axis=-1)).sum())
        self.minus_128 += int((q == -128).sum())
        if finite.any():
            self.smallest_scale = min(self.smallest_scale, float(h[finite].min()))
            self.largest_scale = max(self.largest_scale, float(h[finite].max()))
        return finite

    def lines(self) -> Iterator[str]:
        """Yield what to print, a fact a line."""
        elements, blocks = self.elements, self.elements // QK8_A8
        yield f"type            {self.type_name}"
        yield f"shape           {' x '.join(str(n) for n in self.shape)}"
        yield f"elements        {elements}"
        yield f"blocks          {blocks}"
        yield f"bytes           {self.stored}"
        if elements:
            yield f"bits a weight   {8 * self.stored / elements:g}"
            yield f"against float32 {4 * elements / self.stored:.3f} times smaller"
            yield f"against float16 {2 * elements / self.stored:.3f} times smaller"
        if blocks > self.non_finite_scales:
            low, high = self.smallest_scale, self.largest_scale
            yield f"scales          {low:.9g} to {high:.9g} ({self.scale_field})"
        yield f"zero scales     {self.zero_scales}"
        yield f"negative scales {self.negative_scales}"
        yield f"NaN, inf scales {self.non_finite_scales}"
        yield f"zero blocks     {self.zero_blocks}"
        yield f"quants of -128  {self.minus_128}"
        if self.against is not None:
            yield f"error against   {self.against}"
            where = f" at {list(self.largest_error_at)}" if self.largest_error else ""
            yield f"  largest       {self.largest_error:.9g}{where}"
            yield f"  RMS           {self.rms:.9g}"
            yield f"  SNR           {self.snr:.2f} dB"
            if self.compared < elements:
                yield f"  left out      {elements - self.compared} elements under a scale of NaN or inf"

    def as_json(self) -> dict[str, object]:
        """Return the facts for a JSON document."""
        low, high = self.smallest_scale, self.largest_scale
        facts: dict[str, object] = {
            "format": FORMAT,
            "type": self.type_name,
            "shape": list(self.shape),
            "bytes": self.stored,
            "scale_field": self.scale_field,
            "scales": [low, high] if low <= high else None,
            "zero_scales": self.zero_scales,
            "negative_scales": self.negative_scales,
            "non_finite_scales": self.non_finite_scales,
            "zero_blocks": self.zero_blocks,
            "quants_of_minus_128": self.minus_128,
        }
        if self.against is not None:
            facts |= {"against": str(self.against), "error": super().as_json()}
        return facts


def inspect_file(
    path: Path,
    *,
    against: Path | None = None,
    version: int = 1,
    scale_field: str | None = None,
    shape: Shape | None = None,
) -> Report:
    """Look through a file of blocks, and compare it with the floats that it was made from.

    Parameters
    ----------
    path
        `.npy` of blocks, or `.bin`.
    against
        A file of floats of the same shape.
    version, shape
        Version, and elements `[..., k]`, of a `.bin` file.
    scale_field
        The scale to look at in version 2 blocks; by default the one that is not zero everywhere.

    Raises
    ------
    FileError
        where a file cannot be read, or does not hold what it should, or the shapes differ.
    """
    mapped = open_blocks(path, version, shape)
    blocks = mapped.array
    elements = (*blocks.shape[:-1], blocks.shape[-1] * QK8_A8)
    name = scale_field or used_scale(mapped)
    report = Report(
        type_name=BLOCK_TYPES[blocks.dtype],
        shape=elements,
        stored=blocks.nbytes,
        scale_field=name,
        against=against,
    )
    # A file of bare floats has the shape that the blocks have.
    raw = elements if against is not None and against.suffix.lower() == ".f32" else None
    source = None if against is None else open_array(against, blocks=BLOCK_Q8_A8, shape=raw)
    if source is not None and float_shape(source) != elements:
        raise FileError(source.path, f"shape {source.array.shape}, but {path} has {elements}")
    floats = None if source is None else float_parts(source)
    for first, part in block_parts(mapped):
        finite = report.add(part)
        if floats is not None:
            values = np.full((*part.shape, QK8_A8), np.nan, np.float32)
            values[finite] = dequantize_row(part[finite][:, None], field=name)
            _, wanted = next(floats)
            report.compare(values.reshape(wanted.shape), wanted, first * QK8_A8)
    return report
