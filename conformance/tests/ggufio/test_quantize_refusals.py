"""Quantizing a file: what is refused, and that it loses nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias

import gguf
import numpy as np
import pytest

from q8a8 import DomainError
from q8a8.ggufio import (
    GgufError,
    dequantize_model,
    open_model,
    quantize_model,
)
from q8a8.ggufio.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Tensors: TypeAlias = dict[str, tuple[NDArray[np.float32], str]]


RNG = np.random.default_rng(17)


def stored(path: Path) -> dict[str, tuple[str, NDArray[Any]]]:
    """Read type and bytes of every tensor with gguf-py."""
    return {t.name: (t.tensor_type.name, t.data) for t in gguf.GGUFReader(path).tensors}


def test_old_blocks_are_refused(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """Blocks of another version of the quantized types would be misread."""
    for version in (1, 3):
        source = write(
            "in.gguf", tensors, fields=lambda writer, v=version: writer.add_quantization_version(v)
        )
        for convert in (quantize_model, dequantize_model):
            with pytest.raises(GgufError, match=r"'general\.quantization_version': only version 2 of the"):
                convert(source, tmp_path / "out.gguf")


def test_versions_of_plain_floats(write: Callable[..., Path], tmp_path: Path) -> None:
    """The version is of any integer type, and where there are no blocks of any value, as for llama.cpp."""
    x = {"output.weight": (np.ones((2, 32), np.float32), "F32")}
    blocks = {"output.weight": (np.ones((2, 32), np.float32), "Q4_0")}
    out, key = tmp_path / "out.gguf", "general.quantization_version"
    for tensors, add in (
        (x, lambda writer: writer.add_quantization_version(1)),
        (blocks, lambda writer: writer.add_uint64(key, 2)),
        (blocks, lambda writer: writer.add_int8(key, 2)),
    ):
        quantize_model(write("in.gguf", tensors, fields=add), out)
        with open_model(out) as model:
            assert model.metadata[key] == 2
    source = write("in.gguf", blocks, fields=lambda writer: writer.add_float32(key, 2.0))
    with pytest.raises(GgufError, match="only version 2"):
        quantize_model(source, out)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 65520.0 * 127])
def test_values_outside_the_domain(
    write: Callable[..., Path], tensors: Tensors, tmp_path: Path, value: float
) -> None:
    """A value that cannot be quantized is named with file, tensor, row, block, element; nothing appears."""
    x = RNG.standard_normal((1030, 1024)).astype(np.float32)
    x[1028, 70] = value
    source = write("in.gguf", {**tensors, "blk.3.ffn_up.weight": (x, "F32")})
    (tmp_path / "out.gguf").write_bytes(b"old")
    with pytest.raises(DomainError) as caught:
        quantize_model(source, tmp_path / "out.gguf")
    where = f"{source}: tensor 'blk.3.ffn_up.weight': row 1028, block 2, element 6: value {value:.9g}: "
    assert str(caught.value).startswith(where)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.gguf", "out.gguf"]
    assert (tmp_path / "out.gguf").read_bytes() == b"old"


def test_the_source_stays(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """Writing over the source is refused under any of its names; a read-only source works."""
    source = write("in.gguf", tensors)
    before = source.read_bytes()
    (tmp_path / "link.gguf").symlink_to(source)
    os.link(source, tmp_path / "other.gguf")
    for name in ("in.gguf", "link.gguf", "other.gguf"):
        for convert in (quantize_model, dequantize_model):
            with pytest.raises(GgufError, match=f"{name}: is the input: it stays as it is"):
                convert(source, tmp_path / name)
    source.chmod(0o444)
    quantize_model(source, tmp_path / "out.gguf")
    assert source.read_bytes() == before


def test_targets_that_cannot_be_written(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """No folder, or a folder in its place: refused by the target's name, and nothing is left."""
    source = write("in.gguf", tensors)
    (tmp_path / "folder.gguf").mkdir()
    for target in (tmp_path / "none" / "out.gguf", tmp_path / "folder.gguf"):
        with pytest.raises(GgufError) as caught:
            quantize_model(source, target)
        assert str(caught.value).startswith(f"{target}: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.gguf", "in.gguf"]


def test_failure_while_writing_leaves_nothing(
    write: Callable[..., Path], tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, or an interrupt, leaves no part of a file behind."""
    source = write("in.gguf", tensors)

    def full(_self: Writer, _part: NDArray[np.generic]) -> None:
        """Fail as a full disk does."""
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Writer, "write", full)
    with pytest.raises(GgufError, match=r"out\.gguf: No space left on device"):
        quantize_model(source, tmp_path / "out.gguf")

    def interrupt(_self: Writer, _part: NDArray[np.generic]) -> None:
        """Fail as Ctrl-C does."""
        raise KeyboardInterrupt

    monkeypatch.setattr(Writer, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        quantize_model(source, tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["in.gguf"]
