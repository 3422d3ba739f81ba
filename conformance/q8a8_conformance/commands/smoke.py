"""``q8a8 smoke``: is it the way to the kernel that is broken, or the kernel? Told in a second.

A worker that does not start, a symbol bound to the wrong function, a library that wants to be initialized, an
argument in the wrong place: all of them look like a kernel that fails every rule. Smoke makes one call a
function, so simple that every kernel gets it about right, and says in plain words what is wrong with the way
there. It is no judgement of a kernel: that is ``q8a8 test``.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q8a8_conformance.commands.options import EXIT_STATUS, add_sut, seconds
from q8a8_conformance.files.atomic import write_text
from q8a8_conformance.protocol.sut import SutError, parse_sut
from q8a8_conformance.results.record import Status
from q8a8_conformance.results.verdict import Verdict
from q8a8_conformance.smoke import stages
from q8a8_conformance.smoke.stages import Smoke, Stage

if TYPE_CHECKING:
    import argparse

    from q8a8_conformance.commands.options import Subparsers

__all__ = ["Smoke", "Stage", "add_parser", "command", "document", "render"]

FORMAT = 1
USAGE = 2
TIMEOUT = 5.0
WIDTH = 100


def add_parser(subparsers: Subparsers) -> None:
    """Add ``smoke`` to the command line."""
    parser = subparsers.add_parser(
        "smoke",
        help="tell a broken way to a kernel from a broken kernel, in a second",
        description="Start the kernel's worker, make one simple call of each function, and say in plain "
        "words what is wrong with the way to the kernel, if anything is.",
        epilog=f"{EXIT_STATUS} (conforms: each function that is offered answers about right)",
    )
    add_sut(parser)
    parser.add_argument(
        "--timeout", type=seconds, default=TIMEOUT, metavar="S", help="seconds that one call may take [5]"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the stages as JSON, too")
    parser.set_defaults(func=command)


def command(options: argparse.Namespace) -> int:
    """Run all stages, print them, and give the exit status."""
    if options.json is not None and not os.access(options.json.parent, os.W_OK):
        sys.stderr.write(f"q8a8: --json {options.json}: the folder does not exist or cannot be written to\n")
        return USAGE
    try:
        smoke = stages.run(parse_sut(options.sut, options.symbol, options.init), options.timeout)
    except SutError as error:
        sys.stderr.write(f"q8a8: {error}\n")
        return USAGE
    if options.json is not None:
        write_text(json.dumps(document(smoke), indent=1, ensure_ascii=False) + "\n", options.json)
    sys.stdout.write(render(smoke))
    return smoke.verdict.exit_status


def document(smoke: Smoke) -> dict[str, Any]:
    """Give the result as JSON data, as ``report/schemas/smoke.json`` describes it."""
    return {
        "format": FORMAT,
        "verdict": smoke.verdict.value,
        "sut": smoke.sut.spec,
        "symbols": list(smoke.sut.symbols),
        "init": smoke.sut.init,
        "functions": list(smoke.functions),
        "stages": [
            {"stage": s.name, "status": s.status.value, "message": s.message, "hint": s.hint}
            for s in smoke.stages
        ],
        "seconds": round(smoke.seconds, 3),
    }


def render(smoke: Smoke) -> str:
    """Give the stages as text, a hint under each that needs one, and what follows from them."""
    width = max((len(stage.name) for stage in smoke.stages), default=0)
    lines = []
    for stage in smoke.stages:
        head = f"  {stage.status.value:<8} {stage.name:<{width}}  "
        lines.append((head + stage.message).rstrip())
        if stage.hint:
            lines.append(
                textwrap.fill(f"→ {stage.hint}", WIDTH, initial_indent=" " * 11, subsequent_indent=" " * 13)
            )
    return "\n".join([*lines, "", f"{_conclusion(smoke)} ({smoke.seconds:.1f} s)"]) + "\n"


def _conclusion(smoke: Smoke) -> str:
    """Say what the stages amount to."""
    strange = [stage for stage in smoke.stages if stage.status is not Status.PASS]
    if not strange:
        return f"the way to the kernel works; judge it: {stages.again(smoke)}"
    if smoke.verdict is Verdict.NOTHING_RAN:
        return "there is no kernel to judge"
    if not smoke.functions:
        return "the worker does not start: no kernel was reached"
    names = ", ".join(stage.name for stage in strange)
    offered = len(smoke.functions)
    share = f"{offered - len(strange)} of {offered} functions answer about right"
    return f"{share}; not so {names}. Mend the way to the kernel before judging it"
