"""Why a kernel's results are what they are: the recipe, order or known mistake behind their bits.

The checks keep every judged result (`observations`). Afterwards each known arithmetic is run over the same
inputs; what reproduces the results bit for bit is named, with how many it explains of how many. Candidates
are data: the reference's recipes and orders, and the wrong arithmetics in `causes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_conformance.diagnosis import dots, quantizers
from q8a8_conformance.diagnosis.dots import AskDot
from q8a8_conformance.diagnosis.observations import Observations
from q8a8_conformance.report.model import Finding

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["AskDot", "Finding", "Observations", "diagnose"]


def diagnose(
    observations: Observations, ask: AskDot, accepted: Collection[tuple[str, str]] = ()
) -> tuple[Finding, ...]:
    """Explain all results of a run.

    Parameters
    ----------
    observations
        What the checks kept.
    ask
        Makes one more dot product; used only where the results so far fit several orders.
    accepted
        Pairs of function and recipe that the profile accepts: named, but nothing to fix.

    Returns
    -------
    tuple of Finding
        At least one for each function with results, the quantizers first.
    """
    findings: list[Finding] = []
    for function, results in observations.quantizers.items():
        findings += quantizers.explain(function, results, accepted)
    for function in dict.fromkeys(name for name, _ in observations.dots):
        by_nrc = {nrc: held for (name, nrc), held in observations.dots.items() if name == function}
        findings += dots.explain(function, by_nrc, ask)
    return tuple(findings)
