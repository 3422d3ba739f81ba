"""``q8a8 dequantize``: a file of blocks, or a model, to floats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from q8a8_conformance.commands.file_options import add_blocks, add_source, reporting
from q8a8_conformance.files import gguf
from q8a8_conformance.files.convert import dequantize_file

if TYPE_CHECKING:
    import argparse

    from q8a8_conformance.commands.options import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add ``dequantize`` to the command line."""
    parser = subparsers.add_parser("dequantize", help="turn a file of blocks, or a model, into floats")
    parser.add_argument("input", type=Path, metavar="IN", help=".npy, .bin or .gguf")
    parser.add_argument("output", type=Path, metavar="OUT", help=".npy, .f32 or .gguf")
    model = parser.add_argument_group("models (.gguf)")
    model.add_argument("--type", choices=("f32", "f16"), help="the floats to write [f32]")
    add_blocks(parser)
    add_source(parser)
    parser.set_defaults(func=reporting(_arrays, gguf.dequantize))


def _arrays(options: argparse.Namespace) -> None:
    """Run the command on arrays."""
    dequantize_file(
        options.input, options.output, version=1 + options.v2, scale_field=options.field, shape=options.shape
    )
