"""``[tool.q8a8]`` of ``pyproject.toml``: the kernel that commands take where none is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the ``pyproject.toml`` of the working directory, with the reference as kernel."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "pyproject.toml"
    path.write_text('[tool.q8a8]\nsut = "ref"\nprofile = "exact"\n')
    return path


def test_the_project_s_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    """Without SUT the project's is judged with its options; an option of the command line wins."""
    assert main(["test", "--rules", "LAY-1"]) == 0
    assert "ref, profile exact" in capsys.readouterr().out
    assert main(["test", "--rules", "LAY-1", "--profile", "kernel"]) == 0
    assert "ref, profile kernel" in capsys.readouterr().out
    assert main(["smoke"]) == 0


def test_a_named_kernel_takes_nothing_from_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table's options belong to its own kernel."""
    project.write_text('[tool.q8a8]\nsut = "lib:none.so"\nsymbols = { vec = "f" }\nprofile = "exact"\n')
    assert main(["test", "ref", "--rules", "LAY-1"]) == 0
    assert "ref, profile kernel" in capsys.readouterr().out
    assert main(["smoke"]) == 2
    assert "there is no file none.so" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the following arguments are required: SUT"),
        ("[tool", "pyproject.toml: "),
        ("[tool.q8a8]\nprofil = 'x'", "[tool.q8a8] profil: there is no such key; did you mean profile?"),
        ("[tool.q8a8]\nsut = 3", "[tool.q8a8] sut: expected a string, got 3"),
        ("[tool.q8a8]\nsymbols = 'f'", "[tool.q8a8] symbols: expected a table, got 'f'"),
        ("[tool.q8a8]\nsymbols = { f = 1 }", "[tool.q8a8] symbols: f: expected a string, got 1"),
        ("[tool]\nq8a8 = 3", "[tool.q8a8]: expected a table, got 3"),
        ("tool = 3", "[tool.q8a8]: expected a table, got 3"),
        ("[tool.q8a8]\nprofile = 'best'", "profile: 'best' is none of exact, kernel, ggml"),
    ],
)
def test_mistakes(project: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A table that cannot be used is wrong usage, with the key."""
    project.write_text(text)
    assert main(["smoke"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_no_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the file a SUT is required."""
    project.unlink()
    assert main(["test"]) == 2
    assert "required: SUT" in capsys.readouterr().err
