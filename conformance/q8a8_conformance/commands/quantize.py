"""``q8a8 quantize``: a file of floats, or a model, to Q8_A8."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8 import RECIPES
from q8a8.layout import SCALE_FIELDS
from q8a8_conformance.commands.file_options import add_smooth, add_source, reporting
from q8a8_conformance.files import gguf
from q8a8_conformance.files.convert import quantize_file

if TYPE_CHECKING:
    from q8a8_conformance.commands.options import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add ``quantize`` to the command line."""
    parser = subparsers.add_parser(
        "quantize",
        help="quantize a file of floats, or a model",
        epilog="the integer weights of AWQ, GPTQ and int4 are written by q8a8 export",
    )
    parser.add_argument("input", type=Path, metavar="IN", help=".npy (float32, float16), .f32 or .gguf")
    parser.add_argument("output", type=Path, metavar="OUT", help=".npy, .bin or .gguf")
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="design", help="the arithmetic [design]")
    parser.add_argument("--v2", action="store_true", help="write version 2 blocks, of 36 bytes")
    parser.add_argument("--field", choices=SCALE_FIELDS, help="where version 2 blocks carry their scale")
    model = parser.add_argument_group("models (.gguf)")
    add_smooth(model, "factors to fold into the weights first, made for this model by q8a8 smooth")
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
    model.add_argument(
        "--embedding", action="store_true", help="quantize the tables that are looked up for tokens as well"
    )
    model.add_argument(
        "--output",
        action="store_true",
        dest="output_layer",
        help="quantize the output layer's matrix, also where it is the embedding",
    )
    model.add_argument(
        "--split-max-size",
        type=_size,
        metavar="N(M|G)",
        help="write OUT-00001-of-NNNNN.gguf and so on, each with at most so many bytes of tensors, as "
        "llama.cpp's gguf-split does [one file]",
    )
    add_source(parser)
    parser.set_defaults(func=reporting(_arrays, gguf.quantize))


def _size(text: str) -> int:
    """Return the bytes of a size in megabytes or gigabytes (10^6, 10^9), as gguf-split reads it."""
    match = re.fullmatch(r"([1-9]\d{0,8})([MG])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a number and M or G, as 500M or 2G, got {text!r}")
    return int(match[1]) * {"M": 10**6, "G": 10**9}[match[2]]


def _arrays(options: argparse.Namespace) -> None:
    """Run the command on arrays."""
    field = (options.field or "weight_scale") if options.v2 else None
    quantize_file(
        options.input, options.output, recipe=options.recipe, scale_field=field, shape=options.shape
    )
