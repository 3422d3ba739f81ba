"""Tensor type 39: MXFP4 upstream, Q8_A8 in the design's fork; told apart by the layout, and by the caller."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from q8a8 import as_bytes, dequantize_row, quantize_row
from q8a8.ggufio import GgufError, dequantize_model, open_model, quantize_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

RNG = np.random.default_rng(39)
X = RNG.standard_normal((6, 64)).astype(np.float32)
BLOCKS = as_bytes(quantize_row(X)).reshape(6, 68)
NAMES = ("token_embd.weight", "output.weight", "blk.0.attn_q.weight")


def fork_type(writer: gguf.GGUFWriter) -> None:
    """Add the file type of the design's fork."""
    writer.add_file_type(38)


def renumbered(path: Path, names: tuple[str, ...] = NAMES) -> Path:
    """Set the type of tensors to 39, as the design's fork did: their Q8_0 bytes and places stay."""
    data = bytearray(path.read_bytes())
    for name in names:
        at = data.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name)
        (axes,) = struct.unpack_from("<I", data, at)
        struct.pack_into("<I", data, at + 4 + 8 * axes, 39)
    path.write_bytes(data)
    return path


@pytest.fixture
def fork(write: Callable[..., Path]) -> Path:
    """Write a file of the design's fork."""
    tensors = dict.fromkeys(NAMES, (BLOCKS, "Q8_0")) | {"output_norm.weight": (X[0], "F32")}
    return renumbered(write("fork.gguf", tensors, fields=fork_type))


@pytest.fixture
def upstream(write: Callable[..., Path]) -> Path:
    """Write a file with real MXFP4 tensors."""
    return write("mxfp4.gguf", dict.fromkeys(NAMES, (X, "MXFP4")))


def test_a_file_of_the_fork_is_refused(fork: Path, tmp_path: Path) -> None:
    """Without the flag a file of the fork is not misread as MXFP4: what 39 is gets explained."""
    before = fork.read_bytes()
    for use in (
        open_model,
        lambda path: quantize_model(path, tmp_path / "out.gguf"),
        lambda path: dequantize_model(path, tmp_path / "out.gguf"),
    ):
        with pytest.raises(GgufError) as caught:
            use(fork)
        message = str(caught.value)
        assert message.startswith(
            f"{fork}: tensor 'token_embd.weight': type 39 is laid out with 34 bytes a block"
        )
        assert "39 is MXFP4 in every ggml since 2025, with 17." in message
        assert "--allow-id-39" in message
    assert fork.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["fork.gguf"]


def test_a_file_of_the_fork_is_read_with_the_flag(fork: Path) -> None:
    """With the flag its tensors are Q8_A8."""
    with open_model(fork, allow_id_39=True) as model:
        for name in NAMES:
            info = model.tensors[name]
            assert (info.type_name, info.type_id, info.shape, info.n_bytes) == ("Q8_A8", 39, (6, 64), 408)
            assert np.array_equal(model.read(name), dequantize_row(quantize_row(X)))


def test_a_file_of_the_fork_becomes_type_8(fork: Path, tmp_path: Path) -> None:
    """Quantized, it is a file that everybody reads: the same bytes as type 8, the embedding's too."""
    summary = quantize_model(fork, tmp_path / "out.gguf", allow_id_39=True)
    assert summary.notes == ()
    reader = gguf.GGUFReader(tmp_path / "out.gguf")
    for tensor in reader.tensors[:3]:
        assert tensor.tensor_type.name == "Q8_0"
        assert np.array_equal(tensor.data, BLOCKS)
    assert reader.fields["general.file_type"].contents() == 7
    dequantize_model(fork, tmp_path / "f.gguf", allow_id_39=True)
    floats = gguf.GGUFReader(tmp_path / "f.gguf").tensors[0]
    assert np.array_equal(floats.data, dequantize_row(quantize_row(X)))


