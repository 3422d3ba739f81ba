"""Whether a kernel takes two rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.suite import requests, rows
from q8a8_conformance.suite.target import KernelDiedError, NotRunError, RefusedError, Target

if TYPE_CHECKING:
    from q8a8_conformance.suite.judge import Judge


def require_two_rows(judge: Judge) -> None:
    """Leave the case as not run where the kernel computes one row at a time."""
    judge.require(requests.DOT)
    if not takes_two_rows(judge):
        raise NotRunError("the kernel computes one row at a time (nrc = 2 writes s[0] alone, or is refused)")


def takes_two_rows(judge: Judge) -> bool:
    """Say whether the kernel takes two rows at a time; it is asked once a run."""
    if judge.target.two_rows is None:
        judge.target.two_rows = judge.target.offers(requests.DOT) and _takes_two_rows(judge.target)
    return judge.target.two_rows


def _takes_two_rows(target: Target) -> bool:
    """Ask for two rows once: a kernel that refuses, gives up, or writes ``s[0]`` at most does not take them.

    An ``assert(nrc == 1)`` is a legal way to give up where the traits say one row, and ends the process.
    """
    x, y = rows.exact_pair(2)
    call = requests.dot_pair(np.stack([x, y]), np.stack([y, x]), bs=4)
    try:
        result = target.call(call)
    except (KernelDiedError, RefusedError):
        return False
    return result.outputs[0][4:] != requests.poison(len(result.outputs[0]))[4:]
