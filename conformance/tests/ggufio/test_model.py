"""An open GGUF file: bytes, numbers, parts, against gguf-py's own reading."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from q8a8 import BLOCK_Q8_A8, DomainError, UnsupportedOperationError
from q8a8.ggufio import GgufError, MissingExtraError, is_linear, open_model
from q8a8.ggufio.floats import WITHOUT_A_READER, stored_blocks, to_blocks, to_floats
from q8a8.ggufio.tensor_types import TENSOR_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

READABLE = [kind for kind in TENSOR_TYPES.values() if kind.name not in WITHOUT_A_READER]
RNG = np.random.default_rng(7)


@pytest.mark.parametrize("kind", READABLE, ids=lambda kind: kind.name)
def test_every_type(write: Callable[..., Path], kind: object) -> None:
    """Whatever bytes a tensor has, its numbers are those of gguf-py, read whole or in parts of any size."""
    assert isinstance(kind, type(READABLE[0]))
    raw = RNG.integers(0, 256, (2, 300 * kind.size), np.uint8)
    if kind.name == "Q8_0":
        raw.reshape(-1, 34)[:, 1] &= 0x3B  # finite scales: others are refused
    path = write("a.gguf", {"t": (raw, kind.name)})
    with np.errstate(all="ignore"):
        theirs = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(kind.id))
    with open_model(path) as model:
        assert model.tensors["t"].shape == (2, 300 * kind.block)
        assert np.array_equal(model.raw("t"), raw.reshape(-1))
        assert not model.raw("t").flags.writeable
        ours = model.read("t")
        for size in (kind.block, 17 * kind.block, 599 * kind.block, 600 * kind.block):
            firsts, parts = zip(*model.parts("t", size), strict=True)
            assert list(firsts) == list(range(0, 600 * kind.block, size))
            assert np.array_equal(np.concatenate(parts), ours.reshape(-1), equal_nan=True)
    assert ours.dtype == np.float32
    # NaNs are NaNs: which one is not gguf-py's to say.
    numbers = ~np.isnan(theirs)
    assert np.array_equal(np.isnan(ours), ~numbers)
    assert np.array_equal(ours[numbers].view(np.uint32), theirs[numbers].view(np.uint32))


def test_exact_values(write: Callable[..., Path]) -> None:
    """Halves and bfloat16 are widened exactly: subnormals, the largest, both zeros, infinities."""
    halves = np.array([0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF, 0x3C01, 0xFC00, 0x7C00], np.uint16)
    short = np.array([0x0000, 0x8000, 0x0001, 0x807F, 0x7F7F, 0x3F81, 0xFF80, 0x7F80], np.uint16)
    path = write("a.gguf", {"h": (halves.view(np.uint8), "F16"), "b": (short.view(np.uint8), "BF16")})
    with open_model(path) as model:
        wide = [struct.unpack("<e", struct.pack("<H", bits))[0] for bits in halves.tolist()]
        assert [str(value) for value in model.read("h").tolist()] == [str(value) for value in wide]
        assert model.read("b").view(np.uint32).tolist() == [bits << 16 for bits in short.tolist()]


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
def test_big_endian(write: Callable[..., Path], kind: str) -> None:
    """A file in the other byte order has the same numbers."""
    values = RNG.standard_normal((3, 64)).astype(np.float32)
    little = gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind])
    # Every number of more than one byte is turned; of a block that is its scale.
    bytes_of = little.view(np.uint8).reshape(-1, {"F32": 4, "F16": 2, "BF16": 2, "Q8_0": 34}[kind]).copy()
    end = 2 if kind == "Q8_0" else bytes_of.shape[1]
    bytes_of[:, :end] = bytes_of[:, end - 1 :: -1] if end > 2 else bytes_of[:, 1::-1]
    with open_model(write("l.gguf", {"t": (values, kind)})) as model:
        wanted = model.read("t")
    # gguf-py turns what it is given when it writes, byte for byte of uint8: not at all.
    with open_model(write("b.gguf", {"t": (bytes_of.reshape(3, -1), kind)}, big=True)) as model:
        assert model.header.order == ">"
        assert np.array_equal(model.read("t"), wanted)
        if kind == "Q8_0":
            blocks = to_blocks(model.raw("t"), ">")
            assert blocks.tobytes() == little.tobytes()
            assert stored_blocks(blocks, ">").tobytes() == model.raw("t").tobytes()


def test_big_endian_blocks_of_other_types(write: Callable[..., Path]) -> None:
    """gguf-py has no reader for big-endian blocks: refused by the tensor's name, not misread."""
    path = write("b.gguf", {"t": (np.zeros((2, 18), np.uint8), "Q4_0")}, big=True)
    with (
        open_model(path) as model,
        pytest.raises(GgufError, match=r"'t': there is no way to read Q4_0 of this"),
    ):
        model.read("t")
    with pytest.raises(UnsupportedOperationError, match="Q4_0 in a big-endian file"):
        to_floats(np.zeros(18, np.uint8), TENSOR_TYPES[2], ">")


@pytest.mark.parametrize("name", WITHOUT_A_READER)
def test_types_without_a_reader(write: Callable[..., Path], name: str) -> None:
    """Types that nobody can dequantize have bytes, and no numbers."""
    kind = next(each for each in TENSOR_TYPES.values() if each.name == name)
    path = write("a.gguf", {"t": (np.zeros((1, 2 * kind.size), np.uint8), name)})
    with open_model(path) as model:
        assert len(model.raw("t")) == 2 * kind.size
        assert not model.readable("t")
        with pytest.raises(GgufError, match=f"there is no way to read {name} of this file"):
            model.read("t")
    with pytest.raises(UnsupportedOperationError, match=f"for the type {name}$"):
        to_floats(np.zeros(kind.size, np.uint8), kind, "<")


