"""Judging many kernels at once, in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Literal
from zlib import crc32

from q8a8_conformance.cli import main
from q8a8_conformance.faults.catalogue import MUTANTS
from q8a8_lab.mutation import judging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_lab.mutation.judging import Judged, SuiteCase

Extent = Literal["caught", "values", "cases"]
"""How much of the suite is run, the property tests aside, which search: until the mutant's rule fails; the
cases about values, of which a kernel that only adds in another order gets half; or all cases."""

JOBS = min(2, os.cpu_count() or 1)
_ABOUT_MORE = ("Q8A8-MEM-", "Q8A8-ENV-", "Q8A8-QNT-11")
_WARNINGS = "/bias/"
_SEARCHES = "properties/"


def judge_one(slug: str, extent: Extent) -> Judged:
    """Judge one kernel; see `Extent`."""
    if extent == "caught":
        rule = MUTANTS[slug].rule

        def of_rule(case: SuiteCase) -> bool:
            return rule in case.rules and not case.name.startswith(_SEARCHES) and _WARNINGS not in case.name

        return judging.judge(slug, of_rule, rule)
    if extent == "values":
        return judging.judge(slug, lambda case: not _is_about_more(case) and _takes(slug, case))
    return judging.judge(
        slug, lambda case: _WARNINGS not in case.name and not case.name.startswith(_SEARCHES)
    )


def _is_about_more(case: SuiteCase) -> bool:
    """Return whether a case is about memory, environment or inputs outside the domain, or about a warning."""
    if _WARNINGS in case.name or case.name.startswith(_SEARCHES):
        return True
    return any(rule.startswith(_ABOUT_MORE) for rule in case.rules)


def _takes(slug: str, case: SuiteCase) -> bool:
    """Return whether a kernel is judged by a case: each of the orders by half of them, by a hash of both."""
    return not slug.startswith(judging.ORDERS) or crc32(f"{slug} {case.name}".encode()) % 2 == 0


def judged(slugs: Sequence[str], extent: Extent) -> Iterator[Judged]:
    """Judge kernels in `JOBS` processes; yield them in their order, as they are ready."""
    with processes(_quiet) as pool:
        yield from pool.map(partial(judge_one, extent=extent), slugs)


def judge_all(slugs: Sequence[str], extent: Extent) -> dict[str, frozenset[str]]:
    """Judge kernels, and return the full ids of the rules that each fails."""
    return {each.slug: frozenset(each.failed) for each in judged(slugs, extent)}


def processes(initializer: Callable[[], None] | None = None) -> ProcessPoolExecutor:
    """Return `JOBS` processes, for `judge_one` or `run_command`."""
    return ProcessPoolExecutor(JOBS, multiprocessing.get_context("spawn"), initializer=initializer)


def run_command(*words: str) -> tuple[int, str]:
    """Run ``q8a8`` with these words here; return its exit status, and what it and its children print.

    (A process for each of a hundred commands would import the same modules again, for most of its time.)
    """
    outputs = 1, 2
    with tempfile.TemporaryFile() as file:
        before = [os.dup(output) for output in outputs]
        try:
            for output in outputs:
                os.dup2(file.fileno(), output)
            status = main(words)
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            for kept, output in zip(before, outputs, strict=True):
                os.dup2(kept, output)
                os.close(kept)
        file.seek(0)
        return status, file.read().decode(errors="replace")


def _quiet() -> None:
    """Discard standard error: kernels that raise print a traceback for each call."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
