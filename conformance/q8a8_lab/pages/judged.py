"""The page with the verdict on each of our kernels, on each device, and what `q8a8 reveal` finds there.

``python -m q8a8_lab.pages.judged --run`` judges and reveals the kernels of `q8a8_lab.devices`, one after the
other: two to five minutes each. What is found is kept in the cache after each kernel, so that a run can be
stopped, and limited by ``--only``; ``--markdown`` writes the page of what is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q8a8.atomic import write_text
from q8a8_lab.devices import LEGS
from q8a8_lab.native_build import NativeError
from q8a8_lab.peers import store
from q8a8_lab.peers.results import today

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_lab.devices import Leg

COMMAND = "python -m q8a8_lab.pages.judged --markdown docs/judged.md"
TIMEOUT = "120"
"""Seconds that a call may take: emulators are slow."""

HEAD = f"""# Our kernels, judged

<!-- Made by {COMMAND}; not to be edited by hand. -->

Each kernel of this project on each processor, emulator and device: what `q8a8 test SUT --profile exact` says
of it, which wants the specification's bits of every result, and what `q8a8 reveal SUT` finds by experiments
that know nothing of the kernel. `python -m q8a8_lab.pages.judged --run` makes the runs; the last column has
their day. [One result on every device](one-result.md) has the same kernels with the hash of one large
product, and says what `qemu-riscv64` 7.2 does wrong where threads are stopped (Q8A8-ENV-4): the rows of
RISC-V here are of version 10.0.2.

"""

COLUMNS = (
    "kernel",
    "where it ran",
    "profile `exact`",
    "rules",
    "dot product; two rows; of 36-byte blocks",
    "product",
    "batch-invariant",
    "day",
)


@dataclass(frozen=True)
class Judged:
    """What was found of a kernel on a device.

    Attributes
    ----------
    kernel, where
        Of the leg.
    verdict
        Of the report.
    rules
        How many rules have each status.
    failed
        The rules that did not hold.
    orders
        The orders of its dot products: one row, two rows, blocks of 36 bytes; empty where there is none.
    product
        The names of the product's arithmetic.
    is_invariant
        Whether the product was found batch-invariant.
    day
        The day, as ISO 8601 has it.
    """

    kernel: str
    where: str
    verdict: str
    rules: dict[str, int]
    failed: list[str]
    orders: list[str]
    product: list[str]
    is_invariant: bool
    day: str

    def row(self) -> str:
        """Return the row of the table."""
        rules = ", ".join(f"{count} {status}" for status, count in sorted(self.rules.items()))
        if self.failed:
            rules += f" ({', '.join(name.removeprefix('Q8A8-') for name in self.failed)})"
        cells = (
            f"`{self.kernel}`" if self.kernel.islower() else self.kernel,
            self.where,
            f"**{self.verdict}**" if self.failed else self.verdict,
            rules,
            "; ".join(f"`{order}`" if order else "none" for order in self.orders),
            ", ".join(f"`{name}`" for name in self.product) or "none",
            "yes" if self.is_invariant else "**no**",
            self.day,
        )
        return f"| {' | '.join(cells)} |\n"


def results_file() -> Path:
    """Return where the results lie."""
    return store.cache_folder() / "judged.json"


def load() -> dict[str, Judged]:
    """Read the results that are kept, by kernel and place."""
    path = results_file()
    entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return {_key(each["kernel"], each["where"]): Judged(**each) for each in entries}


def _key(kernel: str, where: str) -> str:
    return f"{kernel.strip('`')} {where}"


def _document(words: Sequence[str]) -> dict[str, Any]:
    """Run ``q8a8`` with ``--json`` and return what it writes.

    Raises
    ------
    RuntimeError
        It writes nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command = [sys.executable, "-m", "q8a8", *words, "--timeout", TIMEOUT, "--json", str(path)]
        environment = {**os.environ, "CI": "true", "PYTEST_ADDOPTS": ""}
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=environment, cwd=folder
        )
        if not path.is_file():
            raise RuntimeError(f"q8a8 {' '.join(words)}: {done.stderr[-1000:]}")
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def judge(leg: Leg, more: Sequence[str] = ()) -> Judged:
    """Judge and reveal a kernel on a device.

    Parameters
    ----------
    leg
        Where.
    more
        More options of ``q8a8 test``.

    Raises
    ------
    NativeError
        It cannot be built or run here.
    RuntimeError
        No report was written.
    """
    sut = leg.sut()
    revealed = _document(["reveal", sut])["functions"]
    report = _document(["test", sut, "--profile", "exact", "--jobs", "1", *more])
    dots = {(each["function"], each["nrc"]): each["name"] for each in revealed if "nrc" in each}
    product = next((each for each in revealed if each.get("kind") == "product"), None)
    dot = "ggml_vec_dot_q8_a8_q8_a8"
    return Judged(
        leg.kernel.strip("`"),
        leg.where,
        report["verdict"],
        dict(Counter(rule["status"] for rule in report["rules"])),
        [rule["id"] for rule in report["rules"] if rule["status"] in {"fail", "crashed"}],
        [dots.get(key) or "" for key in ((dot, 1), (dot, 2), (f"{dot}_real", 1))],
        product["names"] if product else [],
        bool(product and product["batch_invariant"]),
        today(),
    )


def render(found: dict[str, Judged]) -> str:
    """Return the page, of the legs that were judged."""
    rows = (found.get(_key(leg.kernel, leg.where)) for leg in LEGS)
    head = f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}\n"
    return HEAD + head + "".join(each.row() for each in rows if each)


def main(argv: Sequence[str] | None = None) -> int:
    """Make runs, and write the page; return 1 where a kernel does not conform, and 2 where it did not run."""
    parser = argparse.ArgumentParser(prog="python -m q8a8_lab.pages.judged", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--run", action="store_true", help="judge kernels, and keep what is found")
    parser.add_argument(
        "--only", action="append", metavar="TEXT", help="of kernels whose rows have this text"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page")
    options = parser.parse_args(argv)
    found, status = load(), 0
    for leg in LEGS if options.run else ():
        key = _key(leg.kernel, leg.where)
        if options.only and not any(text in key for text in options.only):
            continue
        try:
            found[key] = judge(leg)
        except (NativeError, RuntimeError) as error:
            sys.stderr.write(f"not run: {key}: {error}\n")
            status = max(status, 2)
            continue
        sys.stderr.write(f"{key}: {found[key].row()}")
        status = max(status, 1 if found[key].failed else 0)
        write_text(json.dumps([asdict(each) for each in found.values()], indent=1) + "\n", results_file())
    if options.markdown:
        write_text(render(found), options.markdown)
    return status


if __name__ == "__main__":
    sys.exit(main())
