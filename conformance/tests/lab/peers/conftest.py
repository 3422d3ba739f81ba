"""A missing peer skips its tests on a developer's machine, and fails them where CI is set."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeAlias

import pytest

from q8a8_lab.peers import legs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_lab.peers.kernels import Kernel
    from q8a8_lab.peers.legs import Leg

    Opener: TypeAlias = Callable[[Leg], Kernel]


def _present(leg: Leg) -> Leg:
    reason = legs.missing(leg)
    if reason and os.environ.get("CI") and not legs.unsuitable(leg):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    return leg


def _name(leg: Leg) -> str:
    return leg.name


@pytest.fixture(scope="session", params=[leg for leg in legs.LEGS if leg.recipes], ids=_name)
def quantizer(request: pytest.FixtureRequest) -> Leg:
    """Each prebuilt peer whose quantizers are compared."""
    return _present(request.param)


@pytest.fixture(scope="session", params=[leg for leg in legs.LEGS if leg.order], ids=_name)
def multiplier(request: pytest.FixtureRequest) -> Leg:
    """Each prebuilt peer whose dot product is compared."""
    return _present(request.param)


@pytest.fixture(scope="session", params=[leg for leg in legs.LEGS if leg.judged], ids=_name)
def judged(request: pytest.FixtureRequest) -> Leg:
    """Each prebuilt peer that ``q8a8 test`` judges."""
    return _present(request.param)


@pytest.fixture(scope="session", params=[leg for leg in legs.LEGS if leg.judged and leg.order], ids=_name)
def judged_multiplier(request: pytest.FixtureRequest) -> Leg:
    """Each of those with a dot product."""
    return _present(request.param)


@pytest.fixture(scope="session")
def kernel_of() -> Iterator[Opener]:
    """Open a peer once, and close all of them in the end."""
    opened: dict[Leg, Kernel] = {}
    with ExitStack() as stack:

        def get(leg: Leg) -> Kernel:
            if leg not in opened:
                opened[leg] = stack.enter_context(legs.opened(leg))
            return opened[leg]

        yield get
