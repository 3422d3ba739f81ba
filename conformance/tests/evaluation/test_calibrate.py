"""`q8a8 calibrate` and `q8a8 smooth`, on a model small enough to run in a moment."""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import gguf
import numpy as np
import pytest
import tqdm

from q8a8.llama.config import Config, linear_names
from q8a8.llama.load import load
from q8a8.llama.tensors import expected_shapes
from q8a8.methods.calibration import Calibration, CalibrationError, Source, Statistics
from q8a8.methods.smoothquant import Smoothing, make_smoothing
from q8a8_conformance import cli
from q8a8_evaluation.calibration import calibrate_model, largest_outlier, smooth_model
from q8a8_evaluation.commands import calibrate, smooth
from q8a8_evaluation.text import windows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run: TypeAlias = Callable[..., tuple[int, str, str]]

CONFIG = Config(
    n_layers=2, n_heads=4, n_kv_heads=2, d_model=64, d_head=16, d_ff=96, n_vocab=99, eps=1e-5, context=64
)
WORDS = "all of this is one text, and it goes on; " * 8


def _write(path: Path, *, bos: bool = True) -> Path:
    """Write a random model, whose tokens are the printing characters of ASCII, a space and two marks."""
    rng = np.random.default_rng(12)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(CONFIG.n_layers)
    writer.add_context_length(CONFIG.context)
    writer.add_embedding_length(CONFIG.d_model)
    writer.add_feed_forward_length(CONFIG.d_ff)
    writer.add_head_count(CONFIG.n_heads)
    writer.add_head_count_kv(CONFIG.n_kv_heads)
    writer.add_layer_norm_rms_eps(CONFIG.eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*map(chr, range(33, 127)), "Ġ", "Ċ", "<|begin|>", "<|end|>", "zq"])
    writer.add_token_types([1] * 96 + [3] * 2 + [1])
    writer.add_token_merges(["z q"])
    if bos:
        writer.add_bos_token_id(96)
    for name, shape in expected_shapes(CONFIG).items():
        weight = rng.standard_normal(shape).astype(np.float32)
        writer.add_tensor(name, weight if weight.ndim > 1 else np.abs(weight) + 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model and a text; tests write under names of their own."""
    path = tmp_path_factory.mktemp("calibrate")
    _write(path / "model.gguf")
    (path / "text.txt").write_text(WORDS)
    return path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs a command in the folder, and gives exit status, output and errors."""
    monkeypatch.chdir(folder)
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    calibrate.add_parser(subparsers)
    smooth.add_parser(subparsers)

    def command(*words: str) -> tuple[int, str, str]:
        try:
            options = parser.parse_args(words)
            status: int = options.func(options)
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return command


def test_from_text_to_factors(folder: Path, run: Run) -> None:
    """The commands' files hold what the functions they stand for compute, and what they were made from."""
    status, out, err = run(
        "calibrate", "model.gguf", "text.txt", "cal.npz", "--tokens", "100", "--window", "32", "--rows", "20"
    )
    assert (status, err) == (0, "")
    assert out.startswith("cal.npz: 14 linear operators, 96 tokens; largest outlier: channel ")
    calibration = Calibration.load(folder / "cal.npz")
    loaded = load(folder / "model.gguf")
    text_hash = hashlib.sha256((folder / "text.txt").read_bytes()).hexdigest()
    assert calibration.sources == (Source(text_hash, 32, 0, 3),)
    assert calibration.model_sha256 == hashlib.sha256((folder / "model.gguf").read_bytes()).hexdigest()
    assert calibration.names == linear_names(CONFIG)
    assert len(calibration.numbers) == 20
    # The inputs of each operator, by running the same windows again.
    seen: dict[str, list[np.ndarray]] = {}
    for window in windows(loaded.tokenizer.encode(WORDS), 32, 3):
        loaded.model().forward(window, observe=lambda name, x: seen.setdefault(name, []).append(np.abs(x)))
    for name in calibration.names:
        assert np.array_equal(calibration[name].maximum, np.concatenate(seen[name]).max(axis=0))

    for words, options in (
        ((), {}),
        (("--alpha", "0.8", "--fold-down"), {"alpha": 0.8, "fold_down": True}),
        (("--power-of-two",), {"rounding": "power-of-two"}),
        (("--alpha", "search"), {"alpha": "search"}),
    ):
        status, out, err = run("smooth", "model.gguf", "cal.npz", "s.npz", *words)
        assert (status, err) == (0, "")
        wanted = make_smoothing(loaded.weights, loaded.config, calibration, **options)
        smoothing = Smoothing.load(folder / "s.npz")
        assert smoothing.sha256() == wanted.sha256()
        assert smoothing.provenance == wanted.provenance
        assert out.splitlines()[0] == f"s.npz: {wanted.summary}, {len(wanted.groups)} groups"
        assert len(out.splitlines()) == (5 if "search" in words else 1)


def test_search_lists_what_was_chosen(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every group is listed with its α, or none."""
    run("calibrate", "model.gguf", "text.txt", "c2.npz", "--tokens", "32", "--window", "32")
    plain = smooth_model(folder / "model.gguf", Calibration.load(folder / "c2.npz"), alpha=0.25)
    first, *rest = plain.groups
    chosen = Smoothing((replace(first, alpha=None), *rest), plain.provenance)
    monkeypatch.setattr(smooth, "smooth_model", lambda *_args, **_options: chosen)
    status, out, _ = run("smooth", "model.gguf", "c2.npz", "s2.npz", "--alpha", "search")
    assert status == 0
    assert [line.split() for line in out.splitlines()[1:3]] == [
        ["blk.0.attn_norm", "alpha", "none"],
        ["blk.0.ffn_norm", "alpha", "0.25"],
    ]


def test_beginnings(folder: Path, run: Run) -> None:
    """With --bos every window begins with the model's token for it, which is none of the text."""
    status, *_ = run(
        "calibrate", "model.gguf", "text.txt", "b.npz", "--bos", "--tokens", "64", "--window", "16"
    )
    assert status == 0
    (source,) = Calibration.load(folder / "b.npz").sources
    assert (source.bos, source.windows) == (96, 4)
    bare = load(_write(folder / "bare.gguf", bos=False))
    with pytest.raises(CalibrationError, match="no token for the beginning"):
        calibrate_model(bare, folder / "text.txt", bos=True)


def test_parts_merge(folder: Path) -> None:
    """A calibration can start at any window; parts of a text merge to the whole."""
    loaded, text = load(folder / "model.gguf"), folder / "text.txt"
    whole = calibrate_model(loaded, text, tokens=64, window=16)
    parts = [calibrate_model(loaded, text, tokens=32, window=16, first=first) for first in (0, 2)]
    merged = parts[0].merge(parts[1])
    for name in whole.names:
        assert np.array_equal(merged[name].maximum, whole[name].maximum)
        assert np.array_equal(merged.rows(name), whole.rows(name))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("calibrate", "none.gguf", "text.txt", "o.npz"), "none.gguf"),
        (("calibrate", "model.gguf", "none.txt", "o.npz"), "none.txt: No such file"),
        (("calibrate", "model.gguf", "text.txt", "o.npz"), "text.txt: expected 32 windows of 512 tokens"),
        (
            ("calibrate", "model.gguf", "text.txt", "o.npz", "--tokens", "9"),
            "9 tokens are less than one window",
        ),
        (
            ("calibrate", "model.gguf", "text.txt", "none/o.npz"),
            "none/o.npz: the folder does not exist or cannot be written to",
        ),
        (("smooth", "model.gguf", "none.npz", "o.npz"), "none.npz: No such file"),
        (("smooth", "model.gguf", "text.txt", "o.npz"), "text.txt: not an archive"),
        (
            ("smooth", "model.gguf", "text.txt", "none/o.npz"),
            "none/o.npz: the folder does not exist or cannot be written to",
        ),
    ],
)
def test_refused(folder: Path, run: Run, words: tuple[str, ...], message: str) -> None:
    """What cannot be used is named, with exit status 2 and no result."""
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert err.startswith("q8a8: ")
    assert message in err
    assert not (folder / "o.npz").exists()


