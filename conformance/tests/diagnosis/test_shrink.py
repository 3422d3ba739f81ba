"""The smallest input is the smallest: the shortest row on which a kernel that goes by lengths is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.diagnosis import shrink
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults.kernel import DOT, Kernel, Steps
from q8a8_conformance.inputs import long_rows

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 60.0


@pytest.mark.parametrize(
    ("failed", "smallest", "is_wrong"),
    [
        (1022, 513, lambda nb: nb >= 513),
        (254, 14, lambda nb: nb % 16 == 14),
        (1025, 513, lambda nb: nb > 512 and nb % 2 == 1),
        (2050, 1025, lambda nb: nb > 1024 and nb % 64 in {1, 2, 3}),
        (3000, 104, lambda nb: nb >= 100 and nb % 8 == 0),
        (77, 77, lambda nb: nb == 77),
    ],
)
def test_the_shortest_row(failed: int, smallest: int, is_wrong: Callable[[int], bool]) -> None:
    """A row in which a block is lost at some lengths is as short as one can be."""
    kernel = Kernel({DOT: Steps(visited=lambda nb: np.arange(nb - is_wrong(nb)))})
    call = shrink.smallest(long_rows.dots().call(failed), lambda call: replay(kernel, call), seconds=SECONDS)
    assert call.n == 32 * smallest
