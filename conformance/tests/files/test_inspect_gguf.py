"""`q8a8 inspect` on models: the report, the JSON document, and the comparison with a source."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from q8a8.ggufio import open_model

from .conftest import TENSORS, run, write

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def test_inspect(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The report has the file, the metadata, a line a tensor, and totals by type."""
    assert run("inspect", source) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        f"file            {source}",
        f"bytes           {source.stat().st_size}",
        "format          GGUF version 3, little-endian, alignment 32",
        "metadata        2 fields",
    ]
    assert lines[4:6] == [
        "  general.architecture  string            llama",
        "  general.name          string            small",
    ]
    assert lines[6] == "tensors         4"
    assert lines[7] == "  token_embd.weight       F16      10 x 64          1280 bytes        16 bits"
    assert lines[10] == "  blk.0.ffn_up.weight     Q4_0     96 x 64          3456 bytes       4.5 bits"
    assert lines[11] == "types"
    per_weight = ["bits", "a", "weight"]
    assert lines[12].split() == [
        "F32",
        "2",
        "tensors",
        "4160",
        "weights",
        "16640",
        "bytes",
        "32",
        *per_weight,
    ]
    weights, stored = 640 + 64 + 64 * 64 + 96 * 64, 1280 + 256 + 64 * 64 * 4 + 3456
    assert lines[15].split()[:6] == ["all", "4", "tensors", str(weights), "weights", str(stored)]
    assert lines[16] == f"against float16 {2 * weights / stored:.3f} times smaller"


