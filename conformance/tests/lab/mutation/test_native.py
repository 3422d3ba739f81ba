"""The wrong kernels in C: the checks of the rule that each breaks fail, and the rest of the suite still runs.

Most are judged by the checks of their own rule until one fails, one of each family by the checks of all rules
about memory and environment.
Two runs go at a time, each in a process that makes many, ahead of the tests that read their reports.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from q8a8_conformance.spec.rules import load_rules
from q8a8_lab import native_build
from q8a8_lab.mutation.native import MUTANTS, argv, read_table
from q8a8_lab.mutation.pool import processes, run_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

MACHINE = platform.machine()
LOCAL = [slug for slug, mutant in MUTANTS.items() if mutant.runs_on(MACHINE)]
ARM = [slug for slug, mutant in MUTANTS.items() if mutant.processor == "aarch64"]
EMULATED = [
    *ARM,
    *("over-read-byte", "restores-input", "aligned-by-or", "leaves-rounding", "remembers-rows", "crash-tail"),
    *("clobbers-register", "blocks-signals", "leaks-memory", "stack-by-length", "matrix-shared"),
]
"""Mutants that run under QEMU: those for Arm, and one of each kind of fault that the harness reports."""

WHOLE = (
    *("over-read-vector", "over-write-block", "restores-input", "aligned-assert", "leaves-rounding-early"),
    *("remembers-rows", "shared-row", "crash-tail"),
)
"""One of each family, judged by every rule about memory and environment."""
GIVEN_UP = (" died ", "returned no result", "a process takes too long to start")
"""What is said of rules that are not judged."""
FOLLOWS = {"restores-input": {"ENV-3"}, "remembers-rows": {"ENV-3"}, "aligned-assert": {"ENV-4"}}
"""Other rules of memory and environment that a mutant may break: threads share inputs and memory, and the
buffers of calls that overlap lie at odd addresses."""


@dataclass(frozen=True)
class Judged:
    """Exit status, report and output of `q8a8 test` for a mutant."""

    status: int
    report: dict[str, Any]
    output: str

    def rules(self, *statuses: str) -> set[str]:
        """Return the short ids of the rules with one of these statuses."""
        return {
            rule["id"].removeprefix("Q8A8-") for rule in self.report["rules"] if rule["status"] in statuses
        }


Run = tuple[str, str | None, bool]
"""Slug, CPU of QEMU or None, and whether by all rules about memory and environment."""


def words(run: Run, report: Path) -> list[str]:
    """Return the words of ``q8a8 test`` on a mutant."""
    slug, cpu, whole = run
    timeout = 1 if slug.startswith("hang") else 10
    command = ["test", f"exec:{' '.join(argv(slug, cpu))}", "--json", str(report), "--timeout", str(timeout)]
    return command + (["--rules", "MEM-*,ENV-*"] if whole else ["--rules", MUTANTS[slug].rule, "-x"])


def runs_of(items: list[pytest.Item]) -> list[Run]:
    """Return the runs whose reports the selected tests read."""
    found = []
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and "run" in callspec.params and item.path.name == "test_native.py":
            found.append(callspec.params["run"])
    return found


@pytest.fixture(scope="module")
def judged(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Run], Judged]]:
    """Return a function that waits for a run; two of the selected runs go at a time."""
    folder = tmp_path_factory.mktemp("mutants")
    runs = runs_of(request.session.items)
    missing = {}
    for cpu in {cpu for _, cpu, _ in runs}:
        try:
            argv("over-read-byte", cpu)  # builds
        except native_build.MissingToolError as error:
            missing[cpu] = str(error)
    with processes() as pool:
        futures: dict[Run, Future[tuple[int, str]]] = {
            run: pool.submit(run_command, *words(run, folder / name(run)))
            for run in runs
            if run[1] not in missing
        }

        def wait(run: Run) -> Judged:
            if run not in futures:
                if os.environ.get("CI"):
                    pytest.fail(missing[run[1]])
                pytest.skip(missing[run[1]])
            status, output = futures[run].result()
            return Judged(status, json.loads((folder / name(run)).read_text("utf-8")), output)

        yield wait
        for future in futures.values():
            future.cancel()


def name(run: Run) -> str:
    """Return a run's id."""
    slug, cpu, whole = run
    return "-".join([slug, cpu or "here", *(["whole"] if whole else [])])


