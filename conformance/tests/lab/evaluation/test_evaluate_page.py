"""The evaluation's page and plots, from a small report written by hand."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from q8a8.schemes.table import SCHEMES
from q8a8_lab.evaluation import page, plot, run

DOCS = Path(__file__).parents[4] / "docs"


def _scheme(name: str, perplexity: float, delta: float, error: float | None, **more: float) -> dict[str, Any]:
    scheme = SCHEMES[name]
    return {
        "scheme": name,
        "summary": scheme.summary,
        "source": scheme.source,
        "perplexity": perplexity,
        "perplexity_error": 1.5,
        "delta_percent": delta,
        "delta_error_percent": error,
        "log_ratio": delta / 100,
        "log_ratio_error": error,
        "log_ratio_token_error": 0.001,
        "weight_bits": scheme.weight_bits,
        "weight_bytes": 2**20,
        "activation_bits": scheme.activation_bits,
        "cache_bits": scheme.cache_bits,
        "cache_bytes": 3 * 2**19,
        "window_nll": [10.0, 20.0],
        "window_perplexity": [12.25, 31.0],
        "seconds": 1.0,
        **more,
    }


@pytest.fixture
def found() -> dict[str, Any]:
    """Return a report of four schemes."""
    file = {"file": "x.gguf", "sha256": "0" * 64}
    return {
        "format": 1,
        "kind": "perplexity",
        "model": file,
        "text": file,
        "protocol": {
            "window": 512,
            "windows": 2,
            "spread": True,
            "bos": False,
            "count": "all",
            "head": "float",
            "counted": [511, 511],
        },
        "calibration": {**file, "file": "news.cor", "window": 512, "windows": 32},
        "schemes": [
            _scheme("float", 20.0, 0.0, 0.0),
            _scheme("q8_a8", 20.1, 0.5, 0.1, weight_bits=8.5, activation_bits=8.5),
            _scheme("kv-int8", 20.0, -0.002, None),
            _scheme("int8-weight", 40.0, 100.0, 10.0),
        ],
        "gate": [
            {"asks": "q8_a8 costs at most 1 %", "low": 0.3, "value": 0.5, "high": 0.7, "passed": True},
            {"asks": "that", "low": 0.1, "value": 0.5, "high": 0.7, "passed": False},
        ],
    }


IMAGES = {"changes": "a.svg", "bits": "b.svg"}


def test_says_what_was_measured(found: dict[str, Any]) -> None:
    """Protocol, every scheme's row, the gate's verdicts and the files are on the page."""
    text = page.render(found, IMAGES)
    assert "2 windows of 512 tokens" in text
    assert "1,022 together" in text
    assert "32 windows of 512 tokens of `news.cor`" in text
    assert "| `float` | 20.000 |  | 32.000 | 32 | 1.0 | 1.5 |" in text
    assert "| `q8_a8` | 20.100 | +0.50 ± 0.10 | 8.500 | 8.5 | 1.0 | 1.5 |" in text
    assert "| `kv-int8` | 20.000 | -0.00 |" in text
    assert "| q8_a8 costs at most 1 % | +0.50 % | +0.30 to +0.70 % | holds |" in text
    assert "| that | +0.50 % | +0.10 to +0.70 % | **broken** |" in text
    assert "between 12.2 and 31.0" in text
    for image in IMAGES.values():
        assert f"({image})" in text


def test_compares_with_the_earlier_measurement(
    found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What differs is said to, with the reason that is known; without such schemes there is no section."""
    found["schemes"][1]["delta_percent"] = 0.9
    monkeypatch.setattr(page, "EXPLANATIONS", {"q8_a8": "because."})
    text = page.render(found, IMAGES)
    assert "| `q8_a8` | +0.55 ± 0.12 | +0.90 ± 0.10 | differs |" in text
    assert "- `q8_a8`: because." in text
    assert "| `kv-int8` | +0.01 | -0.00 | differs |" in text
    found["schemes"] = found["schemes"][:1]
    assert "earlier measurement" not in page.render(found, IMAGES)


@pytest.mark.parametrize("changes", [{"spread": False}, {"bos": True}])
def test_the_protocol_is_on_the_page(found: dict[str, Any], changes: dict[str, bool]) -> None:
    """Which windows were measured, and whether they begin with BOS, changes the text."""
    before = page.render(found, IMAGES)
    found["protocol"] |= changes
    assert page.render(found, IMAGES) != before


def test_divergence_is_on_the_page(found: dict[str, Any]) -> None:
    """Where it was measured; and which rows a machine has computed."""
    assert "Divergence" not in page.render(found, IMAGES)
    for each in found["schemes"]:
        each |= {"arithmetic": "own", "divergence": None}
    found["schemes"][1]["divergence"] = {
        "kl": 0.0123,
        "kl_error": None,
        "same_top_percent": 96.4,
        "same_top_error_percent": 0.3,
        "probability_change_percent": -0.2,
        "probability_change_error_percent": 0.1,
        "largest_drop_percent": 33.3,
    }
    text = page.render(found, IMAGES)
    assert "| `q8_a8` | 0.01230 | 96.40 ± 0.30 | -0.200 ± 0.100 | 33.3 |" in text
    assert "the same on every machine." in text
    found["schemes"][3]["arithmetic"] = "BLAS x"
    assert "on every machine, but for `int8-weight`: BLAS x." in page.render(found, IMAGES)