def test_errors_against_the_source(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of each tensor the largest error, RMS and SNR are those that NumPy finds in gguf-py's reading."""
    assert run("quantize", source, tmp_path / "q.gguf") == 0
    report = tmp_path / "i.json"
    assert run("inspect", tmp_path / "q.gguf", "--against", source, "--json", report) == 0
    out = capsys.readouterr().out
    document = json.loads(report.read_text(encoding="utf-8"))
    assert document["warnings"] == []
    assert document["against"] == str(source)
    before = {t.name: t for t in gguf.GGUFReader(source).tensors}
    after = {t.name: t for t in gguf.GGUFReader(tmp_path / "q.gguf").tensors}
    for entry in document["tensors"]:
        x, y = (
            gguf.quants.dequantize(t[entry["name"]].data, t[entry["name"]].tensor_type).astype(np.float64)
            for t in (before, after)
        )
        error, found = y - x, entry["error"]
        assert found["compared"] == x.size
        assert found["largest"] == np.abs(error).max()
        assert found["rms"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-12)
        line = next(line for line in out.splitlines() if line.startswith(f"  {entry['name']} "))
        if error.any():
            at = tuple(found["largest_at"])
            assert abs(error[at]) == found["largest"]
            snr = 10 * np.log10((x**2).sum() / (error**2).sum())
            assert found["snr_db"] == pytest.approx(snr, rel=1e-12)
            assert f"largest {found['largest']:<10.4g} RMS {found['rms']:<10.4g} SNR {snr:.2f} dB" in line
        else:
            assert found["snr_db"] is None
            assert line.endswith("no error")
    changed = {entry["name"] for entry in document["tensors"] if entry["error"]["largest"]}
    assert changed == {"blk.0.attn_q.weight", "blk.0.ffn_up.weight"}


def test_the_json_document(tmp_path: Path) -> None:
    """Facts for programs: metadata with types, arrays cut, numbers that JSON lacks as text."""

    def fields(writer: gguf.GGUFWriter) -> None:
        writer.add_float32("f", float("inf"))
        writer.add_float32("g", 0.1)
        writer.add_array("short", [1, 2])
        writer.add_array("long", list(range(1000)))
        writer.add_array("odd", [float("nan")])

    path = write(tmp_path / "a.gguf", TENSORS, fields)
    assert run("inspect", path, "--json", tmp_path / "i.json") == 0
    document = json.loads((tmp_path / "i.json").read_text(encoding="utf-8"))
    assert document["format"] == 1
    assert document["byte_order"] == "little-endian"
    assert (document["bytes"], document["gguf_version"], document["alignment"]) == (
        path.stat().st_size,
        3,
        32,
    )
    assert document["metadata"] == {
        "general.architecture": {"type": "string", "value": "llama"},
        "f": {"type": "float32", "value": "inf"},
        "g": {"type": "float32", "value": struct.unpack("<f", struct.pack("<f", 0.1))[0]},
        "short": {"type": "int32[2]", "length": 2, "value": [1, 2]},
        "long": {"type": "int32[1000]", "length": 1000, "first": list(range(60))},
        "odd": {"type": "float32[1]", "length": 1, "value": ["nan"]},
    }
    tensor = document["tensors"][3]
    assert tensor["offset"] == gguf.GGUFReader(path).tensors[3].data_offset
    del tensor["offset"]
    assert tensor == {
        "name": "blk.0.ffn_up.weight",
        "type": "Q4_0",
        "type_id": 2,
        "shape": [96, 64],
        "bytes": 3456,
        "bits_a_weight": 4.5,
    }
    assert document["types"]["Q4_0"] == {"tensors": 1, "elements": 6144, "bytes": 3456}


def test_what_a_file_says_reaches_no_terminal_raw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters in names, keys and values are written out, and long values cut."""

    def fields(writer: gguf.GGUFWriter) -> None:
        writer.add_string("a\x1b[2J", "b\x07")
        writer.add_string("long", "x" * 500)
        writer.add_array("texts", ["\x1b", "y" * 500])
        writer.add_float32("eps", 1e-5)

    path = write(tmp_path / "a.gguf", {"\x1b]0;t": (np.ones(4, np.float32), "F32")}, fields)
    assert run("inspect", path) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert r"'a\x1b[2J'" in out
    assert r"'b\x07'" in out
    assert r"'\x1b]0;t'" in out
    assert f"{'x' * 57}...\n" in out
    assert r"['\x1b'" not in out
    assert r"'\x1b', 'yyy" in out
    assert "eps                   float32           1e-05\n" in out


def test_an_empty_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file without tensors, and a tensor without elements, have nothing to divide by."""
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    assert run("inspect", tmp_path / "a.gguf") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.split() == ["all", "0", "tensors", "0", "weights", "0", "bytes"]
    write(tmp_path / "b.gguf", {"t": (np.zeros((0, 32), np.float32), "F32")})
    assert run("inspect", tmp_path / "b.gguf", "--against", tmp_path / "b.gguf") == 0
    assert "0 x 32             0 bytes         0 bits  no error" in capsys.readouterr().out


def test_tensors_that_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing, reshaped and unreadable tensors are named; values whose error is not finite are counted."""
    x = np.ones((2, 32), np.float32)
    odd = x.copy()
    odd[1, 3:5] = np.inf, np.nan
    raw: tuple[NDArray[Any], str] = (np.zeros((1, 40), np.uint8), "Q8_1")
    mine: dict[str, tuple[NDArray[Any], str]] = {
        "same": (odd, "F32"),
        "new": (x, "F32"),
        "shape": (x, "F32"),
        "raw": raw,
        "theirs": (x[:1], "F32"),
    }
    theirs: dict[str, tuple[NDArray[Any], str]] = {
        "same": (odd, "F32"),
        "gone": (x, "F32"),
        "shape": (x.T, "F32"),
        "raw": raw,
        "theirs": raw,
    }
    write(tmp_path / "a.gguf", mine)
    write(tmp_path / "b.gguf", theirs)
    assert (
        run("inspect", tmp_path / "a.gguf", "--against", tmp_path / "b.gguf", "--json", tmp_path / "i") == 0
    )
    lines = capsys.readouterr().out.splitlines()
    ends = {line.split()[0]: line.split(" bits  ")[-1] for line in lines if " bits  " in line}
    assert ends == {
        "same": "no error, 2 elements whose error is not finite",
        "new": "(not in the source)",
        "shape": "(shape [32, 2] in the source)",
        "raw": "(Q8_1 cannot be read as numbers)",
        "theirs": "(Q8_1 cannot be read as numbers)",
    }
    assert lines[-1] == f"warning         tensor gone of {tmp_path / 'b.gguf'} is not in this file"
    entries = {entry["name"]: entry for entry in json.loads((tmp_path / "i").read_text())["tensors"]}
    assert entries["new"]["remark"] == "not in the source"
    assert entries["same"]["error"]["compared"] == 62


def test_a_comparison_with_the_wrong_source(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file knows what it was made from; another source gets a warning."""
    other = write(tmp_path / "other.gguf", TENSORS)
    assert run("quantize", source, tmp_path / "q.gguf") == 0
    capsys.readouterr()
    assert run("inspect", tmp_path / "q.gguf", "--against", other) == 0
    with open_model(source) as model:
        wanted = f"warning         made from another file than {other}: SHA-256 {model.sha256()} "
    assert capsys.readouterr().out.splitlines()[-1].startswith(wanted)
