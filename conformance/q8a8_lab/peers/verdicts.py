"""The verdict of ``q8a8 test`` on each prebuilt peer: the main job, run as a user would run it."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8_lab.peers import ggml, legs
from q8a8_lab.peers.results import Verdict, today

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_lab.peers.legs import Leg

__all__ = ["PROFILES", "arguments", "judge"]

PROFILES = ("kernel", "ggml")


def arguments(leg: Leg) -> list[str]:
    """Return the words after ``q8a8 test`` that name a leg's kernel.

    Raises
    ------
    PeerUnavailableError, NativeError
        It cannot be had here.
    """
    if leg.name == "gguf-py":
        return ["py:q8a8_conformance.adapters.gguf_py:kernel"]
    if leg.name.startswith("arm") and platform.machine() != "aarch64":
        return ["exec:" + shlex.join(legs.arm_argv(leg))]
    words = [f"lib:{ggml.host_library()}"]
    for name, exported in leg.symbols.items():
        words += ["--symbol", f"{name}={exported}"]
    return [*words, "--init", ggml.INIT]


def judge(leg: Leg, profile: str = "kernel", more: Sequence[str] = ()) -> Verdict:
    """Run ``q8a8 test`` on a leg's kernel.

    Parameters
    ----------
    leg
        One that is not missing.
    profile
        One of `PROFILES`.
    more
        Further options.

    Raises
    ------
    RuntimeError
        No report was written; with what was printed instead.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        words = ["test", *arguments(leg), "--profile", profile, "--json", str(report), "--jobs", "1", *more]
        command = [sys.executable, "-m", "q8a8_conformance.cli", *words]
        # With CI set the suite's random cases are the same on every run.
        environment = {**os.environ, "PYTEST_ADDOPTS": "", "CI": "true"}
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=environment, cwd=folder
        )
        if not report.is_file():
            raise RuntimeError(
                f"q8a8 {shlex.join(words)}: exit status {done.returncode}\n{done.stderr[-2000:]}"
            )
        found = json.loads(report.read_text(encoding="utf-8"))
    causes: dict[str, dict[str, tuple[int, int]]] = {}
    for entry in found["diagnosis"]:
        causes.setdefault(entry["function"], {})[entry["cause"]] = (entry["explained"], entry["of"])
    return Verdict(
        profile=profile,
        verdict=found["verdict"],
        status=done.returncode,
        rules=dict(Counter(rule["status"] for rule in found["rules"])),
        failed=tuple(rule["id"] for rule in found["rules"] if rule["status"] in {"fail", "crashed"}),
        causes=causes,
        day=today(),
    )
