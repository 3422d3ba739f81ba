"""``q8a8 reveal``: find out by experiments what a kernel computes, and name it afterwards.

A result object of any kind has ``to_json(blocks)``, ``text()`` and ``svg(blocks)``. `REVEALERS` has the
function that makes the results of each of the kernel's functions.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from q8a8.atomic import unwritable, write_text
from q8a8_conformance.commands.options import OK, UNWRITTEN, add_sut, seconds, usage_error
from q8a8_conformance.commands.output import text_stream, write_to
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.protocol.session import SessionError
from q8a8_conformance.protocol.sut import SutError, parse_sut
from q8a8_conformance.results.record import count
from q8a8_conformance.results.verdict import Verdict
from q8a8_conformance.reveal.asking import NoAnswerError
from q8a8_conformance.reveal.describe import LARGEST_TREE
from q8a8_conformance.reveal.dots import Revealed, reveal_dot
from q8a8_conformance.reveal.products.revealed import reveal_product
from q8a8_conformance.reveal.quantizers.revealed import reveal_quantizer
from q8a8_conformance.smoke.starting import start
from q8a8_conformance.spec.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from q8a8_conformance.commands.options import Subparsers
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.protocol.session import Session

FORMAT = 1
TIMEOUT = 10.0

ADDRESSED = 67
"""Blocks of the row that is multiplied at several addresses."""

STATUS = (
    "exit status: 0 whatever the kernel computes, 2 usage, 3 the kernel crashed or hung, 4 it offers "
    "none of the functions, 5 it was not reached, 6 a file could not be written, 70 the program itself "
    "broke, 130 interrupted"
)


class Result(Protocol):
    """What was revealed of one function."""

    @property
    def died(self) -> str:
        """Why the experiments ended early, if they did."""

    def text(self) -> str:
        """Return it as lines of text."""

    def to_json(self, blocks: int | None = None) -> dict[str, Any]:
        """Return it as JSON data."""

    def svg(self, blocks: int | None = None, *, alone: bool = False) -> str:
        """Draw it; empty where there is nothing to draw."""


def _function(name: str) -> str:
    if name not in REVEALERS:
        hint = did_you_mean(name, REVEALERS)
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(REVEALERS)}{hint}")
    return name


def add_parser(subparsers: Subparsers) -> None:
    """Add ``reveal`` to the command line."""
    parser = subparsers.add_parser(
        "reveal",
        help="find out by experiments what a kernel computes",
        description="Make experiments on a kernel and report what it computes: the recipe of its quantizers; "
        "the tree of additions of its dot products, over blocks and lanes, fused or not, and how it rounds. "
        "What was found is tried on thousands of random results.",
        epilog=STATUS,
    )
    add_sut(parser)
    parser.add_argument(
        "--function",
        type=_function,
        metavar="F",
        help="reveal this function alone, by its ABI name",
    )
    parser.add_argument(
        "--blocks",
        type=_blocks,
        metavar="N",
        help="show the trees of rows of N blocks [two steps of the loop]",
    )
    parser.add_argument(
        "--timeout", type=seconds, default=TIMEOUT, metavar="S", help="seconds that one call may take [10]"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write what was found as JSON, too; - is standard output"
    )
    parser.add_argument(
        "--svg", type=Path, metavar="FILE", help="draw the tree of the first function that has one"
    )
    parser.set_defaults(func=command)


def _blocks(text: str) -> int:
    """Convert an option's text to a number of blocks.

    Raises
    ------
    argparse.ArgumentTypeError
        for anything else.
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= LARGEST_TREE):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of blocks from 1 to {LARGEST_TREE}")
    return int(text)


def command(options: argparse.Namespace) -> int:
    """Reveal the functions, print what was found, and return the exit status."""
    for flag in ("json", "svg"):
        path = getattr(options, flag)
        if path is not None and (reason := unwritable(path)):
            return usage_error(f"--{flag} {path}: {reason}")
    try:
        sut = parse_sut(options.sut, options.symbol, options.init)
        with sut.session(options.timeout, start_timeout=options.timeout) as session:
            started = start(sut, session)
            if started.hello is None:
                write_to(sys.stderr, f"q8a8: {started.stage.message}\n")
                return (started.ending or Verdict.NOT_REACHED).exit_status
            offered = [name for name in REVEALERS if name in started.hello.functions]
            wanted = [name for name in offered if options.function in {None, name}]
            results = [result for name in wanted for result in REVEALERS[name](session)]
            broke = bool(session.crashes + session.hangs) and any(result.died for result in results)
    except SutError as error:
        return usage_error(str(error))
    if not wanted:
        write_to(sys.stderr, "q8a8: the kernel offers none of the functions\n")
        return Verdict.NOTHING_RAN.exit_status
    status = _deliver(options, results)
    return Verdict.CRASHED.exit_status if status == OK and broke else status


