"""How much memory this process holds, on systems with ``/proc``."""

from __future__ import annotations

from pathlib import Path

__all__ = ["STATUS", "memory_bytes", "resident_bytes"]

STATUS = Path("/proc/self/status")


def memory_bytes(status: Path = STATUS) -> dict[str, int]:
    """Return the amounts of memory that Linux reports of this process, by name (``VmRSS``), in bytes."""
    fields = [line.split() for line in status.read_text(encoding="utf-8", errors="replace").splitlines()]
    return {words[0].rstrip(":"): int(words[1]) << 10 for words in fields if words[2:] == ["kB"]}


def resident_bytes(status: Path = STATUS) -> int | None:
    """Return the resident memory of this process in bytes; None on a system without ``/proc``."""
    return memory_bytes(status)["VmRSS"] if status.exists() else None
