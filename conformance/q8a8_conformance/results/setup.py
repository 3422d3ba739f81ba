"""What the questions about a kernel's setup found: whether it can be reached, loaded and called at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from q8a8_conformance.results.record import Status


@dataclass(frozen=True)
class Stage:
    """One stage: its name, its status, what was found, and what to check first."""

    name: str
    status: Status
    message: str
    hint: str = ""
