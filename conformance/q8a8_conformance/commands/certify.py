"""``q8a8 certify``: compare a kernel with the exact results on whole domains, and merge certificates."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.atomic import unwritable, write_text
from q8a8.install import VERSION
from q8a8_conformance.certify import catalogue, certificate, page, ranges, sweep
from q8a8_conformance.certify.runners import RunnerError, digest, identify, start_runner
from q8a8_conformance.certify.state import State, StateError
from q8a8_conformance.commands.options import UNWRITTEN, complain, usage_error
from q8a8_conformance.commands.output import text_stream
from q8a8_conformance.protocol.sut import Sut, SutError, parse_sut
from q8a8_conformance.smoke.starting import start

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from q8a8_conformance.certify.certificate import Entry
    from q8a8_conformance.certify.domains import Domain
    from q8a8_conformance.certify.runners import Runner
    from q8a8_conformance.commands.options import Subparsers
    from q8a8_conformance.protocol.messages import Hello

CRASHED, NOTHING_RAN = 3, 4

EXIT_STATUS = (
    "exit status: 0 every requested point was compared and is right, 1 a result is wrong, 2 usage, 3 the "
    "kernel crashed or hung, 4 nothing ran, or a requested domain is not offered, 5 the kernel "
    "was not reached, 6 a certificate could not be written; 130 and 143: interrupted"
)


def add_parser(subparsers: Subparsers) -> None:
    """Add ``certify`` to the command line."""
    parser = subparsers.add_parser(
        "certify",
        help="compare a kernel on every input of a finite domain",
        description="Compare a kernel with the exact results on every input of a finite domain, and record "
        "what was covered: q8a8 certify SUT. Or merge the certificates of shards: q8a8 certify merge "
        "A.json ...",
        epilog=EXIT_STATUS,
    )
    parser.add_argument("sut", nargs="?", metavar="SUT", help="as for q8a8 test; or the word merge")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="certificates, after merge")
    parser.add_argument(
        "--domain",
        action="append",
        metavar="NAME",
        help=f"only this one; may be repeated: {', '.join(catalogue.names())}, or codes:AMAX for any amax, "
        "eight hex digits; scale-ref and codes-ref:AMAX test quantize_row_q8_a8_ref [all that are offered]",
    )
    parser.add_argument(
        "--shard", type=_shard, default=(1, 1), metavar="I/N", help="only this part of each domain"
    )
    parser.add_argument(
        "--sample", type=_count, metavar="N", help="only about N points of each domain, evenly spread"
    )
    parser.add_argument(
        "--state", type=Path, metavar="FILE", help="keep the coverage in this file, and resume from it"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the certificate")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write it as Markdown, too")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write it as one HTML file, too")
    parser.add_argument(
        "--timeout", type=_count, default=300, metavar="S", help="seconds for one answer [300]"
    )
    parser.add_argument(
        "--symbol",
        action="append",
        default=[],
        metavar="ABI_NAME=EXPORTED_NAME",
        help="a function's name in the library, where it is another; may be repeated",
    )
    parser.add_argument(
        "--init", metavar="SYMBOL", help="a void f(void) in the library, called after loading"
    )
    parser.set_defaults(func=certify)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _shard(text: str) -> tuple[int, int]:
    number, slash, total = text.partition("/")
    if not slash or not 1 <= _count(number) <= _count(total):
        raise argparse.ArgumentTypeError(f"{text!r}: write I/N, 1 <= I <= N")
    return int(number), int(total)


def certify(options: argparse.Namespace) -> int:
    """Run the command and return its exit status; text makes way for a certificate on standard output."""
    with redirect_stdout(text_stream(getattr(options, kind) for kind in _WRITERS)):
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    if reason := _unwritable(options):
        return usage_error(reason)
    if options.sut == "merge":
        return _merge(options)
    if options.files:
        return usage_error(f"{options.files[0]}: one kernel at a time")
    try:
        sut = parse_sut(options.sut, options.symbol, options.init)
        domains = [catalogue.get_domain(name) for name in options.domain or catalogue.names()]
    except (SutError, KeyError) as error:
        return usage_error(error.args[0])
    try:
        with sweep.interruptible():
            return _certify(sut, domains, options)
    except sweep.InterruptedSweepError as interrupt:
        _print("interrupted before the sweep")
        return 128 + interrupt.number


def _unwritable(options: argparse.Namespace) -> str:
    """Return which file could not be written, and why, before the hours that a sweep may take; or nothing."""
    for kind in ("state", *_WRITERS):
        path: Path | None = getattr(options, kind)
        if path is not None and (reason := unwritable(path)):
            return f"--{kind} {path}: {reason}"
    return ""


def _certify(sut: Sut, domains: list[Domain], options: argparse.Namespace) -> int:
    """Start the kernel, sweep its domains and write the certificate."""
    runner = _start(sut, options.timeout)
    if isinstance(runner, int):
        return runner
    began = time.time()
    entries: list[Entry] = []
    interrupted: int | None = None
    try:
        files = identify(sut, runner.hello)
        if not files:
            return usage_error(f"{sut.spec}: no file to hash; put the kernel's file on the command line")
        kernel = digest(files)
        state = State(options.state, _identity(sut, kernel))
        if state.load():
            _print(f"resuming from {options.state}")
        plan = sweep.Plan(options.shard, options.sample)
        try:
            for domain in domains:
                entry = sweep.sweep(domain, runner, plan, state, sweep.Progress())
                if options.domain is None and entry.result == "not-offered":
                    _print(f"{domain.name:<15} not offered: {entry.message}")
                    continue
                entries.append(entry)
                _print(_line(entry))
        except sweep.InterruptedSweepError as interrupt:
            interrupted = interrupt.number
            state.save()
            entries += _unfinished(domains[len(entries) :], state, plan)
            _print("interrupted" + (f"; {options.state} holds what is covered" if options.state else ""))
        if identify(sut, runner.hello) != files:
            sys.stderr.write("q8a8: the kernel's file changed while it was certified: nothing is certified\n")
            return NOTHING_RAN
    except (StateError, RunnerError, OSError) as error:
        return usage_error(str(error))
    finally:
        runner.close()
    about = _about(sut, runner.hello, files, options, began)
    status = _finish(about, entries, options)
    return status if interrupted is None else 128 + interrupted


def _start(sut: Sut, timeout: float) -> Runner | int:
    """Start the kernel; return the exit status where it does not start."""
    try:
        with sut.session(timeout) as session:
            started = start(sut, session)
        if started.ending is not None:
            words = f"{started.stage.message}\n{started.stage.hint}".rstrip()
            return complain(words, started.ending.exit_status)
        return start_runner(sut, timeout)
    except SutError as error:
        return usage_error(str(error))
    except RunnerError as error:
        return complain(str(error), CRASHED)


def _unfinished(domains: Sequence[Domain], state: State, plan: sweep.Plan) -> list[Entry]:
    """Return entries of the domains that were partly covered when the run was interrupted."""
    entries = []
    for domain in domains:
        if state.covered.get(domain.name):
            entry = certificate.Entry(domain.name, domain.size, domain.rules)
            entry.covered, entry.seconds = state.covered[domain.name], state.seconds[domain.name]
            entry.asked = ranges.count(plan.pieces(domain))
            entries.append(entry)
    return entries


def _identity(sut: Sut, kernel: str) -> dict[str, str]:
    """Return the identity of a state file: kernel, command and versions."""
    identity = {
        "kernel": kernel,
        "command": " ".join([sut.spec, *sut.options])
        if sut.kind == "exec"
        else " ".join([sut.kind, *sut.options]),
        "version of the expected results": sweep.oracle_sha256(),
        "machine": platform.machine(),
    }
    return identity | ({"NumPy": np.__version__} if sut.kind in ("ref", "py") else {})


def _about(
    sut: Sut, hello: Hello, files: Mapping[str, str], options: argparse.Namespace, started: float
) -> dict[str, Any]:
    """Return a certificate's fields about kernel, machine and run."""
    return {
        "sut": sut.spec,
        "options": list(sut.options),
        "kernel": {
            "sha256": digest(dict(files)),
            "files": dict(files),
            "name": hello.name,
            "version": hello.version,
        },
        "compiler": hello.compiler,
        "flags": hello.flags,
        "emulated": hello.emulated,
        "cpu": {"arch": hello.arch, "features": list(hello.features), "model": _cpu_model()},
        "truth_sha256": sweep.oracle_sha256(),
        "suite": VERSION,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "shard": list(options.shard),
        "sample": options.sample,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 3),
    }