def test_a_scale_that_is_no_number(write: Callable[..., Path]) -> None:
    """A Q8_0 scale of infinity is named with file, tensor, row and block."""
    blocks = np.zeros((3, 2), BLOCK_Q8_A8)
    blocks["weight_scale"][2, 1] = np.inf
    path = write("a.gguf", {"t": (blocks.view(np.uint8).reshape(3, 68), "Q8_0")})
    with open_model(path) as model:
        with pytest.raises(DomainError) as caught:
            model.read("t")
        assert str(caught.value).startswith(f"{path}: tensor 't': row 2, block 1: value inf: ")
        with pytest.raises(DomainError) as caught:
            list(model.parts("t", 32))
        assert (caught.value.row, caught.value.block) == ((2,), 1)


def test_the_hash(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash is that of the file, and is taken once."""
    path = write("a.gguf", {"t": (RNG.standard_normal((5, 32)).astype(np.float32), "F32")})
    monkeypatch.setattr("q8a8.ggufio.model.HASHED", 100)
    with open_model(str(path)) as model:
        assert model.size == path.stat().st_size
        assert model.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
        assert model.sha256() is model.sha256()


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    """No file, no bytes, no GGUF, a folder that has no model: refused with the name."""
    (tmp_path / "empty.gguf").write_bytes(b"")
    (tmp_path / "text.gguf").write_text("hello")
    for name, place, message in (
        ("none.gguf", "none.gguf", "No such file or directory"),
        ("empty.gguf", "empty.gguf", "is empty"),
        ("text.gguf", "text.gguf", "is not a GGUF file"),
        (".", "config.json", "No such file or directory"),
    ):
        with pytest.raises(GgufError) as caught:
            open_model(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / place}: {message}")


def test_tensors_that_are_not_there(write: Callable[..., Path]) -> None:
    """A name that the file does not have is said."""
    with open_model(write("a.gguf", {"t": (np.zeros(1, np.float32), "F32")})) as model:
        for method in (model.read, model.raw, model.tensor, model.readable):
            with pytest.raises(GgufError, match="there is no tensor 'u'"):
                method("u")


def test_a_closed_file(write: Callable[..., Path]) -> None:
    """A closed file has no bytes to give; what it gave before stays, a walk that began too."""
    path = write("a.gguf", {"t": (np.arange(64, dtype=np.float32), "F32")})
    with open_model(path) as model:
        raw = model.raw("t")
        parts = model.parts("t", 32)
        next(parts)
    with model:
        pass
    assert np.array_equal(next(parts)[1], np.arange(32, 64))
    assert np.array_equal(raw.view(np.float32), np.arange(64))
    assert model.tensors["t"].shape == (64,)
    for method in (model.raw, model.read):
        with pytest.raises(GgufError, match=r"a\.gguf: is closed"):
            method("t")
    with pytest.raises(GgufError, match="is closed"):
        model.sha256()


def test_without_gguf(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package gguf the simple types are read; for the others the extra is named."""
    simple = ("F32", "F16", "BF16", "Q8_0")
    values = RNG.standard_normal((1, 32)).astype(np.float32)
    path = write("a.gguf", {kind: (values, kind) for kind in (*simple, "Q4_1")})
    for module in [name for name in sys.modules if name.split(".")[0] == "gguf"]:
        monkeypatch.setitem(sys.modules, module, None)
    with open_model(path) as model:
        for kind in simple:
            assert model.read(kind).shape == (1, 32)
        with pytest.raises(
            MissingExtraError, match=r"type Q4_1 needs the package gguf: pip install -e '\.\[model\]'"
        ):
            model.read("Q4_1")


def test_gguf_is_imported_when_it_is_needed() -> None:
    """The modules for GGUF files run on NumPy alone."""
    code = "import sys, q8a8.ggufio; assert not {'gguf', 'tokenizers', 'tqdm'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_real_model(real_model: Path) -> None:
    """Of a real model, tensors, metadata and numbers are those that gguf-py's reader gives."""
    reader = gguf.GGUFReader(real_model)
    with open_model(real_model) as model:
        assert [
            (t.name, t.tensor_type.name, tuple(t.shape[::-1].tolist()), t.data_offset, t.n_bytes)
            for t in reader.tensors
        ] == [(t.name, t.type_name, t.shape, t.offset, t.n_bytes) for t in model.tensors.values()]
        own = {key: field for key, field in reader.fields.items() if not key.startswith("GGUF.")}
        assert list(own) == list(model.metadata)
        for key, field in own.items():
            value = model.metadata[key]
            if isinstance(value, list | np.ndarray):
                # All of 150,000 entries take gguf-py some seconds.
                assert len(value) == len(field.data)
                assert list(value[-99:]) == field.contents(slice(-99, None)), key
            else:
                assert value == field.contents(), key
        assert sum(is_linear(name) for name in model.tensors) == 210
        for tensor in [*reader.tensors[1:10], reader.tensors[-1]]:
            theirs: NDArray[np.float32] = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            assert np.array_equal(model.read(tensor.name), theirs)
