"""Quantize, dequantize and inspect files: `q8a8 quantize`, `q8a8 dequantize`, `q8a8 inspect`.

::

    q8a8 quantize   weights.npy weights.q8.npy     float32 or float16 [..., k] -> blocks [..., k/32]
    q8a8 dequantize weights.q8.npy again.npy       blocks [..., nb] -> float32 [..., 32·nb]
    q8a8 inspect    weights.q8.npy --against weights.npy

Files stream through in parts of 16 MiB of floats, whatever their size; `q8a8_conformance.storage` says what
the suffixes mean and how a result appears only when it is complete. A part is given to the reference as
blocks, and an error about a place in a part is told as the place in the file.

Files whose names end in .gguf are models, and go to `q8a8_conformance.gguf_files`.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import (
    BLOCK_Q8_A8,
    BLOCK_Q8_A8_V2,
    QK8_A8,
    RECIPES,
    DomainError,
    Q8A8Error,
    dequantize_row,
    quantize_row,
    quantize_row_v2,
)
from q8a8.layout import SCALE_FIELDS
from q8a8_conformance import gguf_files
from q8a8_conformance.inspection import inspect_file
from q8a8_conformance.storage import (
    FLOATS,
    FileError,
    Mapped,
    Shape,
    block_parts,
    float_parts,
    float_shape,
    open_array,
    open_blocks,
    require_distinct,
    used_scale,
    write_json,
    writing,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

__all__ = ["add_parsers", "dequantize_file", "quantize_file"]


def quantize_file(
    source: Path,
    target: Path,
    *,
    recipe: str = "design",
    scale_field: str | None = None,
    shape: Shape | None = None,
) -> None:
    """Quantize a file of floats to a file of blocks.

    Parameters
    ----------
    source
        `.npy` of float32 or float16 `[..., k]` in either byte order (float16 is widened, exactly), or `.f32`.
    target
        `.npy` or `.bin`.
    recipe
        The arithmetic.
    scale_field
        The field for the scale of version 2 blocks; None writes version 1.
    shape
        Elements `[..., k]` of an `.f32` source.

    Raises
    ------
    FileError
        naming the file, and where it is about a value, row, block, element and value. The target then is what
        it was before.
    """
    require_distinct(source, target)
    mapped = open_array(source, blocks=BLOCK_Q8_A8, shape=shape)
    shape = float_shape(mapped)
    blocks = (*shape[:-1], shape[-1] // QK8_A8)
    dtype = BLOCK_Q8_A8 if scale_field is None else BLOCK_Q8_A8_V2
    with writing(target, dtype, blocks) as writer:
        for first, part in float_parts(mapped):
            with _named(mapped, first, blocks):
                if scale_field is None:
                    writer.write(quantize_row(part, recipe))
                else:
                    writer.write(quantize_row_v2(part, scale_field, recipe))


def dequantize_file(
    source: Path,
    target: Path,
    *,
    version: int = 1,
    scale_field: str | None = None,
    shape: Shape | None = None,
) -> None:
    """Turn a file of blocks into a file of float32.

    Parameters
    ----------
    source
        `.npy` of blocks, or `.bin`.
    target
        `.npy` or `.f32`.
    version
        The version of the blocks in a `.bin` source.
    scale_field
        The scale to use of version 2 blocks; by default the one that is not zero everywhere.
    shape
        Elements `[..., k]` of a `.bin` source.

    Raises
    ------
    FileError
        as `quantize_file`.
    """
    require_distinct(source, target)
    mapped = open_blocks(source, version, shape)
    blocks = mapped.array.shape
    name = scale_field or used_scale(mapped)
    with writing(target, FLOATS, (*blocks[:-1], blocks[-1] * QK8_A8)) as writer:
        for first, part in block_parts(mapped):
            with _named(mapped, first, blocks):
                writer.write(dequantize_row(part, field=name))


@contextmanager
def _named(mapped: Mapped, first: int, blocks: Shape) -> Iterator[None]:
    """Tell an error about a place in a part, `first` blocks into the file, as the place in the file."""
    try:
        yield
    except DomainError as error:
        *row, block = np.unravel_index(first + error.row[0], blocks)
        raise DomainError(
            error.reason,
            array=str(mapped.path),
            row=tuple(int(i) for i in row),
            block=int(block),
            element=error.element,
            value=error.value,
        ) from None


def add_parsers(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to a parser; each sets `func`, which takes the options and returns the exit status."""
    quantize = subparsers.add_parser("quantize", help="quantize a file of floats, or a model")
    quantize.add_argument("input", type=Path, metavar="IN", help=".npy (float32, float16), .f32 or .gguf")
    quantize.add_argument("output", type=Path, metavar="OUT", help=".npy, .bin or .gguf")
    quantize.add_argument(
        "--recipe", choices=tuple(RECIPES), default="design", help="the arithmetic [design]"
    )
    quantize.add_argument("--v2", action="store_true", help="write version 2 blocks, of 36 bytes")
    quantize.add_argument("--field", choices=SCALE_FIELDS, help="where version 2 blocks carry their scale")
    model = quantize.add_argument_group("models (.gguf)")
    _add_smooth(model, "factors to fold into the weights first, made for this model by q8a8 smooth")
    model.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="GLOB",
        help="quantize only these linear weights; a plain name must be one that can be; may be repeated",
    )
    model.add_argument(
        "--keep", action="append", default=[], metavar="GLOB", help="keep these weights; may be repeated"
    )
    quantize.set_defaults(func=_reporting(_quantize, gguf_files.quantize))

    dequantize = subparsers.add_parser("dequantize", help="turn a file of blocks, or a model, into floats")
    dequantize.add_argument("input", type=Path, metavar="IN", help=".npy, .bin or .gguf")
    dequantize.add_argument("output", type=Path, metavar="OUT", help=".npy, .f32 or .gguf")
    model = dequantize.add_argument_group("models (.gguf)")
    model.add_argument("--type", choices=("f32", "f16"), help="the floats to write [f32]")
    dequantize.set_defaults(func=_reporting(_dequantize, gguf_files.dequantize))

    inspect = subparsers.add_parser("inspect", help="show what is in a file of blocks, or in a model")
    inspect.add_argument("input", type=Path, metavar="FILE", help=".npy, .bin or .gguf")
    inspect.add_argument("--against", type=Path, metavar="SOURCE", help="what it was made from")
    inspect.add_argument("--json", type=Path, metavar="FILE", help="write what was found to a file, too")
    model = inspect.add_argument_group("models (.gguf)")
    _add_smooth(model, "factors to fold into the source's weights before they are compared")
    inspect.set_defaults(func=_reporting(_inspect, gguf_files.inspect))

    for parser in (dequantize, inspect):
        parser.add_argument("--v2", action="store_true", help="a .bin file holds version 2 blocks")
        parser.add_argument(
            "--field",
            choices=SCALE_FIELDS,
            help="the scale of version 2 blocks [the one that is not all zero]",
        )
    for parser in (quantize, dequantize, inspect):
        parser.add_argument(
            "--shape",
            type=_shape,
            metavar="NxK",
            help="elements in a file that does not say it itself, as 4096x1024",
        )
        parser.add_argument(
            "--allow-id-39",
            action="store_true",
            help="a .gguf file is of the design's own fork, where tensor type 39 is Q8_A8, not MXFP4",
        )


