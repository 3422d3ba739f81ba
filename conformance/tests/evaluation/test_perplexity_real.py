"""The small form of the evaluation: two windows of the real model, through the commands themselves."""

from __future__ import annotations

import argparse
import functools
import json
import math
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import pytest

from q8a8.llama import LoadedModel, load
from q8a8.schemes.table import SCHEMES as TABLE
from q8a8_conformance.report.schema import load_schema
from q8a8_evaluation.commands import perplexity
from q8a8_evaluation.commands.perplexity import add_parser, scheme_names
from q8a8_evaluation.measure import Protocol
from q8a8_lab.evaluation import assets, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMES = ["w8a16", "q8_a8", "q8_a8+smooth"]


@functools.cache
def _load(path: Path) -> LoadedModel:
    """Read a model once for all tests here."""
    return load(path)


@pytest.fixture(autouse=True, scope="module")
def _loaded_once() -> Iterator[None]:
    """Let the commands read the model once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perplexity, "load", _load)
        patch.setattr(run, "load", _load)
        yield
    _load.cache_clear()


def _options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return parser.parse_args(["perplexity", *words])


@pytest.fixture(scope="module")
def measured(
    real_model: Path, wikipedia: Path, news: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """Return the folder of a run over two windows of 128 tokens, and the words of its command."""
    folder = tmp_path_factory.mktemp("measured")
    words = [str(real_model), str(wikipedia), "--scheme", ",".join(SCHEMES)]
    words += ["--windows", "2", "--window", "128", "--calibration", str(news), "--calibration-windows", "2"]
    words += [
        "--json",
        str(folder / "p.json"),
        "--nll",
        str(folder / "p.npz"),
        "--resume",
        str(folder / "kept"),
    ]
    assert perplexity.run(_options(*words)) == 0
    return folder, words


@pytest.fixture(scope="module")
def found(measured: tuple[Path, list[str]]) -> dict[str, Any]:
    """Return the report."""
    document: dict[str, Any] = json.loads((measured[0] / "p.json").read_text(encoding="utf-8"))
    return document


def test_fits_the_published_schema(found: dict[str, Any]) -> None:
    """The report fits its schema, and without its protocol it does not."""
    jsonschema.validate(found, load_schema("perplexity"))
    with pytest.raises(jsonschema.ValidationError, match="'protocol' is a required property"):
        jsonschema.validate(
            {name: found[name] for name in found if name != "protocol"}, load_schema("perplexity")
        )


def test_the_numbers_belong_together(measured: tuple[Path, list[str]], found: dict[str, Any]) -> None:
    """Perplexities and changes are those of the tokens' log-likelihoods, computed here once more."""
    assert found["protocol"]["counted"] == [127, 127]
    with np.load(measured[0] / "p.npz") as archive:
        nlls = {name: archive[name] for name in archive.files}
    assert list(nlls) == ["float", *SCHEMES]
    for each in found["schemes"]:
        ours, base = nlls[each["scheme"]], nlls["float"]
        assert ours.shape == (2, 127)
        assert each["perplexity"] == pytest.approx(math.exp(ours.mean()), rel=1e-12)
        assert each["window_nll"] == pytest.approx(ours.sum(axis=1), rel=1e-12)
        means = (ours - base).mean(axis=1)
        ratio = math.exp(means.mean())
        assert each["delta_percent"] == pytest.approx(100 * (ratio - 1), rel=1e-9, abs=1e-9)
        # Two windows: s/√2 is half their difference.
        error = 100 * ratio * abs(means[0] - means[1]) / 2
        assert each["delta_error_percent"] == pytest.approx(error, rel=1e-9, abs=1e-9)


def test_the_real_model_predicts_and_8_bits_hardly_change_it(found: dict[str, Any]) -> None:
    """The float model is far better than a guess among 49,152 tokens; 8 bits cost it a few percent at most.

    Two windows cannot show the third scheme better than the second: `make evaluate` has more.
    """
    schemes = {each["scheme"]: each for each in found["schemes"]}
    assert 10 < schemes["float"]["perplexity"] < 50
    for name in SCHEMES:
        assert schemes[name]["delta_percent"] - 2 * schemes[name]["delta_error_percent"] < 1
        assert abs(schemes[name]["delta_percent"]) < 3
        assert schemes[name]["weight_bits"] == 8.5
        assert schemes[name]["weight_bytes"] == schemes["float"]["weight_bytes"] * 8.5 / 32