def test_another_model(folder: Path, run: Run) -> None:
    """A calibration of another file is refused: its factors would be for other weights."""
    run("calibrate", "model.gguf", "text.txt", "c3.npz", "--tokens", "16", "--window", "16")
    _write(folder / "other.gguf", bos=False)
    status, _, err = run("smooth", "other.gguf", "c3.npz", "o.npz")
    assert status == 2
    assert "other.gguf: the calibration is of another model, with sha256 " in err
    with pytest.raises(CalibrationError, match="of another model"):
        smooth_model(folder / "other.gguf", Calibration.load(folder / "c3.npz"))


@pytest.mark.parametrize("words", [("--alpha", "1.5"), ("--alpha", "nan"), ("--alpha", "best")])
def test_no_alpha(run: Run, words: tuple[str, ...]) -> None:
    """An α that is none is wrong usage."""
    status, _, err = run("smooth", "model.gguf", "c.npz", "o.npz", *words)
    assert status == 2
    assert "neither a number from 0 to 1 nor 'search'" in err


@pytest.mark.parametrize("words", [("--tokens", "0"), ("--window", "-1"), ("--window", "x")])
def test_no_count(run: Run, words: tuple[str, ...]) -> None:
    """Counts are positive."""
    assert run("calibrate", "model.gguf", "text.txt", "o.npz", *words)[0] == 2