def test_the_file_type_of_the_fork_goes(write: Callable[..., Path], tmp_path: Path) -> None:
    """Where little of a file is Q8_A8, its file type 38 is dropped: upstream it would be MXFP4_MOE."""
    tensors = {"a": (np.ones((64, 64), np.float32), "F32"), "output.weight": (BLOCKS, "Q8_0")}
    path = renumbered(write("fork.gguf", tensors, fields=fork_type), ("output.weight",))
    quantize_model(path, tmp_path / "out.gguf", allow_id_39=True)
    with open_model(tmp_path / "out.gguf") as model:
        assert model.tensors["output.weight"].type_id == 8
        assert "general.file_type" not in model.metadata


def test_real_mxfp4(upstream: Path, tmp_path: Path) -> None:
    """Real MXFP4 is a source as any other, and with the flag refused instead of misread."""
    with open_model(upstream) as model:
        assert model.tensors["output.weight"].type_name == "MXFP4"
        kind = gguf.GGMLQuantizationType.MXFP4
        floats: NDArray[np.float32] = gguf.quants.dequantize(gguf.quants.quantize(X, kind), kind)
        assert np.array_equal(model.read("output.weight"), floats)
    quantize_model(upstream, tmp_path / "out.gguf")
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    assert types == dict(zip(NAMES, ("MXFP4", "Q8_0", "Q8_0"), strict=True))
    with pytest.raises(GgufError, match=r"laid out with 17 bytes a block of 32: that is upstream's MXFP4"):
        open_model(upstream, allow_id_39=True)


def test_the_last_tensor_may_lack_its_padding(fork: Path, upstream: Path, write: Callable[..., Path]) -> None:
    """A file whose end is not padded is told as well."""
    alone = renumbered(write("alone.gguf", {"output.weight": (BLOCKS, "Q8_0")}), ("output.weight",))
    for path, size in ((alone, 34), (upstream, 17)):
        data = path.read_bytes()
        padding = -6 * 2 * size % 32
        path.write_bytes(data[: len(data) - padding])
        with open_model(path, allow_id_39=size == 34) as model:
            assert model.tensors["output.weight"].n_bytes == 12 * size
        with pytest.raises(GgufError, match=f"laid out with {size} bytes a block"):
            open_model(path, allow_id_39=size == 17)
    assert fork.exists()


def test_a_layout_that_tells_nothing(write: Callable[..., Path]) -> None:
    """Where either meaning fits, or neither does, the caller's word counts, and 39 is MXFP4 without one."""

    # One block: 17 and 34 bytes both fill one place of 64.
    def aligned(writer: gguf.GGUFWriter) -> None:
        writer.add_custom_alignment(64)

    either = {"a": (BLOCKS[:1, :34], "Q8_0"), "b": (X[0], "F32")}
    path = renumbered(write("either.gguf", either, fields=aligned), ("a",))
    for flag, size in ((False, 17), (True, 34)):
        with open_model(path, allow_id_39=flag) as model:
            assert model.tensors["a"].n_bytes == size
    # Neither: 12 blocks, and 100 bytes more than there should be behind them.
    path = write("neither.gguf", {"a": (BLOCKS, "Q8_0")})
    path.write_bytes(path.read_bytes() + bytes(100))
    for flag, size in ((False, 17), (True, 34)):
        with open_model(renumbered(path, ("a",)), allow_id_39=flag) as model:
            assert model.tensors["a"].n_bytes == 12 * size


def test_nothing_to_tell_by(write: Callable[..., Path]) -> None:
    """A tensor without elements takes either meaning, and a file without the type has none to settle."""
    path = renumbered(write("none.gguf", {"a": (np.zeros((0, 34), np.uint8), "Q8_0")}), ("a",))
    for flag, name in ((False, "MXFP4"), (True, "Q8_A8")):
        with open_model(path, allow_id_39=flag) as model:
            assert model.tensors["a"].type_name == name
    with open_model(write("f.gguf", {"a": (X, "F32")}), allow_id_39=True) as model:
        assert model.tensors["a"].type_name == "F32"