def test_resumes_and_prints_a_table(
    measured: tuple[Path, list[str]], found: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Run again, everything is known; the report is the same, and the table says it."""
    folder, words = measured
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "kept").iterdir()}
    assert perplexity.run(_options(*words)) == 0
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "kept").iterdir()} == before
    assert json.loads((folder / "p.json").read_text(encoding="utf-8")) == found
    out = capsys.readouterr().out.splitlines()
    assert "2 windows of 128 tokens, 254 predictions, head in float" in out[0]
    assert out[1].startswith("arithmetic: NumPy")
    assert [line.split()[0] for line in out[4 : 5 + len(SCHEMES)]] == ["float", *SCHEMES]
    assert [line.split()[0] for line in out[7 + len(SCHEMES) :]] == list(SCHEMES)


def test_divergence_from_float(found: dict[str, Any]) -> None:
    """Float is not compared with itself; 8 bits keep most of the most probable tokens."""
    float_model, *others = found["schemes"]
    assert float_model["divergence"] is None
    for each in others:
        apart = each["divergence"]
        assert 0 < apart["kl"] < 0.2
        assert apart["kl"] < apart["largest_kl"]
        assert 85 < apart["same_top_percent"] < 100
        assert 0 < apart["largest_drop_percent"] < 100


def test_refuses_with_a_reason(
    real_model: Path, news: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model or a text that is not there, windows that are too long: status 2, and the reason."""
    missing = tmp_path / "missing"
    assert perplexity.run(_options(str(missing), str(news))) == 2
    assert "missing" in capsys.readouterr().err
    assert perplexity.run(_options(str(real_model), str(missing))) == 2
    assert "missing" in capsys.readouterr().err
    assert perplexity.run(_options(str(real_model), str(news), "--window", "999999")) == 2
    assert "less than one window" in capsys.readouterr().err


def test_names_of_schemes(capsys: pytest.CaptureFixture[str]) -> None:
    """Names are separated by commas, all is every one, and another is refused with those that there are."""
    assert scheme_names("q8_a8, w8a16") == ["q8_a8", "w8a16"]
    assert scheme_names("all") == list(TABLE)
    with pytest.raises(SystemExit) as end:
        _options("m", "t", "--scheme", "q9")
    assert end.value.code == 2
    assert "no scheme is called 'q9'; " in capsys.readouterr().err


@pytest.fixture
def small(measured: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let `make evaluate` use the two windows that were measured, and return the folder of what is known."""
    monkeypatch.setattr(
        run, "Protocol", lambda _window, windows, **_options: Protocol(128, windows, divergence=True)
    )
    monkeypatch.setattr(run, "CALIBRATION_WINDOWS", 2)
    return measured[0] / "kept"


def test_writes_the_page(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page, its plots and the report appear; the status is that of the gate."""
    page = tmp_path / "docs" / "model" / "evaluation.md"
    words = ["--markdown", str(page), "--windows", "2", "--schemes", ",".join(SCHEMES), "--cache", str(small)]
    status = run.main(words)
    report = json.loads((page.parent / "measured" / "evaluation.json").read_text(encoding="utf-8"))
    assert status == (0 if all(check["passed"] for check in report["gate"]) else 1)
    assert len(report["gate"]) == 2
    jsonschema.validate(report, load_schema("perplexity"))
    text = page.read_text(encoding="utf-8")
    for name in ("evaluation-changes.svg", "evaluation-bits.svg"):
        assert (tmp_path / "docs" / "assets" / name).is_file()
        assert f"../assets/{name}" in text
    out = capsys.readouterr().out
    assert out.count("holds: ") + out.count("BROKEN: ") == 2


def test_a_broken_gate_is_a_failure(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit that nothing can keep the exit status is 1."""
    monkeypatch.setattr("q8a8_lab.evaluation.verdicts.LIMIT", -50.0)
    assert run.main(["--windows", "2", "--schemes", "q8_a8", "--cache", str(small)]) == 1


def test_says_what_cannot_be_fetched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the model there is a reason and status 1."""

    def unavailable() -> Path:
        raise assets.AssetUnavailableError("no network")

    monkeypatch.setattr(assets, "model", unavailable)
    assert run.main(["--windows", "2"]) == 1
    assert "evaluate: no network" in capsys.readouterr().err
