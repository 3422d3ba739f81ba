"""Models in GGUF files: what `q8a8 quantize`, `dequantize` and `inspect` do with a name that ends in .gguf.

::

    q8a8 quantize   model.gguf model.q8.gguf       linear weights -> Q8_A8, stored as type 8 (Q8_0)
    q8a8 dequantize model.q8.gguf model.f16.gguf   quantized types -> float32 or float16
    q8a8 inspect    model.q8.gguf --against model.gguf

The work is done by `q8a8.ggufio`; here are the options, the progress bar and what is printed.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from typing import TYPE_CHECKING

from q8a8.ggufio import dequantize_model, quantize_model
from q8a8.methods.smoothing import Smoothing
from q8a8_conformance.files.arrays import FileError, write_json
from q8a8_conformance.files.inspect_gguf import inspect_gguf, plain
from q8a8_conformance.files.progress import progress_bar

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from q8a8.ggufio import Summary

__all__ = ["dequantize", "inspect", "is_gguf", "quantize"]


def is_gguf(path: Path) -> bool:
    """Return whether a file's name ends as those of GGUF files do, or is that of a folder with a model."""
    return path.suffix.lower() == ".gguf" or (path / "config.json").is_file()


def _require_two(options: argparse.Namespace) -> None:
    """Refuse a model on one side and an array on the other."""
    for path in (options.input, options.output):
        if not is_gguf(path):
            raise FileError(path, "a model goes from one .gguf file to another")


def _smoothing(options: argparse.Namespace) -> Smoothing | None:
    """Load the factors that were asked for."""
    return None if options.smooth is None else Smoothing.load(options.smooth)


def quantize(options: argparse.Namespace) -> None:
    """Run `q8a8 quantize` on models."""
    _require_two(options)
    with progress_bar("weights", scale=True) as progress:
        summary = quantize_model(
            options.input,
            options.output,
            smooth=_smoothing(options),
            only=options.only,
            keep=options.keep,
            embedding=options.embedding,
            output=options.output_layer,
            recipe=options.recipe,
            split=options.split_max_size,
            allow_id_39=options.allow_id_39,
            progress=lambda name, done, total: progress(done, total, plain(name)),
        )
    _print_summary(summary, "quantized")


def dequantize(options: argparse.Namespace) -> None:
    """Run `q8a8 dequantize` on models."""
    _require_two(options)
    with progress_bar("weights", scale=True) as progress:
        summary = dequantize_model(
            options.input,
            options.output,
            kind=options.type or "f32",
            allow_id_39=options.allow_id_39,
            progress=lambda name, done, total: progress(done, total, plain(name)),
        )
    _print_summary(summary, "dequantized")


def inspect(options: argparse.Namespace) -> None:
    """Run `q8a8 inspect` on a model."""
    if options.smooth is not None and options.against is None:
        raise FileError(
            options.smooth, "factors are folded into the source of a comparison: --against is missing"
        )
    report = inspect_gguf(
        options.input,
        against=options.against,
        smooth=_smoothing(options),
        allow_id_39=options.allow_id_39,
    )
    sys.stdout.writelines(f"{line}\n" for line in report.lines())
    if options.json is not None:
        write_json(options.json, report.as_json())


def _tensors(number: int) -> str:
    return f"{number} tensor{'' if number == 1 else 's'}"


def _print_summary(summary: Summary, done: str) -> None:
    """Print what became of a file."""
    sys.stderr.writelines(f"q8a8: {plain(note)}\n" for note in summary.notes)
    folded = f"{len(summary.folded)} folded, " if summary.folded else ""
    sys.stdout.write(
        f"{summary.target}: {_tensors(len(summary.converted))} {done}, {folded}{len(summary.kept)} kept, "
        f"{summary.source_bytes} bytes -> {summary.target_bytes} bytes\n"
        f"bits a weight: {summary.bits[0]:.4g} -> {summary.bits[1]:.4g}\n"
    )
    sys.stdout.writelines(f"kept {line}\n" for line in _kept_lines(summary))


LAYER = re.compile(r"(?<=blk\.)\d+(?=\.)")


def _kept_lines(summary: Summary) -> Iterator[str]:
    """Yield a line for each kept matrix, the same one of all layers together: share of the bytes, reason."""
    count, size = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for name, (reason, n_bytes) in summary.reasons.items():
        group = (LAYER.sub("*", name), reason)
        count[group] += 1
        size[group] += n_bytes
    for (name, reason), n_bytes in size.most_common():
        times = f" ({count[name, reason]} tensors)" if count[name, reason] > 1 else ""
        yield f"{plain(name)}{times}, {100 * n_bytes / summary.target_bytes:.1f} % of the bytes: {reason}"
