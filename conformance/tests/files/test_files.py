"""`q8a8 quantize` and `dequantize` on arrays: files in, files out, and nothing left of a failure."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from gguf.quants import Q8_0

from q8a8 import BLOCK_Q8_A8, DomainError, as_blocks
from q8a8_conformance.commands import dequantize, inspect, quantize
from q8a8_conformance.files import arrays, convert, inspect_blocks
from q8a8_golden import oracle

if TYPE_CHECKING:
    from numpy.typing import NDArray

RNG = np.random.default_rng(4)
X = RNG.standard_normal((5, 3, 96)).astype(np.float32)


def run(*words: object) -> int:
    """Run a command as the command line does."""
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    for command in (quantize, dequantize, inspect):
        command.add_parser(subparsers)
    options = parser.parse_args([str(word) for word in words])
    status = options.func(options)
    assert isinstance(status, int)
    return status


def oracle_blocks(x: NDArray[np.float32], recipe: str = "design") -> bytes:
    """Quantize with the exact oracle."""
    row = oracle.quantize_row(x.reshape(-1).view(np.uint32).tolist(), recipe)
    assert row is not None
    return row


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write the float32 source."""
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy"


@pytest.mark.parametrize("recipe", ["design", "ggml-avx2"])
def test_quantize_npy(source: Path, tmp_path: Path, recipe: str) -> None:
    """An array becomes the blocks that the oracle gives, in the same leading shape."""
    assert run("quantize", source, tmp_path / "q.npy", "--recipe", recipe) == 0
    blocks = np.load(tmp_path / "q.npy")
    assert blocks.dtype == BLOCK_Q8_A8
    assert blocks.shape == (5, 3, 3)
    assert blocks.tobytes() == oracle_blocks(X, recipe)