def _deliver(options: argparse.Namespace, results: list[Result]) -> int:
    """Print the results, write the files, and return the exit status."""
    status = OK
    document = {
        "format": FORMAT,
        "sut": options.sut,
        "functions": [result.to_json(options.blocks) for result in results],
    }
    drawing = next(filter(None, (result.svg(options.blocks, alone=True) for result in results)), "")
    files = {"json": json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False), "svg": drawing}
    for flag, text in files.items():
        path = getattr(options, flag)
        if path is None:
            continue
        if not text:
            write_to(sys.stderr, f"q8a8: --{flag} {path}: there is no tree to draw\n")
            continue
        try:
            write_text(text + "\n", path)
        except OSError as error:
            write_to(sys.stderr, f"q8a8: --{flag} could not be written: {error}\n")
            status = UNWRITTEN
    text = "\n".join(result.text() for result in results)
    if reason := write_to(text_stream([options.json, options.svg]), text):
        write_to(sys.stderr, f"q8a8: standard output could not be written: {reason}\n")
        status = UNWRITTEN
    return status


def _outputs(session: Session, call: Call) -> bytes | None:
    """Make a call; None where it does not return."""
    try:
        return bytes(session.call(call).outputs[0])
    except SessionError:
        return None


def _ask(session: Session, function: str, nrc: int, x: Array, y: Array) -> bytes:
    """Make a dot product.

    Raises
    ------
    NoAnswerError
        It did not return: the message says whether the kernel crashed, hung or refused.
    """
    single = calls.dot if function == calls.DOT else calls.dot_real
    try:
        return bytes(session.call((calls.dot_pair if nrc == 2 else single)(x, y)).outputs[0])
    except SessionError as error:
        raise NoAnswerError(f"rows of {count(x.shape[-1], 'block')}: {error}") from None


def _takes_two_rows(session: Session) -> bool:
    """Return whether nrc = 2 gives all four products of rows on which every order agrees."""
    x, y = dot_rows.exact_pair(2)
    s = _outputs(session, calls.dot_pair(np.stack([x, y]), np.stack([y, x])))
    held = calls.poison(16)
    return s is not None and all(s[at : at + 4] != held[at : at + 4] for at in range(0, 16, 4))


def _revealed(session: Session, function: str, nrc: int = 1) -> Revealed:
    """Reveal a dot product, and compare its results at other addresses."""
    found = reveal_dot(partial(_ask, session), function, nrc)
    if not found.pieces:
        return found
    x, y = dot_rows.random_pair(ADDRESSED)
    call = calls.dot(x, y) if function == calls.DOT else calls.dot_real(*dot_rows.to_v2(x, y))
    offsets = [(x_at, y_at) for x_at in range(0, 64, 2) for y_at in (0, 2)]
    seen = {_outputs(session, calls.misaligned(call, {"vx": x_at, "vy": y_at})) for x_at, y_at in offsets}
    if nrc == 1 and len(seen) > 1:
        found.notes.append(
            "the order depends on the addresses of the rows: other bits where they are misaligned"
        )
    return found


def _dot(session: Session) -> Iterator[Result]:
    yield _revealed(session, calls.DOT)
    if _takes_two_rows(session):
        yield _revealed(session, calls.DOT, 2)


def _dot_real(session: Session) -> Iterator[Result]:
    yield _revealed(session, calls.DOT_REAL)


def _quantizer(function: str, session: Session) -> Iterator[Result]:
    yield reveal_quantizer(session, function)


def _product(session: Session) -> Iterator[Result]:
    yield reveal_product(session)


REVEALERS: Mapping[str, Callable[[Session], Iterator[Result]]] = {
    **{name: partial(_quantizer, name) for name in (*calls.QUANTIZERS, calls.ACTIVATION)},
    calls.DOT: _dot,
    calls.DOT_REAL: _dot_real,
    calls.MUL_MAT: _product,
}
"""What reveals each function, by its ABI name."""