def test_calibration_is_on_the_page_where_there_was_one(found: dict[str, Any]) -> None:
    """Without calibration the page names no calibration text."""
    assert "news.cor" in page.render(found, IMAGES)
    found["calibration"] = None
    assert "Calibration: " not in page.render(found, IMAGES)


def test_the_page_is_sound_markdown(found: dict[str, Any]) -> None:
    """All rows of a table have as many cells as its head, and no line names a place outside the project."""
    text = page.render(found, IMAGES)
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1
    assert not re.search(r"/(work|home|tmp)/", text)


def texts(path: Path) -> list[str]:
    """Return the texts of a plot, in its order."""
    return [text for text in ET.parse(path).getroot().itertext() if text.strip()]  # noqa: S314 (our own file)


@pytest.mark.parametrize("name", ["changes", "bits"])
def test_plots_name_every_scheme(found: dict[str, Any], tmp_path: Path, name: str) -> None:
    """A plot is well-formed, and each scheme but float is in it."""
    getattr(plot, f"draw_{name}")(found["schemes"], tmp_path / "a.svg")
    assert {each["scheme"] for each in found["schemes"][1:]} <= set(texts(tmp_path / "a.svg"))


@pytest.mark.parametrize("name", ["changes", "bits"])
def test_committed_plots_are_of_the_committed_measurement(tmp_path: Path, name: str) -> None:
    """Drawn from the committed measurement, a plot has the committed one's texts and numbers of points.

    Not its bytes: another release of matplotlib may place a text elsewhere.
    """
    measured = json.loads((DOCS / "model" / "measured" / "evaluation.json").read_text(encoding="utf-8"))
    drawn, committed = tmp_path / "a.svg", DOCS / "assets" / f"evaluation-{name}.svg"
    getattr(plot, f"draw_{name}")(measured["schemes"], drawn)
    assert [text for text in texts(drawn) if text in SCHEMES] == [t for t in texts(committed) if t in SCHEMES]
    for mark in ("<path", "<use", "h0"):
        assert drawn.read_text(encoding="utf-8").count(mark) == committed.read_text(encoding="utf-8").count(
            mark
        )


def test_labels_are_moved_apart() -> None:
    """Places closer than the gap are pushed up in their order; others stay."""
    assert plot.spread([5.0, 1.0, 1.5, 1.25], 1.0) == [5.0, 1.0, 3.0, 2.0]
    assert plot.spread([], 1.0) == []


def test_the_committed_page() -> None:
    """The page is what the kept reports make."""
    measured = DOCS / "model" / "measured"
    kept = json.loads((measured / "evaluation.json").read_text(encoding="utf-8"))
    links = {name: f"../assets/evaluation-{name}.svg" for name in ("changes", "bits")}
    text = page.render(kept, links, run.others(measured), run.machine(measured))
    assert text == (DOCS / "model" / "evaluation.md").read_text(encoding="utf-8"), page.COMMAND


def test_other_models(found: dict[str, Any]) -> None:
    """A column for each report; what one lacks is left open, and more than 10,000 % is not typed out."""
    apart = {"same_top_percent": 98.04, "same_top_error_percent": None}
    first, second = (
        {**found, "schemes": [{**each, "arithmetic": "own"} for each in found["schemes"]]} for _ in "ab"
    )
    for each in (*first["schemes"], *second["schemes"]):
        each["divergence"] = None if each["scheme"] == "float" else apart
    second["schemes"] = [*second["schemes"][:2], {**second["schemes"][3], "delta_percent": 2e4}]
    text = page.render(found, {"changes": "", "bits": ""}, {"A": first, "B": second})
    assert "| A | `x.gguf` | 2 of 512 | 1022 | 20.000 | own |" in text
    assert "| `q8_a8` | +0.50 ± 0.10 | +0.50 ± 0.10 |" in text
    assert "| `kv-int8` | -0.00 |  |" in text
    assert "| `int8-weight` | +100.00 ± 10.00 | more than 10,000 |" in text
    assert "| `q8_a8` | 98.04 | 98.04 |" in text
    assert "Two models" not in page.render(found, {"changes": "", "bits": ""})
    text = page.render(found, {"changes": "", "bits": ""}, None, first)
    assert "Arithmetic: own." in text
    assert "| `float` | 20.000 |  |  |  |" in text
    assert "| `q8_a8` | 20.100 | +0.50 ± 0.10 | 98.04 | +0.50 ± 0.10 |" in text
