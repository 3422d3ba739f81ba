"""A progress bar on a terminal, by tqdm where it is installed."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Progress", "progress_bar"]


class Progress(Protocol):
    """Shows how far work is."""

    def __call__(self, done: int, total: int | None = None, what: str = "") -> None:
        """Show how much is done, of which total if that was not known before, and what is worked on."""


@contextmanager
def progress_bar(unit: str, total: int | None = None, *, scale: bool = False) -> Iterator[Progress]:
    """Show a bar on standard error while the context lasts; where that is no terminal, show nothing.

    Parameters
    ----------
    unit
        What is counted.
    total
        How many there are; None where that is known later.
    scale
        Whether large numbers are shortened: 2.1M.
    """
    try:
        tqdm = import_module("tqdm").tqdm if sys.stderr.isatty() else None
    except ImportError:
        tqdm = None
    if tqdm is None:
        yield lambda done, total=None, what="": None  # noqa: ARG005 (the parameters' names are the protocol's)
        return
    with tqdm(total=total, unit=f" {unit}", unit_scale=scale, leave=False) as bar:

        def show(done: int, total: int | None = None, what: str = "") -> None:
            """Move the bar on."""
            bar.total = total or bar.total
            if what:
                bar.set_description_str(what, refresh=False)
            bar.update(done - bar.n)

        yield show
