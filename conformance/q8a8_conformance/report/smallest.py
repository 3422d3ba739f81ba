"""The smallest input on which a kernel goes wrong, as the reports show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_conformance.report import difference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.results.run import Finding, Smallest


def heading(finding: Finding) -> str:
    """Return what its smallest input is: one that gives a wrong result, or one on which the kernel dies."""
    wrong = finding.fact or (finding.smallest and finding.smallest.call.actual)
    what = "goes wrong" if wrong else "kills it"
    return f"{finding.function}: the smallest input found that {what}"


def lines(smallest: Smallest) -> Iterator[str]:
    """Yield what a report shows of it: the input in words, the call, all inputs, both results."""
    yield f"      {smallest.text}"
    for line in difference.show(smallest.call):
        if line.label != "in":
            yield f"{line.label:<5} {line.text}"
        if line.label == "call":
            inputs = difference.whole(smallest.call, smallest.call.inputs)
            yield from (f"in    {text}" for text in inputs)
