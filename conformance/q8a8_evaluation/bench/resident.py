"""Measure the memory that quantizing a large memory-mapped array takes, in a process of its own.

``python -m q8a8_evaluation.bench.resident`` writes one JSON object to standard output. The array is a sparse
temporary file, mapped read-only, so it takes no disk space. What is resident is read from
``/proc/self/status`` (Linux) all the while, and the peak over the state before is reported: memory of the
process's own (the result and working buffers), pages of the mapped file (the input itself, of which
`quantize_row` gives back what it has read), and the two together.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.quantize import quantize_row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

__all__ = ["LIMIT", "main"]

LIMIT = 300 << 20
"""Extra resident memory that 1 GiB of float32 may take, in bytes; 272 MiB of it are the result."""

_STATUS = Path("/proc/self/status")
_INTERVAL = 0.002
_ROW = 4096


class Watch:
    """Follow the resident memory of this process from a thread, and keep the peak of each part."""

    def __init__(self, status: Path = _STATUS) -> None:
        self._status = status
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow)
        self.before = self._read()
        self.peak = dict(self.before)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def above(self, part: str) -> int:
        """Return the peak of `anon`, `file` or their sum `all` over the state before, in bytes."""
        return self.peak[part] - self.before[part]

    def _follow(self) -> None:
        while not self._done.wait(_INTERVAL):
            self._note()
        self._note()

    def _note(self) -> None:
        self.peak = {part: max(self.peak[part], now) for part, now in self._read().items()}

    def _read(self) -> dict[str, int]:
        fields = dict(line.split(":", 1) for line in self._status.read_text().splitlines() if ":" in line)
        kilobytes = {name: int(fields[name].split()[0]) for name in ("RssAnon", "RssFile", "RssShmem")}
        # A temporary folder in memory (tmpfs) makes its mapped pages shared memory.
        own, mapped = kilobytes["RssAnon"] << 10, (kilobytes["RssFile"] + kilobytes["RssShmem"]) << 10
        return {"anon": own, "file": mapped, "all": own + mapped}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the figures as JSON; null where the system does not tell."""
    parser = argparse.ArgumentParser(prog="python -m q8a8_evaluation.bench.resident", description=__doc__)
    parser.add_argument("--bytes", type=int, default=1 << 30)
    options = parser.parse_args(argv)
    json.dump(measure(options.bytes) if _STATUS.exists() else None, sys.stdout)
    return 0


def measure(size: int) -> dict[str, Any]:
    """Quantize a mapped file of zeros of so many bytes and return what was resident at the peak.

    Returns
    -------
    dict
        In bytes: `array_bytes`, the input; `extra_bytes`, the peak of all extra memory; `own_bytes`, of the
        process's own, which are `result_bytes` and `working_bytes`; `mapped_bytes`, pages of the input;
        `limit_bytes`.
    """
    # Load and run everything once: code and its tables are no part of what the array takes.
    quantize_row(np.ones((64, _ROW), np.float32))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "array.f32"
        with path.open("wb") as file:
            file.truncate(size)
        x = np.memmap(path, np.float32, "r").reshape(-1, _ROW)
        with Watch() as watch:
            blocks = quantize_row(x)
        del x
    return {
        "array_bytes": size,
        "extra_bytes": watch.above("all"),
        "own_bytes": watch.above("anon"),
        "result_bytes": blocks.nbytes,
        "working_bytes": watch.above("anon") - blocks.nbytes,
        "mapped_bytes": watch.above("file"),
        "limit_bytes": LIMIT,
    }


if __name__ == "__main__":
    sys.exit(main())
