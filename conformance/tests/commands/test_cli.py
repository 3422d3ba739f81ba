"""The command line as a whole: its help, what it proposes for a wrong word, other ways to start it."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

import q8a8
from q8a8.install import VERSION, how_to_install
from q8a8_conformance.cli import COMMANDS, GROUPS, main

ROOT = Path(__file__).parents[3]


def test_help_is_grouped(capsys: pytest.CaptureFixture[str]) -> None:
    """`q8a8 --help` has every command below its purpose; `q8a8 help` is the same."""
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    words = re.findall(r"^(?:(\w+):|  ([\w-]+)  .*)$", text.partition("options:")[0], re.MULTILINE)
    assert [a or b for a, b in words] == [
        word for title, commands in GROUPS.items() for word in (title, *commands)
    ]
    for words in (["help"], ["help", "help"]):
        assert main(words) == 0
        assert capsys.readouterr().out == text


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`q8a8 help X` is `q8a8 X --help`."""
    assert main(["help", "rules"]) == main(["rules", "--help"]) == 0
    text = capsys.readouterr().out
    assert text[: len(text) // 2] == text[len(text) // 2 :]
    assert text.startswith("usage: q8a8 rules [-h] [GLOB]\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tset"], "q8a8: there is no command 'tset'; did you mean test?\n"),
        (["xyzzy"], "q8a8: there is no command 'xyzzy'; q8a8 --help lists them\n"),
        (["help", "smok"], "q8a8: there is no command 'smok'; did you mean smoke?\n"),
        (
            ["explain", "QNT3"],
            "q8a8: there is no rule, cause, order or recipe QNT3; q8a8 rules lists rules; did",
        ),
        (["test", "ref", "--rules", "qnt_3"], "did you mean QNT-"),
        (["rules", "QNZ-*"], "q8a8: no rule matches 'QNZ-*'; did you mean QNT-"),
        (["certify", "ref", "--domain", "scal"], "codes-ref:AMAX; did you mean scale?"),
        (
            ["export", "m", "--scheme", "int4-g33", "-o", "o"],
            "; did you mean int4-g",
        ),
        (["bench-model", "m", "--scheme", "q8a8"], "; did you mean q8_a8?"),
        (["perplexity", "m", "t", "--scheme", "q8_a9"], "; did you mean q8_a8?"),
        (["smoke", "ref", "--timout", "3"], "unrecognized arguments: --timout 3; did you mean --timeout?\n"),
        (["rules", "a", "b"], "q8a8 rules: error: unrecognized arguments: b\n"),
        (
            ["smoke", f"lib:{sys.executable}", "--symbol", "quantize_row_q8=f"],
            "did you mean quantize_row_q8_a8?",
        ),
    ],
)
def test_wrong_words(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A word that does not exist is answered with the one that is most like it; the status is 2."""
    assert main(words) == 2
    assert expected in capsys.readouterr().err


def test_usage_of_the_command_that_was_typed(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown option brings the usage of its command."""
    assert main(["smoke", "ref", "--nothing"]) == 2
    assert capsys.readouterr().err.startswith("usage: q8a8 smoke [-h]")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version has one source: module, distribution, command."""
    assert q8a8.__version__ == VERSION == metadata.version("q8a8")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"q8a8 {VERSION}\n"


def test_pages_install_by_a_form_that_works() -> None:
    """No page installs q8a8 by its bare name, which is on no index; the guide has both forms that work."""
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"pip install ['\"]?q8a8(?!-)", text), page
    guide = (ROOT / "docs" / "judge-your-kernel.md").read_text(encoding="utf-8")
    in_checkout, from_release = (
        form.partition("pip install ")[2].split("' ")[0].replace("'", "")
        for form in how_to_install("suite").split(", ")
    )
    assert in_checkout in guide.replace('"', "")
    assert from_release in guide.replace('"', "")


def test_every_command_has_a_group() -> None:
    """No command is in two groups."""
    assert len(COMMANDS) == sum(map(len, GROUPS.values()))


@pytest.mark.parametrize(
    "line",
    [
        "test lib:none.so",
        "test ref --known-failures none",
        "smoke lib:none.so",
        "reveal lib:none.so",
        "fingerprint lib:none.so",
        "certify lib:none.so",
        "certify merge none",
        "compare none none",
        "compare none.gguf none.gguf --text none",
        "quantize none.npy o.npy",
        "quantize none.gguf o.gguf",
        "dequantize none.gguf o.gguf",
        "inspect none.npy",
        "generate none x",
        "calibrate none none o.npz",
        "smooth none none o.npz",
        "export none --scheme int4-g32 -o o.gguf",
        "perplexity none none",
        "compare-model none ref ref",
        "bench-model none",
        "bench --c-kernel none.so --quick",
        "vectors check --data none",
        "vectors check --c-kernel none.so",
    ],
)
def test_a_file_that_is_not_there(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command names it without Python's words, with one exit status, and leaves nothing."""
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    error = capsys.readouterr().err
    assert "none" in error
    assert "Errno" not in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
