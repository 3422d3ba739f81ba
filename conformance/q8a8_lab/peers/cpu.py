"""What this machine's CPU can do, for libraries that ask for more than its architecture promises."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["lacking"]


def lacking(flags: Iterable[str], cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Return which of these features this machine lacks, in Linux's words for x86-64 ("avx2")."""
    if platform.machine() != "x86_64" or not cpuinfo.is_file():
        return tuple(flags)
    lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    have = next((line.split() for line in lines if line.startswith("flags")), [])
    return tuple(flag for flag in flags if flag not in have)