@pytest.mark.parametrize("dtype", ["<f2", ">f2", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_sources(tmp_path: Path, dtype: str, order: str) -> None:
    """Halves and the other byte order are converted exactly; Fortran order is read as what it means."""
    x = np.asarray(X.astype(dtype), order=order)  # type: ignore[call-overload]  # order is "C" or "F"
    np.save(tmp_path / "x.npy", x)
    assert run("quantize", tmp_path / "x.npy", tmp_path / "q.bin") == 0
    assert (tmp_path / "q.bin").read_bytes() == oracle_blocks(np.ascontiguousarray(x, np.float32))


def test_raw_floats_and_raw_blocks(tmp_path: Path) -> None:
    """Bare float32 in, bare blocks out, and back, with the shape from the command line."""
    (tmp_path / "x.f32").write_bytes(X.tobytes())
    assert run("quantize", tmp_path / "x.f32", tmp_path / "q.bin") == 0
    assert (tmp_path / "q.bin").read_bytes() == oracle_blocks(X)
    assert run("quantize", tmp_path / "x.f32", tmp_path / "q.npy", "--shape", "15x96") == 0
    assert np.load(tmp_path / "q.npy").shape == (15, 3)
    assert run("dequantize", tmp_path / "q.bin", tmp_path / "y.npy", "--shape", "5x3x96") == 0
    y = np.load(tmp_path / "y.npy")
    assert y.dtype == np.float32
    assert y.shape == X.shape
    assert y.view(np.uint32).reshape(-1).tolist() == oracle.dequantize(oracle_blocks(X))
    assert run("dequantize", tmp_path / "q.npy", tmp_path / "y.f32") == 0
    assert (tmp_path / "y.f32").read_bytes() == y.tobytes()


@pytest.mark.rule("Q8A8-LAY-4")
@pytest.mark.parametrize(("field", "at"), [("weight_scale", 0), ("activation_scale", 2)])
def test_version_2(source: Path, tmp_path: Path, field: str, at: int) -> None:
    """Version 2 blocks carry the scale where asked for, +0 in the other field, and are found by that."""
    assert run("quantize", source, tmp_path / "q.bin", "--v2", "--field", field) == 0
    raw = np.frombuffer((tmp_path / "q.bin").read_bytes(), np.uint8).reshape(-1, 36)
    one = np.frombuffer(oracle_blocks(X), np.uint8).reshape(-1, 34)
    assert np.array_equal(raw[:, at : at + 2], one[:, :2])
    assert not raw[:, 2 - at : 4 - at].any()
    assert np.array_equal(raw[:, 4:], one[:, 2:])
    assert run("dequantize", tmp_path / "q.bin", tmp_path / "y.npy", "--v2") == 0
    assert np.load(tmp_path / "y.npy").view(np.uint32).tolist() == oracle.dequantize(one.tobytes())
    report = inspect_blocks.inspect_file(tmp_path / "q.bin", version=2)
    assert (report.type_name, report.scale_field) == ("block_q8_a8_v2", field)


def test_bits_are_those_of_gguf(source: Path, tmp_path: Path) -> None:
    """A file made with `ggml-ref` holds the bytes that gguf-py makes."""
    assert run("quantize", source, tmp_path / "q.bin", "--recipe", "ggml-ref") == 0
    assert (tmp_path / "q.bin").read_bytes() == Q8_0.quantize_rows(X).tobytes()


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 64)])
def test_arrays_without_elements(
    tmp_path: Path, shape: tuple[int, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing in, nothing out: every command takes an empty array."""
    np.save(tmp_path / "x.npy", np.zeros(shape, np.float32))
    assert run("quantize", tmp_path / "x.npy", tmp_path / "q.npy") == 0
    assert np.load(tmp_path / "q.npy").shape == (*shape[:-1], shape[-1] // 32)
    assert run("dequantize", tmp_path / "q.npy", tmp_path / "y.f32") == 0
    assert (tmp_path / "y.f32").read_bytes() == b""
    assert run("quantize", tmp_path / "y.f32", tmp_path / "q.bin") == 0
    assert run("inspect", tmp_path / "q.npy", "--against", tmp_path / "x.npy") == 0
    assert "elements        0\n" in capsys.readouterr().out
    assert run("inspect", tmp_path / "q.bin") == 0
    assert "elements        0\n" in capsys.readouterr().out
    assert run("dequantize", tmp_path / "q.bin", tmp_path / "y.npy") == 0
    assert np.load(tmp_path / "y.npy").shape == (0,)


@pytest.mark.rule("Q8A8-QNT-12")
@pytest.mark.parametrize("value", [np.nan, -np.inf, 65520.0 * 127])
@pytest.mark.parametrize("extra", [[], ["--v2"]])
def test_bad_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float, extra: list[str]
) -> None:
    """A value outside the domain is named with file, row, block and element; the target stays as it was."""
    x = X.copy()
    x[4, 1, 70] = value
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "q.npy").write_bytes(b"old")
    assert run("quantize", tmp_path / "x.npy", tmp_path / "q.npy", *extra) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"q8a8: {tmp_path}/x.npy: row (4, 1), block 2, element 6: value {value:.9g}: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["q.npy", "x.npy"]
    assert (tmp_path / "q.npy").read_bytes() == b"old"
    with pytest.raises(DomainError) as caught:
        convert.quantize_file(tmp_path / "x.npy", tmp_path / "q.npy")
    assert (caught.value.row, caught.value.block, caught.value.element) == ((4, 1), 2, 6)


def test_bad_scales(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A scale that is not finite is named with file, row and block, and no file of floats appears."""
    blocks = as_blocks(oracle_blocks(X)).reshape(15, 3).copy()
    blocks["weight_scale"][11, 1] = np.inf
    np.save(tmp_path / "q.npy", blocks)
    assert run("dequantize", tmp_path / "q.npy", tmp_path / "y.npy") == 2
    assert f"{tmp_path}/q.npy: row 11, block 1: value inf: " in capsys.readouterr().err
    assert not (tmp_path / "y.npy").exists()


BAD: dict[str, tuple[str, object, list[str], str]] = {
    "missing": ("quantize", None, [], "No such file"),
    "no array": ("quantize", b"not an array", [], ""),
    "truncated": ("quantize", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False", [], ""),
    "float64": ("quantize", np.zeros(32), [], "expected float32 or float16, got float64"),
    "integers": ("quantize", np.zeros(32, np.int8), [], "expected float32 or float16, got int8"),
    "33 elements": (
        "quantize",
        np.zeros((2, 33), np.float32),
        [],
        "(2, 33): the row length is not a multiple of 32",
    ),
    "no axes": ("quantize", np.zeros((), np.float32), [], "(): the row length is not a multiple of 32"),
    "shape of npy": (
        "quantize",
        np.zeros(32, np.float32),
        ["--shape", "32"],
        "an .npy file has its own shape",
    ),
    "floats as blocks": ("dequantize", np.zeros(32, np.float32), [], "expected rows of Q8_A8 blocks"),
    "one block": ("dequantize", np.zeros((), BLOCK_Q8_A8), [], "expected rows of Q8_A8 blocks"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    """What is no array, or not the right one, is refused with the file's name, and nothing is written."""
    command, content, extra, message = BAD[case]
    path = tmp_path / "in.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, np.ndarray):
        np.save(path, content)
    assert run(command, path, tmp_path / "out.npy", *extra) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"q8a8: {path}: ")
    assert message in error
    assert not (tmp_path / "out.npy").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quantize", "x.npy", "x.npy"], "x.npy: is the input: it stays as it is"),
        (["quantize", "x.npy", "./link.npy"], "link.npy: is the input: it stays as it is"),
        (
            ["quantize", "x.npy", "q.txt"],
            "q.txt: the suffix names the content: expected one of .npy, .bin, .f32",
        ),
        (["quantize", "x.npy", "q.f32"], "q.f32: a .f32 file does not hold blocks"),
        (["dequantize", "q.bin", "y.bin"], "y.bin: a .bin file does not hold float32"),
        (["quantize", "x.npy", "none/q.npy"], "none/q.npy: No such file or directory"),
        (["dequantize", "odd.bin", "y.npy"], "odd.bin: 67 bytes end inside item 1 of 34 bytes"),
        (
            ["dequantize", "q.bin", "y.npy", "--shape", "2x64"],
            "q.bin: shape (2, 64) has 128 elements, the file 64",
        ),
        (
            ["dequantize", "q.bin", "y.npy", "--shape", "4x16"],
            "q.bin: rows of 16 elements are not a multiple of 32",
        ),
        (["inspect", "q.bin", "--against", "x.npy"], "x.npy: shape (5, 3, 96), but"),
        (["inspect", "q.bin", "--against", "missing.npy"], "missing.npy: No such file"),
    ],
)
def test_refusals(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    """Names, suffixes and sizes that do not fit are refused; the folder stays as it was."""
    monkeypatch.chdir(tmp_path)
    Path("link.npy").symlink_to(source)
    Path("q.bin").write_bytes(bytes(68))
    Path("odd.bin").write_bytes(bytes(67))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert run(*words) == 2
    assert message in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("shape", ["3xq", "-1x32", "", "x"])
def test_bad_shapes_are_wrong_usage(shape: str) -> None:
    """A shape that is none is refused by the parser, with the status of wrong usage."""
    with pytest.raises(SystemExit) as caught:
        run("inspect", "q.bin", f"--shape={shape}")
    assert caught.value.code == 2


def test_failure_while_writing_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk, or an interrupt, leaves no part of a file."""

    def full(_self: arrays.Writer, _part: NDArray[np.generic]) -> None:
        """Fail as a full disk does."""
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrays.Writer, "write", full)
    assert run("quantize", source, tmp_path / "q.npy") == 6
    assert f"{tmp_path}/q.npy: No space left on device" in capsys.readouterr().err

    def interrupt(_self: arrays.Writer, _part: NDArray[np.generic]) -> None:
        """Fail as Ctrl-C does."""
        raise KeyboardInterrupt

    monkeypatch.setattr(arrays.Writer, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run("quantize", source, tmp_path / "q.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_an_empty_file_has_no_pages(tmp_path: Path) -> None:
    """There is no mapping behind an array without elements, and nothing to let go of."""
    (tmp_path / "x.f32").write_bytes(b"")
    mapped = arrays.open_array(tmp_path / "x.f32", blocks=BLOCK_Q8_A8)
    mapped.release()
    assert mapped.array.shape == (0,)


def test_sources_are_read_only(source: Path, tmp_path: Path) -> None:
    """A source without write permission works, and its bytes stay."""
    before = source.read_bytes()
    source.chmod(0o444)
    assert run("quantize", source, tmp_path / "q.npy") == 0
    assert source.read_bytes() == before


def test_the_target_is_replaced(source: Path, tmp_path: Path) -> None:
    """An older target is replaced as a whole, and has ordinary permissions."""
    (tmp_path / "q.bin").write_bytes(b"old")
    assert run("quantize", source, tmp_path / "q.bin") == 0
    assert (tmp_path / "q.bin").read_bytes() == oracle_blocks(X)
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "q.bin").stat().st_mode == (tmp_path / "plain").stat().st_mode
