"""The command ``q8a8``: judge a kernel, explain a rule, quantize files, time, and keep the golden vectors.

Each command's code is imported when it is asked for: ``q8a8 quantize`` needs NumPy alone, ``q8a8 test`` needs
the extra ``suite`` (pytest and Hypothesis).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from importlib import import_module, metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OK, USAGE = 0, 2

REPORTS = {
    "json": "the report as JSON",
    "junitxml": "the report as JUnit XML",
    "markdown": "the report as Markdown, for the summary of a CI job",
    "html": "the report as one HTML file, with plots",
    "badge": "the verdict as an SVG badge",
    "statement": "a statement of conformance, as Markdown",
}
"""What ``q8a8 test`` writes to files, by option: `q8a8_conformance.report` has the writers."""

EXIT_STATUS = "exit status: 0 conforms, 1 does not, 2 usage, 3 the kernel crashed or hung, 4 nothing ran"

# argparse has no public name for what add_subparsers() returns.
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 (as said)


@dataclass(frozen=True)
class Room:
    """A module that adds commands, with what ``q8a8 --help`` says of them before it is imported.

    Attributes
    ----------
    module, function
        Where the function is that takes the subparsers and adds the commands. Each command sets ``func``,
        which takes the parsed options and gives the exit status.
    commands
        Help by name.
    """

    module: str
    function: str
    commands: dict[str, str]


ROOMS = (
    Room(
        "q8a8_conformance.cli",
        "add_parsers",
        {
            "test": "judge a kernel",
            "rules": "list the rules",
        },
    ),
    Room(
        "q8a8_conformance.smoke",
        "add_parser",
        {"smoke": "tell a broken way to a kernel from a broken kernel, in a second"},
    ),
    Room(
        "q8a8_conformance.explain",
        "add_parser",
        {"explain": "say what a rule asks, why, what checks it, and which mistakes it catches"},
    ),
    Room(
        "q8a8_conformance.compare",
        "add_parser",
        {"compare": "set two reports, or measurements, side by side"},
    ),
    Room(
        "q8a8_conformance.files",
        "add_parsers",
        {
            "quantize": "quantize a file of floats, or a model",
            "dequantize": "turn a file of blocks, or a model, into floats",
            "inspect": "show what is in a file of blocks, or in a model",
        },
    ),
    Room(
        "q8a8_conformance.evaluate.generate",
        "add_parser",
        {"generate": "write text with a model, in float or quantized"},
    ),
    Room(
        "q8a8_conformance.evaluate.calibrate",
        "add_parsers",
        {
            "calibrate": "measure a model's activations on a text",
            "smooth": "compute SmoothQuant's factors from a calibration",
        },
    ),
    Room(
        "q8a8_conformance.evaluate.perplexity",
        "add_parser",
        {"perplexity": "measure the perplexity of quantization schemes on a text"},
    ),
    Room(
        "q8a8_conformance.evaluate.bench_model",
        "add_parser",
        {"bench-model": "time a model in each scheme"},
    ),
    Room("q8a8_conformance.bench", "add_parser", {"bench": "time the reference against its peers"}),
    Room(
        "q8a8_conformance.certify.command",
        "add_parser",
        {"certify": "compare a kernel on every input of a finite domain"},
    ),
    Room("q8a8_golden.cli", "add_parser", {"vectors": "check or generate the golden vectors"}),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status; wrong usage is 2.

    Parameters
    ----------
    argv
        The words after ``q8a8``; those of the process by default.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser(next((word for word in words if not word.startswith("-")), None))
    try:
        options = parser.parse_args(words)
        status: int = options.func(options)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else USAGE
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        sys.stderr.close()
        return OK
    return status


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """Build the parser; only the module of the command that was asked for is imported."""
    parser = argparse.ArgumentParser(
        prog="q8a8",
        description="Q8_A8: judge kernels against the specification.",
        epilog=f"q8a8 test {EXIT_STATUS}",
    )
    parser.add_argument("--version", action="version", version=f"q8a8 {metadata.version('q8a8')}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for room in ROOMS:
        if command in room.commands:
            getattr(import_module(room.module), room.function)(subparsers)
        else:
            for name, text in room.commands.items():
                subparsers.add_parser(name, help=text)
    return parser


def add_parsers(subparsers: Subparsers) -> None:
    """Add ``test`` and ``rules``."""
    test = subparsers.add_parser(
        "test",
        help="judge a kernel",
        description="Judge a kernel: ref (the NumPy reference), lib:PATH.so (a C library), "
        "py:MODULE:OBJECT, or exec:COMMAND (anything that speaks the worker protocol).",
        epilog=EXIT_STATUS,
    )
    add_sut(test)
    test.add_argument(
        "--profile",
        choices=("exact", "kernel", "ggml"),
        default="kernel",
        help="exact: every bit of the scalar semantics; kernel: dot products in any order, within the "
        "proven bound [default]; ggml: as kernel, with ggml's quantizer recipes accepted",
    )
    test.add_argument("--rules", metavar="GLOB", help="only these rules: 'QNT-*', 'DOT-1,DOT-4'")
    test.add_argument("--case", metavar="ID", help="only this case, or those that match a pattern")
    test.add_argument("--timeout", type=seconds, metavar="S", help="seconds that one call may take [10]")
    test.add_argument(
        "--known-failures",
        type=Path,
        metavar="FILE",
        help="lines 'RULE CASE-ID-GLOB [# comment]' that do not count; one that no longer fails does",
    )
    test.add_argument(
        "--write-known-failures",
        type=Path,
        metavar="FILE",
        help="write all failures of this run as such a file",
    )
    for kind, what in REPORTS.items():
        test.add_argument(f"--{kind}", type=Path, metavar="FILE", help=f"write {what}, too")
    test.set_defaults(func=test_command)

    rules = subparsers.add_parser("rules", help="list the rules")
    rules.add_argument("glob", nargs="?", default="*", metavar="GLOB", help="only these: 'QNT-*'")
    rules.set_defaults(func=rules_command)


def add_sut(parser: argparse.ArgumentParser) -> None:
    """Add what names a system under test: ``SUT``, ``--symbol`` and ``--init``."""
    parser.add_argument("sut", metavar="SUT", help="ref, lib:PATH, py:MODULE:OBJECT or exec:COMMAND")
    parser.add_argument(
        "--symbol",
        action="append",
        default=[],
        metavar="ABI_NAME=EXPORTED_NAME",
        help="a function's name in the library, where it is another; may be repeated",
    )
    parser.add_argument(
        "--init", metavar="SYMBOL", help="a void f(void) in the library, called once after loading"
    )


def seconds(text: str) -> float:
    """Read a positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def test_command(options: argparse.Namespace) -> int:
    """Judge a kernel, print the report, and give the verdict's exit status."""
    missing = [name for name in ("pytest", "hypothesis") if util.find_spec(name) is None]
    if missing:
        return _usage(f"q8a8 test needs {' and '.join(missing)}: pip install 'q8a8[suite]'")
    runner = import_module("q8a8_conformance.runner")
    status: int = runner.run(options)
    return status


def rules_command(options: argparse.Namespace) -> int:
    """List the rules that match a pattern."""
    record, rules = import_module("q8a8_conformance.record"), import_module("q8a8_conformance.rules")
    chosen = [rule for rule in rules.load_rules() if record.rule_matches(rule.id, options.glob.upper())]
    if not chosen:
        return _usage(f"no rule matches {options.glob!r}")
    _say(f"{rule.id:<12} {rule.level:<6} {rule.kind:<11} {rule.subject:<9} {rule.title}" for rule in chosen)
    return OK


def _say(lines: Iterable[str]) -> None:
    """Write lines to standard output."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _usage(message: str) -> int:
    """Say what is wrong with the command line."""
    sys.stderr.write(f"q8a8: {message}\n")
    return USAGE


if __name__ == "__main__":
    sys.exit(main())
