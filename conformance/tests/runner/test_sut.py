"""The words for a system under test become a worker's command, or a hint how to write them."""

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
    """Return a file that could be a library, in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "libkernel.so.1"
    path.touch()
    return path


def test_the_four_forms(library: Path) -> None:
    """Each form has its command; paths become absolute, commands are split as a shell does."""
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
    """Symbols and the initializer go to the worker, and can be repeated to the user."""
    symbols = ["quantize_row_q8_a8=q", "dequantize_row_q8_a8=d"]
    sut = parse_sut(f"lib:{library}", symbols, "init")
    flags = ("--symbol", symbols[0], "--symbol", symbols[1], "--init", "init")
    assert sut.argv == (*WORKER, "lib", str(library), *flags)
    assert sut.options == flags
    assert (sut.spec, sut.symbols, sut.init) == (f"lib:{library}", tuple(symbols), "init")


@pytest.mark.parametrize(
    ("text", "symbols", "init", "said"),
    [
        ("", (), None, "write ref, lib:PATH, py:MODULE:OBJECT or exec:COMMAND"),
        ("reference", (), None, "is no system under test"),
        ("lib:", (), None, "is no system under test"),
        ("libkernel.so.1", (), None, r"did you mean lib:libkernel.so.1 \?"),
        ("lib:nowhere.so", (), None, "there is no file nowhere.so"),
        ("lib:.", (), None, "there is no file"),
        ("dll:x", (), None, "'dll' is no form"),
        ("py:module", (), None, "write py:MODULE:OBJECT, such as"),
        ("py:a b:c", (), None, "write py:MODULE:OBJECT"),
        ("exec:   ", (), None, "is no system under test"),
        ("exec:''", (), None, "there is no command ''"),
        ("exec:no-such-harness neon", (), None, "there is no command 'no-such-harness'"),
        ("exec:sh 'x", (), None, "No closing quotation"),
        ("exec:sh", ("quantize_row_q8_a8=q",), None, "give the harness its own flags"),
        ("ref", (), "init", "they are for lib:PATH"),
        ("lib:libkernel.so.1", ("quantize_row_q8_a8",), None, "write ABI_NAME=EXPORTED_NAME"),
        ("lib:libkernel.so.1", ("quantize=q",), None, "'quantize' is no ABI function; they are quantize_row"),
    ],
)
@pytest.mark.usefixtures("library")
def test_what_cannot_be_served_is_explained(
    text: str, symbols: tuple[str, ...], init: str | None, said: str
) -> None:
    """Every other word is refused with the way to write it."""
    with pytest.raises(SutError, match=said):
        parse_sut(text, symbols, init)


def test_a_session_comes_with_it() -> None:
    """A parsed system gives a session that works."""
    with parse_sut("ref").session(timeout=30) as session:
        assert session.hello.name == "q8a8 reference"