ONE_RULE: list[Run] = [(slug, None, False) for slug in LOCAL] + [
    (slug, "max", False) for slug in EMULATED if MACHINE != "aarch64"
]
ALL_RULES: list[Run] = [(slug, None, True) for slug in WHOLE]


@pytest.mark.parametrize("run", ONE_RULE, ids=name)
def test_caught_by_its_rule(run: Run, judged: Callable[[Run], Judged]) -> None:
    """The checks of the rule that the mutant breaks fail."""
    result = judged(run)
    assert result.status in (1, 3), result.output
    assert MUTANTS[run[0]].rule.removeprefix("Q8A8-") in result.rules("fail", "crashed"), result.output


@pytest.mark.parametrize("run", ALL_RULES, ids=name)
def test_fails_no_other_rule(run: Run, judged: Callable[[Run], Judged]) -> None:
    """Of the rules about memory and environment only the broken one fails.

    The others are judged, unless calls of a function are given up because it has died too often, or, on a
    busy machine, no more processes are started.
    """
    result = judged(run)
    rule = MUTANTS[run[0]].rule.removeprefix("Q8A8-")
    broken = result.rules("fail", "crashed")
    assert broken - FOLLOWS.get(run[0], set()) == {rule}, result.output
    rules = (each for each in result.report["rules"] if each["id"].startswith(("Q8A8-MEM", "Q8A8-ENV")))
    reasons = {each["id"]: each["reason"] for each in rules if each["status"] == "not-run"}
    assert "nothing was loaded" in reasons.pop("Q8A8-ENV-9"), result.output
    given_up = [why for why in reasons.values() if any(words in why for words in GIVEN_UP)]
    assert len(given_up) == len(reasons), (reasons, result.output)


@pytest.mark.parametrize("cpu", [None, "max"])
def test_the_program_lists_the_table(cpu: str | None) -> None:
    """The program lists the slugs that are read from its table, and the processor that each needs."""
    try:
        command = [*argv("", cpu)[:-1], "--list"]
    except native_build.MissingToolError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    listed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert listed.keys() == MUTANTS.keys()
    machine = MACHINE if cpu is None else "aarch64"
    for slug, mutant in MUTANTS.items():
        if not mutant.runs_on(machine):
            assert listed[slug] == f"needs the CPU architecture {mutant.processor}"
        elif cpu is not None:
            assert listed[slug] == "runs here"


def test_entries_of_the_table() -> None:
    """Every mutant has a sentence, a fix and a rule for kernels; its slug begins with its architecture."""
    prefixes = {"x86_64": "x86-", "aarch64": "arm-"}
    known = {rule.id for rule in load_rules() if rule.subject == "kernel"}
    for slug, mutant in MUTANTS.items():
        assert mutant.sentence.endswith(".")
        assert mutant.fix.endswith(".")
        assert mutant.rule in known
        assert slug.startswith(prefixes.get(mutant.processor, slug))


def test_an_entry_that_cannot_be_read() -> None:
    """An entry that Python cannot read is an error, not a mutant that is missing."""
    entry = 'ANY(id, "slug", "Q8A8-DOT-1",\n    "It is wrong.",\n    "Mend it.", "")\n'
    assert list(read_table(entry)) == ["slug"]
    with pytest.raises(ValueError, match="1 of 2 entries"):
        read_table(entry + 'X86(id, "slug", "Q8A8-DOT-1", "It is wrong.", NULL, "")\n')
