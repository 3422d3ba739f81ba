"""`q8a8 quantize`, `dequantize` and `inspect` on models: options, refusals, factors, broken files."""

from __future__ import annotations

import json
import struct
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from q8a8.ggufio import open_model
from q8a8.methods.smoothing import FoldGroup, SmoothedGroup, Smoothing

from .conftest import RNG, TENSORS, run, write

if TYPE_CHECKING:
    from pathlib import Path


def types(path: Path) -> dict[str, str]:
    """Read the types of all tensors with gguf-py."""
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


def test_quantize(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model is quantized, and a line reports what was done; the suffix may be in capitals."""
    out = tmp_path / "out.GGUF"
    assert run("quantize", source, out, "--recipe", "ggml-ref") == 0
    shown = capsys.readouterr()
    assert shown.out == (
        f"{out}: 2 tensors quantized, 2 kept, {source.stat().st_size} bytes -> {out.stat().st_size} bytes\n"
        "bits a weight: 15.63 -> 9.076\n"
        "kept token_embd.weight, 9.8 % of the bytes: looked up, and the output layer too "
        "(--embedding or --output quantizes it)\n"
    )
    assert shown.err == ""
    tensor = next(t for t in gguf.GGUFReader(out).tensors if t.name == "blk.0.attn_q.weight")
    wanted = gguf.quants.quantize(TENSORS["blk.0.attn_q.weight"][0], gguf.GGMLQuantizationType.Q8_0)
    assert np.array_equal(tensor.data, wanted)


def test_tables_and_layers(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both options reach the embedding; what is kept in several layers has one line."""
    for option in ("--embedding", "--output"):
        assert run("quantize", source, tmp_path / "out.gguf", option) == 0
        assert set(types(tmp_path / "out.gguf").values()) == {"Q8_0", "F32"}
    router = (np.ones((2, 64), np.float32), "F32")
    routers = {f"blk.{i}.ffn_gate_inp.weight": router for i in range(2)}
    capsys.readouterr()
    assert run("quantize", write(tmp_path / "r.gguf", {**TENSORS, **routers}), tmp_path / "out.gguf") == 0
    assert (
        "\nkept blk.*.ffn_gate_inp.weight (2 tensors), 7.2 % of the bytes: a router\n"
        in capsys.readouterr().out
    )


def test_only_and_keep(source: Path, tmp_path: Path) -> None:
    """Both options may be repeated."""
    out = tmp_path / "out.gguf"
    assert run("quantize", source, out, "--only", "*attn*", "--only", "*ffn*", "--keep", "*_q*") == 0
    assert types(out)["blk.0.attn_q.weight"] == "F32"
    assert types(out)["blk.0.ffn_up.weight"] == "Q8_0"


def test_notes(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was kept for a reason is reported on standard error."""
    odd = write(tmp_path / "odd.gguf", {**TENSORS, "output.weight": (np.ones((2, 33), np.float32), "F32")})
    assert run("quantize", odd, tmp_path / "out.gguf") == 0
    note = "output.weight is kept: its rows of 33 elements are not a multiple of 32"
    assert capsys.readouterr().err == f"q8a8: {note}\n"
    assert run("quantize", odd, tmp_path / "out.gguf", "--only", "output.weight") == 2
    assert "'output.weight' cannot be quantized: its rows of 33" in capsys.readouterr().err
    assert source.exists()


@pytest.mark.parametrize(
    ("extra", "kind"), [([], "F32"), (["--type", "f16"], "F16"), (["--type", "f32"], "F32")]
)
def test_dequantize(source: Path, tmp_path: Path, extra: list[str], kind: str) -> None:
    """Blocks become floats of the type that is asked for, by default float32."""
    assert run("dequantize", source, tmp_path / "out.gguf", *extra) == 0
    assert types(tmp_path / "out.gguf") == {**types(source), "blk.0.ffn_up.weight": kind}


def fork(tmp_path: Path) -> Path:
    """Write a file of the design's fork: type 39 over Q8_0's bytes."""
    path = write(tmp_path / "fork.gguf", {"output.weight": (np.ones((3, 32), np.float32), "Q8_0")})
    data = bytearray(path.read_bytes())
    at = data.index(b"output.weight") + len("output.weight") + 4 + 16
    assert struct.unpack_from("<I", data, at) == (8,)
    struct.pack_into("<I", data, at, 39)
    path.write_bytes(data)
    return path


def test_the_flag_for_id_39(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command refuses a file of the design's fork with the reason, and takes it with the flag."""
    path = fork(tmp_path)
    for words in (["inspect"], ["quantize", "out.gguf"], ["dequantize", "out.gguf"]):
        targets = [tmp_path / word for word in words[1:]]
        assert run(words[0], path, *targets) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"q8a8: {path}: tensor 'output.weight': type 39 ")
        assert "MXFP4" in error
        assert "--allow-id-39" in error
        assert run(words[0], path, *targets, "--allow-id-39") == 0
        capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quantize", "in.gguf", "out.npy"], "out.npy: a model goes from one .gguf file to another"),
        (["quantize", "x.npy", "out.gguf"], "x.npy: a model goes from one .gguf file to another"),
        (["dequantize", "in.gguf", "out.f32"], "out.f32: a model goes from one .gguf file to another"),
        (["quantize", "in.gguf", "out.gguf", "--v2"], "in.gguf: --v2 is not for models"),
        (["quantize", "in.gguf", "out.gguf", "--shape", "2x32"], "in.gguf: --shape is not for models"),
        (["inspect", "in.gguf", "--field", "weight_scale"], "in.gguf: --field is not for models"),
        (["quantize", "x.npy", "q.npy", "--only", "*"], "x.npy: --only is not for arrays"),
        (["quantize", "x.npy", "q.npy", "--output"], "x.npy: --output is not for arrays"),
        (["quantize", "x.npy", "q.npy", "--smooth", "s.npz"], "x.npy: --smooth is not for arrays"),
        (["dequantize", "x.npy", "y.npy", "--type", "f16"], "x.npy: --type is not for arrays"),
        (["inspect", "x.npy", "--allow-id-39"], "x.npy: --allow-id-39 is not for arrays"),
        (["quantize", "in.gguf", "in.gguf"], "in.gguf: is the input: it stays as it is"),
        (["quantize", "none.gguf", "out.gguf"], "none.gguf: No such file or directory"),
        (["quantize", "in.gguf", "out.gguf", "--smooth", "none.npz"], "none.npz"),
        (
            ["quantize", "in.gguf", "out.gguf", "--only", "x"],
            "--only 'x' matches no linear weight of this file",
        ),
        (["inspect", "in.gguf", "--smooth", "s.npz"], "s.npz: factors are folded into the source of a"),
        (["inspect", "in.gguf", "--against", "none.gguf"], "none.gguf: No such file or directory"),
        (["inspect", "in.gguf", "--json", "none/i.json"], "none/i.json: No such file or directory"),
    ],
)
def test_what_is_refused(
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    """Options that have no effect, files of the wrong kind, and what cannot be read: a reason."""
    monkeypatch.chdir(source.parent)
    np.save("x.npy", np.ones((2, 32), np.float32))
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith("q8a8: ")
    assert message in error
    assert sorted(path.name for path in source.parent.iterdir()) == ["in.gguf", "x.npy"]


def test_smoothing(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Factors are folded in; inspected with them, the error is that of the quantization alone."""
    with open_model(source) as model:
        known = {"model_sha256": model.sha256(), "alpha": 0.5, "fold_down": False, "rounding": "nearest"}
    group = FoldGroup("attn", ("blk.0.attn_q.weight",), ("blk.0.attn_norm.weight",))
    s = np.exp2(RNG.uniform(-4, 4, 64)).astype(np.float32)
    Smoothing((SmoothedGroup(group, s, 0.5),), known).save(tmp_path / "s.npz")
    assert run("quantize", source, tmp_path / "q.gguf", "--smooth", tmp_path / "s.npz") == 0
    assert ": 2 tensors quantized, 1 folded, 1 kept, " in capsys.readouterr().out
    words = ["inspect", tmp_path / "q.gguf", "--against", source, "--json", tmp_path / "i.json"]
    capsys.readouterr()
    assert run(*words) == 0
    assert (
        capsys.readouterr().out.splitlines()[-1].startswith("warning         smoothed, and the source is not")
    )
    doubtful = json.loads((tmp_path / "i.json").read_text())
    assert run(*words, "--smooth", tmp_path / "s.npz") == 0
    document = json.loads((tmp_path / "i.json").read_text())
    assert document["warnings"] == []
    errors = [{entry["name"]: entry["error"] for entry in each["tensors"]} for each in (doubtful, document)]
    assert (
        errors[1]["blk.0.attn_norm.weight"]["largest"] == 0 < errors[0]["blk.0.attn_norm.weight"]["largest"]
    )
    x = TENSORS["blk.0.attn_q.weight"][0] * s
    tensor = next(t for t in gguf.GGUFReader(tmp_path / "q.gguf").tensors if t.name == "blk.0.attn_q.weight")
    error = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64) - x
    assert errors[1]["blk.0.attn_q.weight"]["largest"] == np.abs(error).max()
    assert errors[0]["blk.0.attn_q.weight"]["snr_db"] < 20 < errors[1]["blk.0.attn_q.weight"]["snr_db"]


def test_factors_of_another_file(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Factors are refused, by quantize and by inspect, for a file that they were not made for."""
    group = FoldGroup("attn", ("blk.0.attn_q.weight",), ("blk.0.attn_norm.weight",))
    known = {"model_sha256": "0" * 64, "alpha": 0.5, "fold_down": False, "rounding": "nearest"}
    Smoothing((SmoothedGroup(group, np.ones(64, np.float32), 0.5),), known).save(tmp_path / "s.npz")
    for words in (["quantize", source, tmp_path / "q.gguf"], ["inspect", source, "--against", source]):
        assert run(*words, "--smooth", tmp_path / "s.npz") == 2
        assert f"SHA-256 {'0' * 64}, and this one has " in capsys.readouterr().err


def special_fields(writer: gguf.GGUFWriter) -> None:
    """Add every field that the commands look at."""
    writer.add_file_type(38)
    writer.add_quantization_version(2)
    writer.add_uint32("q8_a8.version", 1)
    writer.add_string("q8_a8.source_sha256", "0" * 64)
    writer.add_custom_alignment(32)
    writer.add_array("a", [0.5, 1.5])
    writer.add_array("b", ["c", "d"])


@pytest.mark.parametrize(
    "key", ["general.file_type", "general.quantization_version", "q8_a8.source_sha256", "q8_a8.smoothing"]
)
def test_fields_of_another_type(tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A field that the commands look at, and that is an array, is not what they look for, and no accident."""
    path = write(tmp_path / "a.gguf", TENSORS, lambda writer: writer.add_array(key, [float("nan"), 2.0]))
    assert run("inspect", path, "--against", path, "--json", tmp_path / "i.json") == 0
    status = run("quantize", path, tmp_path / "out.gguf", "--only", "*attn*")
    assert status == (2 if key == "general.quantization_version" else 0)
    assert "Traceback" not in capsys.readouterr().err


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """Return a file that is right, and where its data starts."""
    path = write(tmp_path_factory.mktemp("whole") / "a.gguf", TENSORS, special_fields)
    return path.read_bytes(), gguf.GGUFReader(path).tensors[0].data_offset


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_commands_on_broken_files(tmp_path: Path, whole: tuple[bytes, int], data: st.DataObject) -> None:
    """Whatever a header says, the commands do their work, or give the reason that they do not."""
    broken, header = bytearray(whole[0]), whole[1]
    for _ in range(data.draw(st.integers(1, 3))):
        broken[data.draw(st.integers(24, header - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.gguf"
    path.write_bytes(broken)
    for words in (
        ["inspect", path, "--against", path, "--json", tmp_path / "i.json"],
        ["quantize", path, tmp_path / "out.gguf"],
        ["dequantize", path, tmp_path / "out.gguf"],
    ):
        assert run(*words) in (0, 2)


def test_the_progress_bar(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal a bar shows how far it is; without tqdm, or elsewhere, there is none."""
    assert run("quantize", source, tmp_path / "out.gguf") == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = import_module("tqdm").tqdm
    seen, update = [], bar.update

    def spy(self: Any, by: int) -> object:  # noqa: ANN401 (tqdm has no types)
        seen.append((self.n + by, self.total))
        return update(self, by)

    monkeypatch.setattr(bar, "update", spy)
    assert run("quantize", source, tmp_path / "out.gguf") == 0
    assert " weights [" in capsys.readouterr().err
    weights = 640 + 64 + 64 * 64 + 96 * 64
    assert (seen[0], seen[-1]) == ((0, weights), (weights, weights))
    assert seen == sorted(seen)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert run("dequantize", source, tmp_path / "out.gguf") == 0
    assert capsys.readouterr().err == ""
