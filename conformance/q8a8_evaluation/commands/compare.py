"""``q8a8 compare A.json B.json``: two reports side by side, of two kernels or of two versions of one.

Measurements of a model, ours or those of llama.cpp's tools, are compared by
`q8a8_evaluation.compare_measurements`.

What counts as a difference is the verdict, what became of a rule (its status, and the cases that failed), and
the causes that the diagnosis names. How much of the bound was used is shown, and does not count: it is a
measure, not a judgement.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from q8a8.atomic import unwritable, write_text
from q8a8.errors import Q8A8Error
from q8a8_conformance.commands.options import UNWRITTEN, complain, refuse, usage_error
from q8a8_conformance.commands.output import text_stream, write_to
from q8a8_conformance.files.arrays import FileError
from q8a8_conformance.report import comparison as writers
from q8a8_conformance.report import comparison_html
from q8a8_conformance.report.schema import ReportError, read
from q8a8_conformance.results.comparison import compare
from q8a8_evaluation import compare_measurements as run_writers
from q8a8_evaluation.commands.bench_model import BenchModelError
from q8a8_evaluation.commands.compare_models import compare_models, is_model
from q8a8_evaluation.commands.shared import positive
from q8a8_evaluation.compare_measurements import RunComparison, compare_runs, read_run
from q8a8_evaluation.llamacpp import LlamaCppError
from q8a8_evaluation.llamacpp_logs import LogError
from q8a8_evaluation.measure import Protocol

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from q8a8_conformance.commands.options import Subparsers

T = TypeVar("T")

SAME, DIFFERENT = 0, 1

EXIT_STATUS = (
    "exit status: 0 the two agree, or are measurements; 1 they differ; 2 usage, or a file that is neither; "
    "6 a file, or standard output, could not be written"
)

_WRITERS = {"json": writers.as_json, "markdown": writers.markdown, "html": comparison_html.render}


def add_parser(subparsers: Subparsers) -> None:
    """Add ``compare`` to the command line."""
    parser = subparsers.add_parser(
        "compare",
        help="set two reports, or two measurements of a model, side by side",
        description="Compare two JSON reports of q8a8 test: verdict, rules, diagnosis, and how much of the "
        "bound was used. Or two measurements: q8a8 perplexity --json, q8a8 bench-model --json (FILE#SCHEME "
        "picks a scheme), or the output of llama-perplexity or llama-bench. Or two models, A.gguf and "
        "B.gguf: their perplexity on --text, speed, size and memory are measured.",
        epilog=EXIT_STATUS,
    )
    parser.add_argument(
        "a", type=Path, metavar="A.json", help="a report of q8a8 test --json, or a measurement"
    )
    parser.add_argument("b", type=Path, metavar="B.json", help="another")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison as JSON, too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the comparison as Markdown, too")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write the comparison as one HTML file, too"
    )
    parser.add_argument("--text", type=Path, metavar="FILE", help="for two models: what they are measured on")
    parser.add_argument("--windows", type=int, default=12, metavar="N", help="for two models [12]")
    parser.add_argument("--window", type=int, default=512, metavar="N", help="tokens of a window [512]")
    parser.add_argument(
        "--threads", type=positive, default=1, metavar="N", help="for two models: llama.cpp's threads [1]"
    )
    parser.set_defaults(func=command)


def command(options: argparse.Namespace) -> int:
    """Compare two files, print where they differ, and give the exit status."""
    for kind in _WRITERS:
        path: Path | None = getattr(options, kind)
        if path is not None and (reason := unwritable(path)):
            return usage_error(f"--{kind} {path}: {reason}")
    try:
        runs = _models(options) if is_model(options.a) else measurements(options.a, options.b)
        found = None if runs else compare(read(options.a), read(options.b), str(options.a), str(options.b))
    except (ReportError, LogError, Q8A8Error, FileError, BenchModelError, LlamaCppError) as error:
        return refuse(error)
    try:
        if found is None:
            _write(runs[0], run_writers.WRITERS, options)
        else:
            _write(found, _WRITERS, options)
    except OSError as error:
        return complain(str(error), UNWRITTEN)
    stream = text_stream(getattr(options, kind) for kind in _WRITERS)
    text = run_writers.text(runs[0]) if found is None else writers.text(found)
    if reason := write_to(stream, text):
        return complain(f"standard output could not be written: {reason}", UNWRITTEN)
    # Measurements are never right or wrong.
    return SAME if found is None or found.same else DIFFERENT


def _write(found: T, forms: Mapping[str, Callable[[T], str]], options: argparse.Namespace) -> None:
    """Write the files that were asked for."""
    for kind, writer in forms.items():
        if getattr(options, kind) is not None:
            write_text(writer(found), getattr(options, kind))


def _models(options: argparse.Namespace) -> tuple[RunComparison, ...]:
    """Measure and compare two models.

    Raises
    ------
    ReportError
        The other file is none, or there is no text.
    """
    if not is_model(options.b):
        raise ReportError(f"{options.b}: no GGUF file, as {options.a} is")
    if options.text is None:
        raise ReportError("two models are compared on a text: --text FILE")
    protocol = Protocol(options.window, options.windows, divergence=False)
    return (compare_models(options.a, options.b, options.text, protocol, threads=options.threads),)


def measurements(a: Path, b: Path) -> tuple[RunComparison, ...]:
    """Compare two measurements of a model; nothing where both files are something else.

    Raises
    ------
    ReportError, LogError
        A file cannot be read, or only one is a measurement, or the two cannot be compared.
    """
    left, right = read_run(str(a)), read_run(str(b))
    if left is None and right is None:
        return ()
    if left is None or right is None:
        path, other = (a, b) if left is None else (b, a)
        raise ReportError(f"{path}: no measurement of a model, as {other} is")
    return (compare_runs(left, right),)
