"""A missing peer skips its tests on a developer's machine, and fails them where CI is set."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.peers import legs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.peers.kernels import Kernel
    from q8a8_conformance.peers.legs import Leg


@pytest.fixture(scope="session", params=legs.LEGS, ids=lambda leg: leg.name)
def leg(request: pytest.FixtureRequest) -> Leg:
    """Each prebuilt peer that this machine's architecture can run."""
    chosen: Leg = request.param
    reason = legs.missing(chosen)
    if reason and os.environ.get("CI") and not legs.unsuitable(chosen):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    return chosen


@pytest.fixture(scope="session")
def kernel(leg: Leg) -> Iterator[Kernel]:
    """Open the peer."""
    with legs.opened(leg) as opened:
        yield opened
