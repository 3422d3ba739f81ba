"""``q8a8 compare-model``: one text through two backends, product by product.

::

    q8a8 compare-model MODEL.gguf ggml:libggml-vulkan.so reference --text FILE
    q8a8 compare-model MODEL.gguf lib:./libmine.so ggml:libggml-cpu-haswell.so --json FILE

`q8a8_evaluation.compare_backends` makes the products. Of a backend that is outside the bound the experiments
of ``q8a8 reveal`` and of the diagnosis say what it computes.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.atomic import unwritable, write_text
from q8a8.errors import Q8A8Error
from q8a8.llama.load import load
from q8a8_conformance.commands.options import EXIT_STATUS, UNWRITTEN, seconds, usage_error
from q8a8_conformance.commands.output import text_stream, write_to
from q8a8_conformance.diagnosis.products.facts import product_facts
from q8a8_conformance.diagnosis.products.places import place_facts
from q8a8_conformance.files.arrays import FileError
from q8a8_conformance.files.progress import progress_bar
from q8a8_conformance.inputs.calls import MUL_MAT
from q8a8_conformance.protocol.session import CallRefused, SessionError
from q8a8_conformance.protocol.sut import SutError, parse_sut
from q8a8_conformance.results.verdict import Verdict
from q8a8_conformance.reveal.asking import NoAnswerError
from q8a8_conformance.reveal.products.regimes import RevealedProduct
from q8a8_conformance.reveal.products.revealed import BRIEF, reveal_product, reveal_shape
from q8a8_conformance.smoke.starting import start
from q8a8_evaluation.commands.shared import positive
from q8a8_evaluation.compare_backends import Backend, Comparison, Side, Weights, read_weights, run
from q8a8_evaluation.compare_text import TEXT, document, text
from q8a8_evaluation.text import read_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from q8a8.llama import LoadedModel
    from q8a8_conformance.commands.options import Subparsers
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.protocol.session import Session

__all__ = ["add_parser", "command"]

TIMEOUT, TOKENS = 120.0, 64
SLOW = 30.0
"""Seconds that the experiments at one shape may take where others are to be looked at."""

REFERENCE = "reference"
"""The second backend that is none: the specification alone."""


class StoppedError(Exception):
    """A backend gives no product; `status` is the command's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def add_parser(subparsers: Subparsers) -> None:
    """Add ``compare-model`` to the command line."""
    parser = subparsers.add_parser(
        "compare-model",
        help="find the first product of a model that two backends do not compute alike",
        description="Run one text through a model, give the input of every linear operator to two backends, "
        "and find the first matrix product that is outside the bound, what the backend computes in its "
        "place, and how far the predictions drift when each backend runs the whole model.",
        epilog=f"{EXIT_STATUS} (conforms: every product is within the bound, by the specification's recipe "
        "or one of ggml's)",
    )
    parser.add_argument("model", type=Path, metavar="MODEL.gguf", help="a Llama model")
    parser.add_argument("a", metavar="A", help="a backend: ggml:PATH, lib:PATH, py:..., exec:..., ref")
    parser.add_argument("b", metavar="B", help="another one, or `reference`: the specification")
    parser.add_argument("--text", type=Path, metavar="FILE", help="the text [a short one of its own]")
    parser.add_argument("--tokens", type=positive, default=TOKENS, metavar="N", help="its first ones [64]")
    parser.add_argument("--head", action="store_true", help="the last product is a backend's, too")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=TIMEOUT,
        metavar="S",
        help="seconds that one product may take [120]",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON, too")
    parser.set_defaults(func=command)


def command(options: argparse.Namespace) -> int:
    """Compare, print the result, and return the exit status."""
    if options.json is not None and (reason := unwritable(options.json)):
        return usage_error(f"--json {options.json}: {reason}")
    try:
        with ExitStack() as stack:
            specs = [options.a, *([] if options.b == REFERENCE else [options.b])]
            sides = [_open(stack, spec, options.timeout) for spec in specs]
            loaded = load(options.model)
            weights = read_weights(options.model, loaded, head=options.head)
            tokens = _tokens(loaded, options)
            found = _compare(sides, loaded, weights, tokens)
            for side in sides:
                _explain(side)
    except StoppedError as error:
        write_to(sys.stderr, f"q8a8: {error}\n")
        return error.status
    except (SutError, FileError, Q8A8Error) as error:
        return usage_error(str(error))
    result = document(options, loaded.sha256, len(tokens), weights, sides, found)
    status = 1 if any(side.backend.outside for side in sides) else 0
    return _deliver(result, options.json, status)