def test_a_full_disk(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the result cannot be written, it is named."""

    def full(*_args: object, **_arrays: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    status, _, err = run("calibrate", "model.gguf", "text.txt", "o.npz", "--tokens", "16", "--window", "16")
    assert (status, err) == (6, "q8a8: o.npz: No space left on device\n")


def test_progress(run: Run, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A terminal shows how far the work is; without tqdm it shows nothing, and the work is done."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    words = ("calibrate", "model.gguf", "text.txt", "p.npz", "--tokens", "32", "--window", "16")
    steps: list[float] = []

    class Bar(tqdm.tqdm):  # type: ignore[misc] # the package has no types
        """Keeps what it is told."""

        def update(self, n: float) -> None:
            """Go on."""
            steps.append(n)
            super().update(n)

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    status, _, err = run(*words)
    assert status == 0
    assert "0/2" in err
    assert steps == [1, 1]
    monkeypatch.setitem(sys.modules, "tqdm", None)
    status, _, err = run(*words)
    assert (status, err) == (0, "")
    assert (folder / "p.npz").exists()


def test_outliers() -> None:
    """The largest outlier is the largest channel beside its own input's median, dead inputs included."""

    def of(**maxima: list[float]) -> tuple[str, int, float, float]:
        statistics = {
            name: Statistics(np.array(values, np.float32), np.array(values), 1)
            for name, values in maxima.items()
        }
        return largest_outlier(Calibration("m", (), statistics, np.empty(0, np.uint64), {}))

    assert of(a=[1, 8, 2], b=[100, 90, 300]) == ("a", 1, 8, 4)
    assert of(a=[1, 8, 2], b=[0, 0, 0.5]) == ("b", 2, 0.5, float("inf"))
    assert of(a=[0, 0, 0]) == ("a", 0, 0, 1)


def test_the_command_line_knows_them(capsys: pytest.CaptureFixture[str]) -> None:
    """`q8a8 calibrate` and `q8a8 smooth` are there."""
    assert cli.main(["calibrate", "--help"]) == 0
    assert "TEXT" in capsys.readouterr().out
    assert cli.main(["smooth", "--help"]) == 0
    assert "--fold-down" in capsys.readouterr().out
