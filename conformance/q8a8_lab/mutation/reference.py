"""Mutation testing of the reference: does a test fail for every one-token change? A release check.

::

    python -m q8a8_lab.mutation.reference [--jobs N] [--write]

`mutmut` makes the mutants of the modules in `MODULES` and runs the reference's own tests on each, in a copy
of the checkout that has the packages where it looks for them. A mutant that survives must be listed in
``equivalent_mutants.toml`` with the reason why no test can tell it from the reference. Anything else fails
this check, and so does an entry whose mutant is killed or no longer made. ``--write`` prints the missing
entries, with an empty reason.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MODULES", "Survivor", "equivalents", "judge", "main", "read_survivor"]

MODULES = (
    "layout", "rounding", "recipe", "quantize", "_fast_quantize", "_pages", "order", "dot", "_fast_dot",
    "matmul", "_fast_matmul", "ops", "traits", "bound", "abi", "errors",
)  # fmt: skip
"""The core of `q8a8`, from `layout` to `abi`."""

ROOT = Path(__file__).resolve().parents[3]
WORK = ROOT / "build" / "reference-mutants"
TESTS = "conformance/tests/refimpl"
SLOW = ("test_matmul.py::test_working_memory_is_bounded",)
"""Tests of memory, which one-token changes of the arithmetic do not concern."""

CONFIGURATION = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = [{modules}]
also_copy = ["conformance", "golden", "docs", "README.md"]
pytest_add_cli_args = ["-q", "--no-cov", "-p", "no:cacheprovider"{deselected}]
pytest_add_cli_args_test_selection = ["{tests}"]
"""


@dataclass(frozen=True, order=True)
class Survivor:
    """A mutant that no test fails for.

    Attributes
    ----------
    function
        Where it is: ``module.function``.
    before, after
        The line, as it is and as the mutant has it, without the indentation.
    """

    function: str
    before: str
    after: str


def equivalents() -> dict[Survivor, str]:
    """Read the list of mutants that no test can tell from the reference, each with its reason.

    Raises
    ------
    ValueError
        An entry has no reason.
    """
    text = resources.files(__package__).joinpath("equivalent_mutants.toml").read_text(encoding="utf-8")
    found: dict[Survivor, str] = {}
    for group in tomllib.loads(text)["group"]:
        if not group["reason"].strip():
            raise ValueError(f"equivalent_mutants.toml: {group['mutants'][0]} has no reason")
        found |= {Survivor(*mutant): group["reason"] for mutant in group["mutants"]}
    return found


def judge(survivors: Iterable[Survivor], known: Iterable[Survivor]) -> tuple[list[Survivor], list[Survivor]]:
    """Return the survivors that are not listed, and the listed mutants that do not survive."""
    alive, listed = set(survivors), set(known)
    return sorted(alive - listed), sorted(listed - alive)


def prepare(work: Path) -> None:
    """Copy what the tests need: the reference as ``src``, which mutmut leaves out of a module's name."""
    shutil.rmtree(work, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for source, target in (
        ("refimpl", "src"),
        ("conformance", "conformance"),
        ("golden", "golden"),
        ("docs", "docs"),
    ):
        shutil.copytree(ROOT / source, work / target, ignore=ignore)
    shutil.copy(ROOT / "README.md", work)
    settings = CONFIGURATION.format(
        modules=", ".join(f'"src/q8a8/{module}.py"' for module in MODULES),
        deselected="".join(f', "--deselect={TESTS}/{test}"' for test in SLOW),
        tests=TESTS,
    )
    (work / "pyproject.toml").write_text(
        (ROOT / "pyproject.toml").read_text(encoding="utf-8") + settings, encoding="utf-8"
    )


def _mutmut(work: Path, *words: str) -> str:
    folders = [str(work / "mutants" / name) for name in ("src", "conformance", "golden")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *words],
        cwd=work, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout


def survivors(work: Path, jobs: int) -> list[Survivor]:
    """Run mutmut, and return the mutants for which no test failed.

    Raises
    ------
    RuntimeError
        mutmut did not run all of them.
    """
    _mutmut(
        work, "run", "--max-children", str(jobs)
    )  # makes the mutants, and their folder, which is then imported
    text = _mutmut(work, "run", "--max-children", str(jobs))
    results = _mutmut(work, "results")
    if "not checked" in results or "mutations/second" not in text:
        raise RuntimeError(f"mutmut did not finish:\n{text[-2000:]}")
    return [
        read_survivor(name, _mutmut(work, "show", name)) for name in re.findall(r"(\S+): survived", results)
    ]


def read_survivor(name: str, difference: str) -> Survivor:
    """Read a mutant's lines out of its difference."""
    lines = dict.fromkeys("-+", "")
    for line in difference.splitlines():
        if line[:1] in lines and line[:3] not in {"---", "+++"}:
            lines[line[0]] += line[1:].strip()
    function = re.sub(r"\.(?:x_|xǁ)", ".", name.removeprefix("q8a8.").partition("__mutmut_")[0]).replace(
        "ǁ", "."
    )
    return Survivor(function, lines["-"], lines["+"])


def main(arguments: list[str] | None = None) -> int:
    """Run the check; return 1 where a mutant survives that is not listed, or a listed one does not."""
    parser = argparse.ArgumentParser(prog="python -m q8a8_lab.mutation.reference", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="tests that run at once [2]")
    parser.add_argument("--write", action="store_true", help="print the missing entries")
    options = parser.parse_args(arguments)
    prepare(WORK)
    found = survivors(WORK, options.jobs)
    known = equivalents()
    unlisted, stale = judge(found, known)
    if options.write and unlisted:
        sys.stdout.write('[[group]]\nreason = ""\nmutants = [\n')
        sys.stdout.writelines(f"  {json.dumps([s.function, s.before, s.after])},\n" for s in unlisted)
        sys.stdout.write("]\n")
    for text, mutants in (
        ("survives, and is not listed", unlisted),
        ("is listed, and does not survive", stale),
    ):
        sys.stderr.writelines(f"{s.function}: {text}:\n  - {s.before}\n  + {s.after}\n" for s in mutants)
    sys.stdout.write(f"{len(found)} mutants survive, {len(unlisted)} of them unlisted\n")
    return 1 if unlisted or stale else 0


if __name__ == "__main__":
    sys.exit(main())
