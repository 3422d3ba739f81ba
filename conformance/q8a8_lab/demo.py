"""The main job on real kernels, in one command: `make demo`.

Judges the NumPy reference, this project's C kernel, gguf-py and the prebuilt ggml of the ``pywhispercpp``
wheel, each with the very command line that a user would type, and prints one screen: verdict, time and first
fact of each; the rules are in the reports. A verdict of ours that is not *conforms*, or a peer that could not
be judged, makes the demo fail. A peer that does not conform is a finding, and the point of the suite.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q8a8_lab import native_build
from q8a8_lab.peers import ggml

if TYPE_CHECKING:
    from collections.abc import Sequence

NEXT = """\
Why ggml does not conform, twice: its AVX2 dot product negates codes in int8, where -(-128) is -128 (DOT-1):
no profile accepts that. The quantizers of ggml and of gguf-py round in other ways, to the last bit those of
recipe:ggml-avx2 and recipe:ggml-ref: --profile ggml accepts them. Measured in docs/peers.md.

Next:
  source .venv/bin/activate                    # the command q8a8
  q8a8 new-kernel mine                         # a kernel to start from, which conforms
  cmake -S mine -B mine/build && cmake --build mine/build
  q8a8 smoke lib:mine/build/libmine.so         # is it set up correctly? a second
  q8a8 test lib:mine/build/libmine.so          # judge it: a quarter of a minute
  q8a8 explain QNT-3                           # a rule, its reason and what breaks it"""
"""What the screen ends with."""

WIDTH = 118
"""Characters of a line of the screen."""

GGUF_PY = "py:q8a8_conformance.adapters.gguf_py:kernel"


@dataclass(frozen=True)
class Step:
    """One kernel to judge: a title, the arguments of ``q8a8 test``, and whether it must conform."""

    title: str
    arguments: tuple[str, ...]
    must_conform: bool


@dataclass(frozen=True)
class Outcome:
    """The outcome of one run of ``q8a8 test``; `report` is the JSON report, empty where none was written."""

    step: Step
    status: int
    report: dict[str, Any]
    seconds: float

    @property
    def verdict(self) -> str:
        """The report's verdict, or the exit status where no report was written."""
        return str(self.report.get("verdict", f"exit {self.status}"))

    @property
    def acceptable(self) -> bool:
        """Ours must conform; a peer must have been judged (exit 0 or 1)."""
        return self.status == 0 if self.step.must_conform else self.status in {0, 1}


def everyday_steps() -> list[Step]:
    """Return what `make demo` judges: what is ours, and the peers as they are installed."""
    scalar = shown(native_build.build("native") / "lib" / "libq8a8-scalar.so")
    real_ggml = (
        f"lib:{shown(ggml.host_library())}",
        *(word for pair in ggml.SYMBOLS.items() for word in ("--symbol", "=".join(pair))),
        *("--init", ggml.INIT),
    )
    title = f"ggml {ggml.version()}"
    return [
        Step("the NumPy reference", ("ref", "--profile", "exact"), must_conform=True),
        Step("our C scalar kernel", (f"lib:{scalar}", "--profile", "exact"), must_conform=True),
        Step("gguf-py, ggml's recipes allowed", (GGUF_PY, "--profile", "ggml"), must_conform=False),
        Step(f"{title} as a Q8_A8 kernel", real_ggml, must_conform=False),
        Step(f"{title}, its recipes allowed", (*real_ggml, "--profile", "ggml"), must_conform=False),
    ]


def native_arm_steps() -> list[Step]:
    """Return one step for each of our kernels that this Arm machine's CPU can run; the others are named."""
    steps = []
    for kernel in native_build.KERNELS:
        program, *arguments = native_build.harness_argv(kernel)
        command = [shown(Path(program)), *arguments]
        probe = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if probe.returncode == native_build.UNSUPPORTED:
            print(f"not run: {probe.stderr.strip()}")
            continue
        sut = f"exec:{shlex.join(command)}"
        steps.append(Step(f"our {kernel} kernel", (sut, "--profile", "exact"), must_conform=True))
    return steps


def shown(path: Path) -> str:
    """Return `path` as a user would type it: relative to the working directory where it lies below that."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def judge(step: Step, folder: Path) -> Outcome:
    """Run ``q8a8 test`` on one step; its reports, the printed one too, go into `folder`."""
    stem = "-".join(re.findall(r"\w+", step.title))
    report = folder / f"{stem}.json"
    reports = ("--json", str(report), "--markdown", str(folder / f"{stem}.md"))
    started = time.monotonic()
    command = [sys.executable, "-m", "q8a8_conformance.cli", "test", *step.arguments, *reports]
    with (folder / f"{stem}.txt").open("w", encoding="utf-8") as printed:
        # The screen has the command as far as a line holds it.
        print(f"$ q8a8 test {shlex.join(step.arguments)}", file=printed, flush=True)
        status = subprocess.run(command, check=False, stdout=printed).returncode
    seconds = time.monotonic() - started
    found = json.loads(report.read_text()) if report.exists() else {}
    return Outcome(step, status, found, seconds)


def show(outcome: Outcome) -> str:
    """Return what the screen has on a kernel: verdict, time, command, and what is wrong with it."""
    step = outcome.step
    words = [f"{step.title}: {outcome.verdict} ({outcome.seconds:.0f} s)"]
    words.append(f"  $ {shorten(f'q8a8 test {shlex.join(step.arguments)}')}")
    facts = []
    if outcome.report and outcome.status == 0:
        facts.append(f"{sum(rule['status'] == 'pass' for rule in outcome.report['rules'])} rules pass")
    if entries := outcome.report.get("diagnosis", []):
        # What is wrong, before what is only named.
        first = min(entries, key=lambda entry: not entry["fix"])
        facts.append(": ".join(str(first[key]) for key in ("function", "cause", "fix") if first[key]))
    if facts:
        words.append("  " + shorten("; ".join(facts)))
    return "\n".join(words)


def shorten(text: str) -> str:
    """Return what fits on a line of the screen."""
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"


def main(argv: Sequence[str] | None = None) -> int:
    """Judge every step, print the table, and return 0 when each outcome is acceptable."""
    parser = argparse.ArgumentParser(prog="make demo", description="Judge real kernels with q8a8 test.")
    parser.add_argument(
        "--native-arm", action="store_true", help="judge our Arm kernels on this Arm machine instead"
    )
    parser.add_argument(
        "--reports", type=Path, default=Path("reports/demo"), help="the folder of the reports [reports/demo]"
    )
    options = parser.parse_args(argv)
    folder: Path = options.reports
    folder.mkdir(parents=True, exist_ok=True)
    steps = native_arm_steps() if options.native_arm else everyday_steps()
    outcomes = []
    for step in steps:
        outcomes.append(judge(step, folder))
        print(show(outcomes[-1]), flush=True)
    print(f"\nEvery rule's line, and whole commands: {folder}/*.txt; as JSON and Markdown, too.")
    if not options.native_arm:
        print(NEXT)
    return 0 if outcomes and all(outcome.acceptable for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
