"""The argument for a system under test becomes a worker's command, or an error with the valid forms."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.sut import SutError, parse_sut

if TYPE_CHECKING:
    from pathlib import Path

WORKER = (sys.executable, "-m", "q8a8_conformance.worker")


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty file with a library's name, in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "libkernel.so.1"
    path.touch()
    return path


def test_forms(library: Path) -> None:
    """Each form has its command; paths are made absolute, commands are split as in a shell."""
    assert parse_sut("ref").argv == (*WORKER, "ref")
    assert parse_sut("lib:libkernel.so.1").argv == (*WORKER, "lib", str(library))
    assert parse_sut("py:a.b:c.d").argv == (*WORKER, "py", "a.b:c.d")
    sut = parse_sut("exec:sh -c 'echo a:b' x")
    assert sut.argv == ("sh", "-c", "echo a:b", "x")
    assert [parse_sut(text).kind for text in ("ref", "lib:libkernel.so.1", "py:a:b", "exec:sh")] == [
        "ref",
        "lib",
        "py",
        "exec",
    ]


def test_library_options(library: Path) -> None:
    """Symbols and the initializer are passed to the worker and kept as options."""
    symbols = ["quantize_row_q8_a8=q", "dequantize_row_q8_a8=d"]
    sut = parse_sut(f"lib:{library}", symbols, "init")
    flags = ("--symbol", symbols[0], "--symbol", symbols[1], "--init", "init")
    assert sut.argv == (*WORKER, "lib", str(library), *flags)
    assert sut.options == flags
    assert (sut.spec, sut.symbols, sut.init) == (f"lib:{library}", tuple(symbols), "init")


def test_devices(library: Path) -> None:
    """A device is named behind its libraries; a colon in a path is no device's."""
    both = f"{library},{library}"
    assert parse_sut(f"ggml:{library}").argv == (*WORKER, "ggml", str(library))
    assert parse_sut(f"ggml:{both}:Vulkan0").argv == (*WORKER, "ggml", both, "--device", "Vulkan0")
    odd = library.with_name("lib:odd.so")
    odd.write_bytes(b"")
    assert parse_sut(f"ggml:{odd}").argv == (*WORKER, "ggml", str(odd))
    chosen = ("--threads", "2", "--buffer", "repack")
    assert parse_sut(f"ggml:{odd}:threads=2,buffer=repack").argv == (*WORKER, "ggml", str(odd), *chosen)
    assert parse_sut(f"ggml:{both}:CPU:copy=rows").argv == (
        *(*WORKER, "ggml", both, "--device", "CPU"),
        *("--copy", "rows"),
    )


@pytest.mark.parametrize(
    ("text", "symbols", "init", "message"),
    [
        ("", (), None, "write ref, lib:PATH, py:MODULE:OBJECT, ggml:PATH"),
        ("reference", (), None, "is not a system under test"),
        ("lib:", (), None, "is not a system under test"),
        ("libkernel.so.1", (), None, r"did you mean lib:libkernel.so.1 \?"),
        ("lib:nowhere.so", (), None, "there is no file nowhere.so"),
        ("lib:.", (), None, "there is no file"),
        ("dll:x", (), None, "'dll' is not a form"),
        ("py:module", (), None, "write py:MODULE:OBJECT, such as"),
        ("py:a b:c", (), None, "write py:MODULE:OBJECT"),
        ("ggml:nowhere.so", (), None, "there is no file nowhere.so"),
        ("ggml:libkernel.so.1:thread=2", (), None, "'thread' is no option of a device; they are threads"),
        ("ggml:libkernel.so.1:CPU:buffer=x", (), None, "'buffer=x': buffer is default or repack"),
        ("ggml:libkernel.so.1,other.so:CPU", (), None, "there is no file other.so"),
        ("exec:   ", (), None, "is not a system under test"),
        ("exec:''", (), None, "there is no command ''"),
        ("exec:no-such-harness neon", (), None, "there is no command 'no-such-harness'"),
        ("exec:./libkernel.so.1", (), None, "is not executable"),
        ("exec:sh 'x", (), None, "No closing quotation"),
        ("exec:sh", ("quantize_row_q8_a8=q",), None, "pass flags of the harness"),
        ("ref", (), "init", "they apply to lib:PATH only"),
        ("lib:libkernel.so.1", ("quantize_row_q8_a8",), None, "write ABI_NAME=EXPORTED_NAME"),
        (
            "lib:libkernel.so.1",
            ("quantize=q",),
            None,
            "'quantize' is not an ABI function; they are quantize_row",
        ),
    ],
)
@pytest.mark.usefixtures("library")
def test_invalid_arguments(text: str, symbols: tuple[str, ...], init: str | None, message: str) -> None:
    """Any other argument is refused with the valid forms."""
    with pytest.raises(SutError, match=message):
        parse_sut(text, symbols, init)


def test_session() -> None:
    """A parsed system has a working session."""
    with parse_sut("ref").session(timeout=30) as session:
        assert session.hello.name == "q8a8 reference"
