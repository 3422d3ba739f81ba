"""A model goes through in bounded memory, whatever its size."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

ROWS, INNER = 2048, 32768
SIZE = 2 * ROWS * INNER
"""Bytes of the one large tensor: 128 MiB of float16."""

ROOM = 32 << 20
"""Bytes that the work may take on top of what Python has taken before: a quarter of the file."""

CHILD = """
import resource, sys
from pathlib import Path
import numpy as np
import gguf.quants
from q8a8.ggufio import open_model, quantize_model
from q8a8.methods.smoothing import FoldGroup, SmoothedGroup, Smoothing

def in_status(key):
    return int(Path("/proc/self/status").read_text().split(key + ":")[1].split()[0]) << 10

source, target, room, how = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
with open_model(source) as model:
    known = {"model_sha256": model.sha256(), "alpha": 0.5, "fold_down": False, "rounding": "nearest"}
    inner = model.tensors["blk.0.attn_q.weight"].shape[1]
group = FoldGroup("attn", ("blk.0.attn_q.weight",), ("blk.0.attn_norm.weight",))
factors = np.full(inner, 2, np.float32)
smooth = Smoothing((SmoothedGroup(group, factors, 0.5),), known) if how == "smoothed" else None
before = in_status("VmRSS")
limit = in_status("VmData") + room
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
if how == "whole":
    with open_model(source) as model:
        model.read("blk.0.attn_q.weight")
quantize_model(source, target, smooth=smooth)
print(in_status("VmHWM") - before)
"""


def write_large(path: Path) -> None:
    """Write a model with a large sparse tensor: a row of numbers here and there, holes between."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("blk.0.attn_norm.weight", np.ones(INNER, np.float32))
    kind = gguf.GGMLQuantizationType.F16
    writer.add_tensor_info("blk.0.attn_q.weight", (ROWS, INNER), np.dtype(np.float16), SIZE, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        start = -(-path.stat().st_size // 32) * 32
        file.seek(start)
        file.write(np.ones(INNER, np.float32).tobytes())
        file.truncate(start + 4 * INNER + SIZE)
        for row in (0, 1000, ROWS - 1):
            file.seek(start + 4 * INNER + 2 * INNER * row)
            file.write(np.full(INNER, row + 1, np.float16).tobytes())


def test_a_model_larger_than_the_memory(tmp_path: Path) -> None:
    """With less memory to its name than a quarter of the file, the command still does it, factors and all."""
    write_large(tmp_path / "in.gguf")
    assert (tmp_path / "in.gguf").stat().st_size > 4 * ROOM
    for how in ("plain", "smoothed"):
        child = run(tmp_path, how)
        assert child.returncode == 0, child.stderr
        # The file's pages count as resident while they are there: they are given back.
        assert int(child.stdout) < ROOM
        with (tmp_path / "out.gguf").open("rb") as file:
            file.seek(-34, 2)
            scale, *quants = struct.unpack("<e32b", file.read())
        assert set(quants) == {127}
        # f16 of 2048/127, or twice that, as struct rounds it.
        wanted = ROWS / 127 * (2 if how == "smoothed" else 1)
        assert scale == struct.unpack("<e", struct.pack("<e", wanted))[0]


def test_the_limit_is_one(tmp_path: Path) -> None:
    """Under the same limit, to hold the tensor as a whole fails."""
    write_large(tmp_path / "in.gguf")
    child = run(tmp_path, "whole")
    assert child.returncode != 0
    assert "Unable to allocate" in child.stderr


def run(folder: Path, how: str) -> subprocess.CompletedProcess[str]:
    """Run the child, with one thread: every further one would want a stack."""
    words = [folder / "in.gguf", folder / "out.gguf", ROOM, how]
    return subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