def _deliver(result: dict[str, Any], path: Path | None, status: int) -> int:
    """Write the file, print the text, and return the exit status."""
    if path is not None:
        try:
            write_text(json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n", path)
        except OSError as error:
            write_to(sys.stderr, f"q8a8: --json could not be written: {error}\n")
            status = UNWRITTEN
    if reason := write_to(text_stream([path]), text(result)):
        write_to(sys.stderr, f"q8a8: standard output could not be written: {reason}\n")
        status = UNWRITTEN
    return status


def _open(stack: ExitStack, spec: str, timeout: float) -> Side:
    """Start a backend."""
    sut = parse_sut(spec)
    session = stack.enter_context(sut.session(timeout, start_timeout=timeout))
    started = start(sut, session)
    if started.hello is None:
        ending = started.ending or Verdict.NOT_REACHED
        raise StoppedError(f"{spec}: {started.stage.message}", ending.exit_status)
    if MUL_MAT not in started.hello.functions:
        raise StoppedError(f"{spec} does not offer {MUL_MAT}", Verdict.NOTHING_RAN.exit_status)
    name = f"{started.hello.name} {started.hello.version}".strip()
    return Side(spec, name, session, Backend(lambda call: _product(spec, session, call)))


def _product(spec: str, session: Session, call: Call) -> bytes:
    """Make a product; a backend that gives none ends the comparison."""
    try:
        return bytes(session.call(call).outputs[0])
    except SessionError as error:
        shape = f"m = {call.bs}, n = {call.bx}, k = {call.n}"
        status = Verdict.NOTHING_RAN if isinstance(error, CallRefused) else Verdict.CRASHED
        raise StoppedError(f"{spec}: a product of {shape}: {error}", status.exit_status) from None


def _tokens(loaded: LoadedModel, options: argparse.Namespace) -> NDArray[np.int64]:
    """Return the first tokens of the text, no more than the model takes."""
    words = read_text(options.text, at_least=16 * options.tokens) if options.text else TEXT
    bos = loaded.tokenizer.add_bos
    tokens = loaded.tokenizer.encode(words, bos=bos)[: min(options.tokens, loaded.config.context)]
    return np.array(tokens)


def _compare(
    sides: Sequence[Side], loaded: LoadedModel, weights: Weights, tokens: NDArray[np.int64]
) -> Comparison:
    """Run the model, with a progress bar on a terminal."""
    total = len(weights.blocks) * (1 + len(sides))
    with progress_bar("products", total) as progress:
        done = itertools.count(1)
        return run(loaded, weights, tokens, [side.backend for side in sides], lambda: progress(next(done)))


def _explain(side: Side) -> None:
    """Find out what a backend that is outside the bound computes.

    The shape of the first product outside comes first, and where its experiments are slow, as where each
    shape has shaders to be compiled, a row alone is the only other one.
    """
    first = side.backend.first
    if first is None:
        return
    revealed = RevealedProduct()
    try:
        side.facts = place_facts(side.session, [first.failure])
        if side.facts:
            return
        side.revealed, began = revealed, time.monotonic()
        revealed.regimes.append(reveal_shape(side.session, first.failure.call.bx, BRIEF))
        side.facts = product_facts(side.session, [first.failure], revealed)
        taken = time.monotonic() - began
        if taken > SLOW:
            revealed.regimes.insert(0, reveal_shape(side.session, 1, BRIEF))
            revealed.notes.append(f"the experiments take {taken:.0f} s a shape: q8a8 reveal looks at others")
            return
        whole = reveal_product(side.session, BRIEF)
        facts = product_facts(side.session, [first.failure], whole)
        if facts or not side.facts:
            side.revealed, side.facts = whole, facts
    except (SessionError, NoAnswerError) as error:
        side.why = str(error)
