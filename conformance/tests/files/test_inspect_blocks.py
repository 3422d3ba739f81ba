"""`q8a8 inspect` on files of blocks: counts, errors against a source, the JSON document."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8 import BLOCK_Q8_A8_V2, pack, quantize_row
from q8a8_conformance.files import inspect_blocks

from .conftest import RNG, run

if TYPE_CHECKING:
    from pathlib import Path


def test_inspect_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scales, zero blocks, -128 and non-finite scales are counted over all parts, and the error by hand."""
    h = np.array([1.0, -0.5, 0.0, np.nan, 2.0, 1.0, 1.0, 1.0, 4.0], np.float16)
    qs = np.ones((9, 32), np.int8)
    qs[2] = 0
    qs[5] = 0
    qs[8, 3:5] = -128
    np.save(tmp_path / "q.npy", pack(h, qs).reshape(3, 3))
    x = (h.astype(np.float64)[:, None] * qs).astype(np.float32).reshape(3, 96)
    x[2, 95] += 3
    x[0, 1] -= 0.5
    np.save(tmp_path / "x.npy", np.nan_to_num(x, nan=7))
    report = inspect_blocks.inspect_file(tmp_path / "q.npy", against=tmp_path / "x.npy")
    assert (report.type_name, report.shape, report.stored) == ("block_q8_a8", (3, 96), 306)
    assert (report.smallest_scale, report.largest_scale) == (-0.5, 4.0)
    assert (report.zero_scales, report.negative_scales, report.non_finite_scales) == (1, 1, 1)
    assert (report.zero_blocks, report.minus_128) == (2, 2)
    assert (report.largest_error, report.largest_error_at) == (3.0, (2, 95))
    assert report.compared == 256
    assert report.squared_error == 9.25
    assert report.rms == pytest.approx(math.sqrt(9.25 / 256))
    finite = np.nan_to_num(x, nan=0).astype(np.float64)
    assert report.snr == pytest.approx(10 * math.log10((finite**2).sum() / 9.25))
    assert run("inspect", tmp_path / "q.npy", "--against", tmp_path / "x.npy") == 0
    out = capsys.readouterr().out
    for line in (
        "type            block_q8_a8",
        "shape           3 x 96",
        "bytes           306",
        "bits a weight   8.5",
        "against float32 3.765 times smaller",
        "against float16 1.882 times smaller",
        "scales          -0.5 to 4 (weight_scale)",
        "zero blocks     2",
        "quants of -128  2",
        "  largest       3 at [2, 95]",
        "  left out      32 elements under a scale of NaN or inf",
    ):
        assert line in out.splitlines()


def test_inspect_without_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was dequantized compares to its blocks without an error, from a raw file too."""
    np.save(tmp_path / "x.npy", RNG.standard_normal((5, 3, 96)).astype(np.float32))
    assert run("quantize", tmp_path / "x.npy", tmp_path / "q.npy") == 0
    assert run("dequantize", tmp_path / "q.npy", tmp_path / "y.f32") == 0
    assert run("inspect", tmp_path / "q.npy", "--against", tmp_path / "y.f32") == 0
    out = capsys.readouterr().out.splitlines()
    assert "  largest       0" in out
    assert "  SNR           inf dB" in out


def test_inspect_of_noise_alone(tmp_path: Path) -> None:
    """A source of zeros has no signal: minus infinity dB."""
    np.save(tmp_path / "q.npy", quantize_row(np.ones((1, 32), np.float32)))
    np.save(tmp_path / "x.npy", np.zeros((1, 32), np.float32))
    report = inspect_blocks.inspect_file(tmp_path / "q.npy", against=tmp_path / "x.npy")
    assert report.snr == -math.inf
    assert report.largest_error == pytest.approx(1, abs=1e-3)


def test_inspect_of_broken_scales_alone(tmp_path: Path) -> None:
    """Where no scale is finite there is no range of scales and nothing to compare."""
    np.save(tmp_path / "q.npy", pack(np.full((2, 1), np.inf, np.float16), np.ones((2, 1, 32), np.int8)))
    np.save(tmp_path / "x.npy", np.ones((2, 32), np.float32))
    report = inspect_blocks.inspect_file(tmp_path / "q.npy", against=tmp_path / "x.npy")
    assert (report.non_finite_scales, report.compared, report.rms) == (2, 0, 0.0)
    assert not [line for line in report.lines() if line.startswith("scales ")]


def test_inspect_v2_field(tmp_path: Path) -> None:
    """Of version 2 blocks the scale that is asked for is looked at; by default the one in use."""
    blocks = np.zeros((1, 2), BLOCK_Q8_A8_V2)
    blocks["activation_scale"] = 3
    np.save(tmp_path / "q.npy", blocks)
    assert inspect_blocks.inspect_file(tmp_path / "q.npy").largest_scale == 3
    assert inspect_blocks.inspect_file(tmp_path / "q.npy", scale_field="weight_scale").largest_scale == 0


def test_inspect_of_blocks_as_json(tmp_path: Path) -> None:
    """What inspect finds in a file of blocks can be had as JSON, too."""
    x = RNG.standard_normal((3, 64)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    assert run("quantize", tmp_path / "x.npy", tmp_path / "q.npy") == 0
    words = ["inspect", tmp_path / "q.npy", "--json", tmp_path / "i.json"]
    assert run(*words, "--against", tmp_path / "x.npy") == 0
    document = json.loads((tmp_path / "i.json").read_text(encoding="utf-8"))
    assert (document["type"], document["shape"], document["bytes"]) == ("block_q8_a8", [3, 64], 204)
    assert document["scales"][0] > 0
    assert document["error"]["compared"] == 192
    assert 40 < document["error"]["snr_db"] < 60
    np.save(tmp_path / "x.npy", np.zeros((0, 32), np.float32))
    assert run("quantize", tmp_path / "x.npy", tmp_path / "q.npy") == 0
    assert run(*words) == 0
    document = json.loads((tmp_path / "i.json").read_text(encoding="utf-8"))
    assert document["scales"] is None
    assert "error" not in document
