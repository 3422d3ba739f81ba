"""Memory-mapped inputs: their pages are given back to the system, and no data is lost."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from gguf.quants import Q8_0

from q8a8 import _pages, as_blocks, dequantize_row, quantize_row


def resident(path: Path) -> int:
    """Return the resident KiB of this process's mappings of a file."""
    maps = Path("/proc/self/smaps").read_text()
    areas = re.findall(rf"{re.escape(str(path))}\n(?:Size.*\n)(?:.*\n)*?Rss: +(\d+) kB", maps)
    return sum(int(size) for size in areas)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write a float32 file of 4 MiB."""
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(1).standard_normal((256, 4096)).astype(np.float32))
    return path


def test_pages_are_given_back(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a walk through a read-only mapping at most a batch of it is resident; the result is right."""
    monkeypatch.setattr(_pages, "BATCH", 1 << 19)
    x = np.load(source, mmap_mode="r")
    assert x.sum() != 0
    assert resident(source) > 4000
    blocks = quantize_row(x, "ggml-ref")
    assert resident(source) < 1024
    assert blocks.tobytes() == Q8_0.quantize_rows(np.load(source)).tobytes()
    # A view of a view of the mapping, read again.
    assert quantize_row(x[3:][:200, 64:], "ggml-ref").tobytes() == blocks[3:203, 2:].tobytes()


def test_pages_of_blocks_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dequantizing a mapping gives its pages back too."""
    monkeypatch.setattr(_pages, "BATCH", 1 << 18)
    path = tmp_path / "q.bin"
    raw = np.tile(np.arange(34, dtype=np.uint8) % 60, 1 << 16)
    path.write_bytes(raw.tobytes())
    mapped = np.memmap(path, np.uint8, "r")
    y = dequantize_row(as_blocks(mapped))
    assert resident(path) < 1024
    assert np.array_equal(y, Q8_0.dequantize_rows(raw.reshape(-1, 34)).reshape(-1))


def test_changes_are_not_dropped(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy-on-write mapping may hold changes that are nowhere else: it is left alone."""
    monkeypatch.setattr(_pages, "BATCH", 1)
    x = np.load(source, mmap_mode="c")
    x[:] = 127.0
    blocks = quantize_row(x)
    assert (blocks["weight_qs"] == 127).all()
    assert (x == 127).all()


def test_arrays_in_memory_are_left_alone() -> None:
    """Without a mapping there is nothing to give back, however much is read."""
    pages = _pages.ReadPages(np.zeros(4)[1:])
    pages.count(1 << 30)
    assert _pages.ReadPages(np.frombuffer(b"1234", np.uint8))._memory is None
