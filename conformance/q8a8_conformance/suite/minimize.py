"""Hypothesis' search for the simplest example on which a check fails.

It is slow to import and to run, so it is used only where an example has failed already.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from hypothesis import HealthCheck, Phase, Verbosity, configuration, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.inputs.random_inputs import Source

    Draw = Callable[[st.SearchStrategy[Any]], Any]

Example = TypeVar("Example")
Item = TypeVar("Item")

COUNT = 60
"""Examples that are tried before the search gives up."""

SECONDS = 0.5
"""What a search may take from its first failing example on: a slow kernel's report must not wait for it."""


class FlakyError(Exception):
    """An example failed once and passed once."""


class _TimeIsUpError(BaseException):
    """Raised through Hypothesis, which catches exceptions of the class `Exception` alone."""


class _Chosen:
    """Numbers that Hypothesis chooses, and can choose more simply."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        return int(self._draw(st.integers(low, high)))

    def number(self, low: float, high: float, width: int) -> float:
        return float(self._draw(st.floats(low, high, width=width)))  # type: ignore[arg-type]  # 16 or 32

    def pick(self, items: Sequence[Item]) -> Item:
        return items[self.integer(0, len(items) - 1)]

    def raw(self, size: int) -> bytes:
        return bytes(self._draw(st.binary(min_size=size, max_size=size)))


@contextmanager
def _leaving_nothing() -> Iterator[None]:
    """Keep what Hypothesis stores out of the working directory, which is the user's."""
    with tempfile.TemporaryDirectory(prefix="q8a8-", ignore_cleanup_errors=True) as folder:
        configuration.set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            configuration.set_hypothesis_home_dir(None)


def search(make: Callable[[Source], Example], body: Callable[[Example], None]) -> None:
    """Try examples, and shrink the first one on which the body raises.

    Parameters
    ----------
    make
        Makes an example of numbers from a source.
    body
        Raises where an example fails; what it raises for the simplest one that was found within `SECONDS`
        comes out of here.

    Raises
    ------
    FlakyError
        The simplest example failed once and passed once.
    """

    @st.composite
    def strategy(draw: Draw) -> Example:
        return make(_Chosen(draw))

    chosen = settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=COUNT,
        phases=(Phase.generate, Phase.shrink),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )

    simplest: Exception | None = None
    deadline = 0.0

    def given_body(example: Example) -> None:
        nonlocal simplest, deadline
        if simplest is not None and time.monotonic() > deadline:
            raise _TimeIsUpError
        try:
            body(example)
        except Exception as error:
            if simplest is None:
                deadline = time.monotonic() + SECONDS
            simplest = error  # each one is simpler than the last: Hypothesis tries no other ones
            raise

    try:
        with _leaving_nothing():
            chosen(given(strategy())(given_body))()
    except _TimeIsUpError:
        if simplest is not None:
            raise simplest from None
    except Flaky as error:
        raise FlakyError from error
