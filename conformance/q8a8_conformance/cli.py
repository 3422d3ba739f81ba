"""The command ``q8a8``: judge a kernel, explain a rule, quantize files, time, and keep the golden vectors.

Each command's module is imported when the command is asked for: ``q8a8 quantize`` needs NumPy alone, ``q8a8
test`` needs the extra ``suite`` (pytest and Hypothesis).
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import TYPE_CHECKING, NoReturn

from q8a8_conformance.commands.options import EXIT_STATUS, INTERRUPTED, OK, USAGE, usage_error
from q8a8_conformance.spec.suggest import did_you_mean
from q8a8_conformance.suite.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Command:
    """One command, with its line in ``q8a8 --help``, which needs no import of its module.

    Attributes
    ----------
    module
        Its ``add_parser`` takes the subparsers and adds the command. The command sets ``func``, which takes
        the parsed options and returns the exit status.
    help
        One line.
    reports_interrupts
        Whether an interrupt has its place in the command's reports: ``options.interrupts`` then has the
        signals from the start, before the command's module is imported, and the command releases them.
    """

    module: str
    help: str
    reports_interrupts: bool = False


GROUPS: Mapping[str, Mapping[str, Command]] = {
    "kernels": {
        "test": Command("q8a8_conformance.commands.test", "judge a kernel", reports_interrupts=True),
        "smoke": Command(
            "q8a8_conformance.commands.smoke", "check in a second that a kernel is set up correctly"
        ),
        "reveal": Command(
            "q8a8_conformance.commands.reveal", "find out by experiments what a kernel computes"
        ),
        "fingerprint": Command(
            "q8a8_conformance.commands.fingerprint",
            "hash the outputs of one large fixed product: the same on every device",
        ),
        "certify": Command(
            "q8a8_conformance.commands.certify", "compare a kernel on every input of a finite domain"
        ),
        "compare": Command(
            "q8a8_evaluation.commands.compare", "set two reports, or measurements, side by side"
        ),
        "new-kernel": Command(
            "q8a8_conformance.commands.new_kernel", "make a folder with a kernel that conforms, to start from"
        ),
        "rules": Command("q8a8_conformance.commands.rules", "list the rules"),
        "explain": Command(
            "q8a8_conformance.commands.explain",
            "explain a rule: its text and reason, its checks, the mistakes that break it",
        ),
    },
    "files": {
        "quantize": Command("q8a8_conformance.commands.quantize", "quantize a file of floats, or a model"),
        "dequantize": Command(
            "q8a8_conformance.commands.dequantize", "turn a file of blocks, or a model, into floats"
        ),
        "inspect": Command(
            "q8a8_conformance.commands.inspect", "show what is in a file of blocks, or in a model"
        ),
    },
    "models": {
        "generate": Command(
            "q8a8_evaluation.commands.generate", "write text with a model, in float or quantized"
        ),
        "calibrate": Command("q8a8_evaluation.commands.calibrate", "measure a model's activations on a text"),
        "smooth": Command(
            "q8a8_evaluation.commands.smooth", "compute SmoothQuant's factors from a calibration"
        ),
        "export": Command(
            "q8a8_evaluation.commands.export", "write the weights of AWQ, GPTQ or int4 for llama.cpp"
        ),
        "perplexity": Command(
            "q8a8_evaluation.commands.perplexity",
            "measure the perplexity of quantization schemes on a text",
        ),
        "compare-model": Command(
            "q8a8_evaluation.commands.compare_model",
            "find the first product of a model that two backends do not compute alike",
        ),
        "bench-model": Command("q8a8_evaluation.commands.bench_model", "time a model in each scheme"),
    },
    "project": {
        "bench": Command("q8a8_evaluation.commands.bench", "time the reference against its peers"),
        "vectors": Command("q8a8_conformance.commands.vectors", "check or generate the golden vectors"),
        "completion": Command(
            "q8a8_conformance.commands.completion", "print the completion script for a shell"
        ),
    },
}
"""Every command by name, grouped by purpose, in the order of ``q8a8 --help``."""

COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; wrong usage is 2, and 130 an interrupt.

    Parameters
    ----------
    argv
        The words after ``q8a8``; those of the process by default.
    """
    open_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["help"]:
        words = [*(word for word in words[1:2] if word != "help"), "--help"]
    chosen = next((word for word in words if not word.startswith("-")), None)
    if chosen is not None and chosen not in COMMANDS:
        hint = did_you_mean(chosen, (*COMMANDS, "help"))
        return usage_error(f"there is no command {chosen!r}{hint or '; q8a8 --help lists them'}")
    try:
        # SIGTERM and SIGHUP as Ctrl-C, in every command: a kernel that hangs in a worker must not survive it.
        with Interrupts(last=argv is None) as interrupts:
            if chosen in COMMANDS and COMMANDS[chosen].reports_interrupts:
                interrupts.hold()
                return _run(words, chosen, argparse.Namespace(interrupts=interrupts))
            return _run(words, chosen, argparse.Namespace())
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else USAGE
    except KeyboardInterrupt:
        sys.stderr.write("q8a8: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has closed it.
        sys.stderr.close()
        return OK


def _run(words: Sequence[str], chosen: str | None, options: argparse.Namespace) -> int:
    parser = build_parser(chosen)
    given = vars(options).copy()
    options, unknown = parser.parse_known_args(words, options)
    if unknown:
        refuse_unknown(parser, chosen or "", unknown)
    if getattr(options, "sut", "") is None:
        use_project(parser.get_default("parsers")[chosen])
        options = parser.parse_args(words, argparse.Namespace(**given))
    status: int = options.func(options)
    return status


def use_project(command: argparse.ArgumentParser) -> None:
    """Take the project's kernel and options as defaults; end with the command's usage where there is none."""
    project = import_module("q8a8_conformance.commands.project_defaults")
    try:
        defaults = project.read_defaults()
    except project.ProjectDefaultsError as error:
        command.error(str(error))
    if "sut" not in defaults:
        command.error("the following arguments are required: SUT (or sut in [tool.q8a8] of pyproject.toml)")
    command.set_defaults(**defaults)


def refuse_unknown(parser: argparse.ArgumentParser, chosen: str, unknown: Sequence[str]) -> NoReturn:
    """End with the usage of the command that was typed, and the option that is most like the unknown one."""
    command: argparse.ArgumentParser = parser.get_default("parsers")[chosen]
    known = [flag for action in command._actions for flag in action.option_strings]  # noqa: SLF001 (no other)
    first = unknown[0].partition("=")[0]
    hint = did_you_mean(first, known) if first.startswith("-") else ""
    command.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")


def open_streams() -> None:
    """Open standard streams that were closed when the program started: no other file must get their number.

    Writing to standard output then fails as it would have, with an error; errors go nowhere.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def build_parser(chosen: str | None, *, whole: bool = False) -> argparse.ArgumentParser:
    """Build the parser; only the module of the chosen command is imported, or all where it shall be whole."""
    parser = argparse.ArgumentParser(
        prog="q8a8",
        usage="q8a8 [-h] [--version] COMMAND ...",
        description=_overview(),
        epilog=f"q8a8 help COMMAND shows a command's options.\nq8a8 test {EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"q8a8 {metadata.version('q8a8')}")
    # The description has the commands, by purpose; a completion script lists those of the parser alone.
    hidden = None if whole else argparse.SUPPRESS
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, help=hidden, prog="q8a8")
    parser.set_defaults(parsers=subparsers.choices, build_whole_parser=lambda: build_parser(None, whole=True))
    for name, command in COMMANDS.items():
        if whole or name == chosen:
            import_module(command.module).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=command.help)
    return parser


def _overview() -> str:
    """Return the commands, grouped by purpose."""
    width = max(map(len, COMMANDS))
    lines = ["Q8_A8: judge kernels against the specification."]
    for title, commands in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:<{width}}  {c.help}" for name, c in commands.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
