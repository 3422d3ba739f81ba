"""``q8a8 smoke``: check in a second that a kernel is set up correctly, before ``q8a8 test``.

A worker that does not start, a symbol bound to the wrong function, a library that needs to be initialized, an
argument at the wrong position: all of these look like a kernel that fails every rule. Smoke makes one call of
each function, so simple that every kernel is about right, and reports the likely cause of a result that is
far off. It does not test conformance.
"""

from __future__ import annotations

import json
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q8a8.atomic import unwritable, write_text
from q8a8_conformance.commands.options import EXIT_STATUS, UNWRITTEN, add_sut, seconds, usage_error
from q8a8_conformance.commands.output import text_stream, write_to
from q8a8_conformance.protocol.sut import SutError, parse_sut
from q8a8_conformance.results.record import Status, count
from q8a8_conformance.results.setup import Stage
from q8a8_conformance.results.verdict import Verdict
from q8a8_conformance.smoke import stages
from q8a8_conformance.smoke.library import missing_libraries
from q8a8_conformance.smoke.stages import Smoke

if TYPE_CHECKING:
    import argparse

    from q8a8_conformance.commands.options import Subparsers

__all__ = ["Smoke", "Stage", "add_parser", "command", "document", "render"]

FORMAT = 1
TIMEOUT = 5.0
WIDTH = 100
VECTOR = (
    *("ssse3", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "amx_int8"),
    *("asimd", "fphp", "asimdhp", "asimddp", "i8mm", "sve", "sve2", "svei8mm", "sme"),
)
"""The features of processors that int8 kernels use, as Linux names them."""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``smoke`` to the command line."""
    parser = subparsers.add_parser(
        "smoke",
        help="check in a second that a kernel is set up correctly",
        description="Start the kernel's worker, make one simple call of each function, and report the likely "
        "causes of errors in the setup: symbols, arguments, initialization.",
        epilog=f"{EXIT_STATUS} (conforms: each function offered is about right)",
    )
    add_sut(parser)
    parser.add_argument(
        "--timeout", type=seconds, default=TIMEOUT, metavar="S", help="seconds that one call may take [5]"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the stages as JSON, too; - is standard output"
    )
    parser.set_defaults(func=command)


def command(options: argparse.Namespace) -> int:
    """Run all stages, print them, and give the exit status."""
    if options.json is not None and (reason := unwritable(options.json)):
        return usage_error(f"--json {options.json}: {reason}")
    try:
        smoke = stages.run(parse_sut(options.sut, options.symbol, options.init), options.timeout)
    except SutError as error:
        return usage_error(str(error))
    status = smoke.verdict.exit_status
    if options.json is not None:
        try:
            write_text(json.dumps(document(smoke), indent=1, ensure_ascii=False) + "\n", options.json)
        except OSError as error:
            write_to(sys.stderr, f"q8a8: --json could not be written: {error}\n")
            status = UNWRITTEN
    if reason := write_to(text_stream([options.json]), render(smoke)):
        write_to(sys.stderr, f"q8a8: standard output could not be written: {reason}\n")
        status = UNWRITTEN
    return status


def document(smoke: Smoke) -> dict[str, Any]:
    """Return the result as JSON data, see ``report/schemas/smoke.json``."""
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
        **_library_document(smoke),
        "cpu_features": list(smoke.features),
        **({"devices": {name: list(held) for name, held in smoke.devices}} if smoke.devices else {}),
        "seconds": round(smoke.seconds, 3),
    }


def _library_document(smoke: Smoke) -> dict[str, Any]:
    library = smoke.library
    if library is None:
        return {}
    return {
        "library": {
            "machine": library.machine,
            "bits": library.bits,
            "exports": list(library.exports),
            "needed": list(library.needed),
            "missing": list(_missing(smoke)),
        }
    }


@cache
def _missing(smoke: Smoke) -> tuple[str, ...]:
    """Return the libraries that are not found, where the library could not be loaded."""
    return missing_libraries(smoke.library) if smoke.library and smoke.ending is not None else ()


def _about(smoke: Smoke) -> list[str]:
    """Return what is in the library, and the processor's vector instructions."""
    lines = []
    if library := smoke.library:
        lines.append(f"library: {library.describe()}")
        if missing := ", ".join(_missing(smoke)):
            lines.append(f"  → not found: {missing}; install it, or name its folder in LD_LIBRARY_PATH")
    if shown := [name for name in smoke.features if name in VECTOR]:
        lines.append(f"cpu: {', '.join(shown)}")
    for device, operations in smoke.devices:
        lines.append(f"device {device}: {', '.join(operations) or 'no operation that is judged'}")
    return [*lines, ""] if lines else []


def render(smoke: Smoke) -> str:
    """Return the stages as text, with their hints, and the conclusion."""
    width = max((len(stage.name) for stage in smoke.stages), default=0)
    lines = _about(smoke)
    shown: set[str] = set()
    for stage in smoke.stages:
        head = f"  {stage.status.value:<8} {stage.name:<{width}}  "
        lines.append((head + stage.message).rstrip())
        if stage.hint:
            hint = "→ as above" if stage.hint in shown else f"→ {stage.hint}"
            lines.append(textwrap.fill(hint, WIDTH, initial_indent=" " * 11, subsequent_indent=" " * 13))
            shown.add(stage.hint)
    return "\n".join([*lines, "", f"{_conclusion(smoke)} ({smoke.seconds:.1f} s)"]) + "\n"


def _conclusion(smoke: Smoke) -> str:
    """Return the conclusion of the stages."""
    wrong = [stage for stage in smoke.stages if stage.status is not Status.PASS]
    if not wrong:
        return f"the kernel is set up correctly; test it: {stages.suite_command(smoke)}"
    if smoke.verdict is Verdict.NOTHING_RAN:
        return "there is no kernel to test"
    if smoke.ending is Verdict.CRASHED:
        return "the kernel crashes while it is loaded"
    if not smoke.functions:
        return "the worker does not start: no kernel was reached"
    names = ", ".join(stage.name for stage in wrong)
    offered = len(smoke.functions)
    verb = "is" if offered == 1 else "are"
    share = f"{offered - len(wrong)} of {count(offered, 'function')} {verb} about right"
    return f"{share}; wrong: {names}. Correct the setup before testing the kernel"
