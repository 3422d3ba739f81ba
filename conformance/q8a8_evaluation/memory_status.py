"""How much memory this process holds, where the system says so."""

from __future__ import annotations

from pathlib import Path

__all__ = ["resident_bytes"]


def resident_bytes(status: Path = Path("/proc/self/status")) -> int | None:
    """Give the resident memory of this process in bytes; None on a system without ``/proc``."""
    try:
        lines = status.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    sizes = dict(line.split(":", 1) for line in lines if ":" in line)
    number, unit = sizes["VmRSS"].split()
    return int(number) * {"kB": 1024}[unit]