def _add_smooth(parser: argparse._ArgumentGroup, what: str) -> None:
    """Add the option that names a file of SmoothQuant factors."""
    parser.add_argument("--smooth", type=Path, metavar="FILE", help=what)


def _shape(text: str) -> Shape:
    """Read a shape from the command line."""
    shape = tuple(int(part) for part in text.split("x"))
    if min(shape) < 0:
        raise ValueError
    return shape


ARRAY_OPTIONS = ("v2", "field", "shape")
MODEL_OPTIONS = ("smooth", "only", "keep", "allow_id_39", "type")


def _reporting(
    arrays: Callable[[argparse.Namespace], None], models: Callable[[argparse.Namespace], None]
) -> Callable[[argparse.Namespace], int]:
    """Make a command of what it does for arrays and for models.

    What is refused goes to standard error, and the exit status is then 1.
    """

    def run(options: argparse.Namespace) -> int:
        paths = (options.input, getattr(options, "output", options.input))
        of_models = any(gguf_files.is_gguf(path) for path in paths)
        try:
            _require_effect(options, of_models)
            (models if of_models else arrays)(options)
        except (FileError, Q8A8Error) as error:
            sys.stderr.write(f"q8a8: {error}\n")
            return 1
        return 0

    return run


def _require_effect(options: argparse.Namespace, of_models: bool) -> None:
    """Refuse an option that would have no effect: whoever gave it meant something else."""
    for name in ARRAY_OPTIONS if of_models else MODEL_OPTIONS:
        if getattr(options, name, None):
            kind = "models" if of_models else "arrays"
            raise FileError(options.input, f"--{name.replace('_', '-')} is not for {kind}")


def _quantize(options: argparse.Namespace) -> None:
    """Run `q8a8 quantize`."""
    field = (options.field or "weight_scale") if options.v2 else None
    quantize_file(
        options.input, options.output, recipe=options.recipe, scale_field=field, shape=options.shape
    )


def _dequantize(options: argparse.Namespace) -> None:
    """Run `q8a8 dequantize`."""
    dequantize_file(
        options.input, options.output, version=1 + options.v2, scale_field=options.field, shape=options.shape
    )


def _inspect(options: argparse.Namespace) -> None:
    """Run `q8a8 inspect`."""
    report = inspect_file(
        options.input,
        against=options.against,
        version=1 + options.v2,
        scale_field=options.field,
        shape=options.shape,
    )
    sys.stdout.writelines(f"{line}\n" for line in report.lines())
    if options.json is not None:
        write_json(options.json, report.as_json())
