"""The main job on real kernels, in one command: `make demo`.

Judges the NumPy reference, this project's C kernel, gguf-py and the prebuilt ggml of the ``pywhispercpp``
wheel, each with the very command line that a user would type, and prints what each run said and one table at
the end. A verdict of ours that is not *conforms*, or a peer that could not be judged, makes the demo fail. A
peer that does not conform is a finding, and the point of the suite.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q8a8_lab import native_build
from q8a8_lab.peers import ggml

if TYPE_CHECKING:
    from collections.abc import Sequence

GGUF_PY = "py:q8a8_conformance.adapters.gguf_py:kernel"


@dataclass(frozen=True)
class Step:
    """One kernel to judge: a title, the arguments of ``q8a8 test``, and whether it must conform."""

    title: str
    arguments: tuple[str, ...]
    must_conform: bool


@dataclass(frozen=True)
class Outcome:
    """What one run of ``q8a8 test`` said; `report` is the JSON report, empty where none was written."""

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
        # S603: our own harness
        probe = subprocess.run(  # noqa: S603
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
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
    """Run ``q8a8 test`` on one step and let it print; its reports go into `folder`."""
    stem = "".join(c if c.isalnum() else "-" for c in step.title)
    report = folder / f"{stem}.json"
    reports = ("--json", str(report), "--markdown", str(folder / f"{stem}.md"))
    print(f"\n=== {step.title}\n$ q8a8 test {shlex.join(step.arguments)}", flush=True)
    started = time.monotonic()
    command = [sys.executable, "-m", "q8a8_conformance.cli", "test", *step.arguments, *reports]
    status = subprocess.run(command, check=False).returncode  # noqa: S603 (our own command line)
    seconds = time.monotonic() - started
    found = json.loads(report.read_text()) if report.exists() else {}
    return Outcome(step, status, found, seconds)


def causes(outcome: Outcome) -> str:
    """Return the diagnosis of a run in one line: each cause once, in the report's order."""
    return ", ".join(dict.fromkeys(str(entry["cause"]) for entry in outcome.report.get("diagnosis", [])))


def main(argv: Sequence[str] | None = None) -> int:
    """Judge every step, print the table, and return 0 when each outcome is acceptable."""
    parser = argparse.ArgumentParser(prog="make demo", description="Judge real kernels with q8a8 test.")
    parser.add_argument(
        "--native-arm", action="store_true", help="judge our Arm kernels on this Arm machine instead"
    )
    parser.add_argument("--reports", type=Path, help="keep the JSON and Markdown reports in this folder")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.reports or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        steps = native_arm_steps() if options.native_arm else everyday_steps()
        outcomes = [judge(step, folder) for step in steps]
    width = max(len(outcome.step.title) for outcome in outcomes)
    print("\n=== verdicts")
    for outcome in outcomes:
        title, verdict, seconds = outcome.step.title, outcome.verdict, outcome.seconds
        print(f"{title:<{width}}  {verdict:<17} {seconds:5.1f} s  {causes(outcome)}")
    return 0 if outcomes and all(outcome.acceptable for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
