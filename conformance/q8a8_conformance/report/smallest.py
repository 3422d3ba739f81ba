"""The smallest input on which a kernel goes wrong, as the reports show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from q8a8_conformance.report import difference
from q8a8_conformance.results.record import CallData

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from q8a8_conformance.results.run import Finding


def call_of(smallest: Mapping[str, Any]) -> CallData:
    """Build a failure's call from the call that a finding holds as JSON data (buffers in hex)."""
    inputs, expected, actual = (
        {name: bytes.fromhex(data) for name, data in smallest[side].items()}
        for side in ("inputs", "expected", "actual")
    )
    return CallData(smallest["function"], smallest["args"], inputs, expected, actual)


def heading(finding: Finding) -> str:
    """Describe the input: one that gives a wrong result, or one that kills the kernel."""
    wrong = finding.smallest is not None and finding.smallest["actual"]
    what = "the smallest input found that goes wrong" if wrong else "the smallest input found that kills it"
    return f"{finding.function}: {what}"


def lines(finding: Finding) -> Iterator[str]:
    """Yield what a report says of it: the input in words, the call, all inputs in hex, both results."""
    if finding.smallest is None:
        return
    call = call_of(finding.smallest)
    yield f"      {finding.smallest['text']}"
    for line in difference.show(call):
        if line.label != "in":
            yield f"{line.label:<5} {line.text}"
        if line.label == "call":
            yield from (f"in    {name}: {difference.whole(data)}" for name, data in call.inputs.items())
