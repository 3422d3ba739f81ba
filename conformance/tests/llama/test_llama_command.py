"""The command ``q8a8 generate`` on a small file: what it prints, and what it refuses."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8.llama import ModelError, generate, linear_names, load
from q8a8.methods.calibration import Source, calibrate
from q8a8_evaluation.chat_template import chat
from q8a8_evaluation.commands.generate import add_parser, stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.llama.conftest import Tiny, WriteTiny


@pytest.fixture(scope="module")
def path(tiny: Tiny, write_tiny: WriteTiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the tiny model."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_tiny(path, tiny)
    return path


@pytest.fixture
def run(path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the command: exit status, output, errors."""

    def call(*words: str) -> tuple[int, str, str]:
        parser = argparse.ArgumentParser()
        add_parser(parser.add_subparsers())
        options = parser.parse_args(["generate", str(path), *words])
        status = options.func(options)
        return status, *capsys.readouterr()

    return call


def greedy(path: Path, text: str, n: int, *, special: bool = False) -> str:
    """Return what the float model writes after a text."""
    loaded = load(path)
    tokens = loaded.tokenizer.encode(text, special=special)
    return "".join(stream(loaded.tokenizer, generate(loaded.model(), tokens, n)))


def test_prints_the_most_probable_tokens(path: Path, run: Callable[..., Any]) -> None:
    """Nothing but what comes after the prompt, and a line feed."""
    assert run("the then", "--tokens", "9") == (0, greedy(path, "the then", 9) + "\n", "")


def test_seed_makes_the_text(run: Callable[..., Any]) -> None:
    """Drawn tokens: one seed, one text."""
    words = ("the", "--tokens", "12", "--temperature", "2", "--top-k", "50", "--top-p", "0.95", "--seed")
    first, again, other = (run(*words, seed) for seed in ("1", "1", "2"))
    assert first == again != other


def test_schemes(run: Callable[..., Any]) -> None:
    """Other linear operators, in the cache of a float model."""
    for scheme in ("w8a16", "q8_a8"):
        status, text, errors = run("the", "--tokens", "5", "--scheme", scheme)
        assert (status, errors) == (0, "")
        assert text.endswith("\n")


def test_calibration_is_of_this_model(path: Path, run: Callable[..., Any], tmp_path: Path) -> None:
    """A scheme that needs one says so; one of this model is used, one of another is refused."""
    status, _, errors = run("the", "--scheme", "q8_a8+smooth")
    assert status == 2
    assert "q8_a8+smooth" in errors
    assert "calibration" in errors
    loaded = load(path)
    windows = [np.arange(40), np.arange(100, 140)]
    for sha256, expected in ((loaded.sha256, 0), ("0" * 64, 2)):
        file = tmp_path / f"{sha256[:8]}.npz"
        source = Source(text_sha256="1" * 64, window=40, first=0, windows=2)
        names = linear_names(loaded.config)
        calibrate(loaded.model(), windows, names, source, model_sha256=sha256).save(file)
        status, _, errors = run(
            "the", "--tokens", "2", "--scheme", "q8_a8+smooth", "--calibration", str(file)
        )
        assert status == expected, errors
    assert "made for another model, with sha256 000" in errors


def test_conversation(path: Path, run: Callable[..., Any]) -> None:
    """The file's template puts the prompt between control tokens."""
    written = "<|im_start|>system\nbe<|im_end|>\n<|im_start|>user\nhe<|im_end|>\n<|im_start|>assistant\n"
    assert chat(load(path).metadata, "he", "be") == written
    assert run("he", "--chat", "--system", "be", "--tokens", "6")[1] == (
        greedy(path, written, 6, special=True) + "\n"
    )


def test_control_tokens_in_a_prompt_are_text(path: Path, run: Callable[..., Any]) -> None:
    """Without --chat, their names are letters."""
    _, text, _ = run("<|im_start|>", "--tokens", "6")
    assert text == greedy(path, "<|im_start|>", 6) + "\n"
    assert text != greedy(path, "<|im_start|>", 6, special=True) + "\n"


def test_no_prompt_begins_a_text(path: Path, run: Callable[..., Any]) -> None:
    """With the token that the file names for it."""
    assert run("", "--tokens", "4")[1] == greedy(path, "<|im_start|>", 4, special=True) + "\n"


def test_stream_ends_with_the_text_and_keeps_characters_whole(path: Path) -> None:
    """Four tokens are one character; what is never completed is U+FFFD; the end is not shown."""
    tokenizer = load(path).tokenizer
    whole = tokenizer.encode("a😀b")
    assert list(stream(tokenizer, whole)) == ["a", "", "", "", "😀", "b", ""]
    assert list(stream(tokenizer, whole[:3])) == ["a", "", "", "\N{REPLACEMENT CHARACTER}"]
    assert tokenizer.eos is not None
    assert list(stream(tokenizer, [whole[0], tokenizer.eos, whole[0]])) == ["a", ""]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x", "--top-k", "3"], "--top-k and --top-p limit sampling"),
        (["x", "--top-p", "0.5"], "--top-k and --top-p limit sampling"),
        (["x", "--system", "y"], "there is no system's turn without --chat"),
        (["x", "--tokens", "0"], "--tokens: expected at least 1"),
        (["x", "--temperature", "-1"], "temperature: expected a number above 0"),
        (["x", "--scheme", "int9"], "no scheme is called 'int9'"),
        (["x", "--kernel", "native"], "--kernel is for the scheme q8_a8, not for float"),
        (["the" * 64], "outside the context of 64"),
    ],
)
def test_wrong_usage(run: Callable[..., Any], words: list[str], message: str) -> None:
    """One line that says what, exit status 2, nothing on standard output."""
    status, text, errors = run(*words)
    assert (status, text) == (2, "")
    assert errors.startswith("q8a8: ")
    assert message in errors


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "the file has no template"),
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ raise_exception('no users') }}", "TemplateError: no users"),
        ("{{ messages[5].role.x }}", "UndefinedError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}", "it takes too long"),
        ("{{ 7 ** (7 ** 9) }}", "it takes too long"),
        ("{{ 'x' * 10 ** 9 }}", "MemoryError"),
        ("{{ 'x' * 10 ** 7 }}", "it writes more than 1,048,576 characters"),
    ],
)
def test_templates_that_fail(template: str | None, message: str) -> None:
    """Whatever a template raises is told by the key; it runs in the sandbox, and in limits."""
    metadata = {} if template is None else {"tokenizer.chat_template": template}
    with pytest.raises(ModelError) as caught:
        chat(metadata, "hello")
    assert message in str(caught.value)


def test_templates_know_the_tokens() -> None:
    """The texts of the tokens that begin and end, where the file has them; text is not escaped."""
    metadata: dict[str, object] = {
        "tokenizer.chat_template": "{{ bos_token }}|{{ eos_token }}|{{ messages[0].content }}",
        "tokenizer.ggml.tokens": ["<s>", "</s>"],
        "tokenizer.ggml.bos_token_id": 0,
    }
    assert chat(metadata, "<b>&") == "<s>||<b>&"