def _cpu_model() -> str | None:
    """Return the processor's name from Linux; None elsewhere. Under emulation it is the host's."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _merge(options: argparse.Namespace) -> int:
    """Merge certificates; return 0 only if every domain is fully covered."""
    if not options.files:
        return usage_error("merge: name the certificates of the shards")
    try:
        about, entries = certificate.merge([certificate.read(path) for path in options.files])
    except certificate.CertificateError as error:
        return usage_error(str(error))
    for entry in entries:
        _print(_line(entry))
    return _finish(about, entries, options)


def _finish(about: Mapping[str, Any], entries: Sequence[Entry], options: argparse.Namespace) -> int:
    """Print the verdict, write the certificate, and return the exit status."""
    document = certificate.document(about, entries)
    _print(f"{document['verdict']}: {page.VERDICTS[document['verdict']]}")
    for kind, render in _WRITERS.items():
        path: Path | None = getattr(options, kind)
        if path is not None:
            try:
                write_text(render(document), path)
            except OSError as error:
                return complain(f"{path}: {error}", UNWRITTEN)
    return certificate.status_of(entries)


def _as_json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


_WRITERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "json": _as_json,
    "markdown": page.markdown,
    "html": page.html_page,
}


def _line(entry: Entry) -> str:
    """Format the result of one domain."""
    covered = ranges.count(entry.covered)
    text = f"{entry.name:<15} {entry.result:<10} {covered:>13,} of {entry.points:,} points"
    if covered:
        text += f" in {entry.seconds:,.1f} s"
    if entry.mismatch:
        wrong = entry.mismatch
        text += f"\n  point {wrong.point}: {wrong.given}\n  expected {wrong.expected}\n  got      {wrong.got}"
    return text + (f"\n  {entry.message}" if entry.message else "")


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
