"""The evaluation's page and plots, from a small report written by hand."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from q8a8.schemes.table import SCHEMES
from q8a8_lab.evaluation import page, plot

if TYPE_CHECKING:
    from pathlib import Path


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
    assert "confounded" in text
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


def test_every_word_of_the_protocol(found: dict[str, Any]) -> None:
    """First windows, with BOS, without calibration: said so."""
    found["protocol"] |= {"spread": False, "bos": True}
    found["calibration"] = None
    text = page.render(found, IMAGES)
    assert "its first ones, with a token for the beginning" in text
    assert "Calibration: " not in text


def test_the_page_is_sound_markdown(found: dict[str, Any]) -> None:
    """All rows of a table have as many cells as its head, and no line names a place outside the project."""
    text = page.render(found, IMAGES)
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1
    assert not re.search(r"/(work|home|tmp)/", text)


def test_plots_are_the_same_bytes_every_time(found: dict[str, Any], tmp_path: Path) -> None:
    """Both plots are well-formed, name every scheme, and come out the same twice."""
    for name, draw in (("changes", plot.draw_changes), ("bits", plot.draw_bits)):
        first, second = tmp_path / f"{name}1.svg", tmp_path / f"{name}2.svg"
        draw(found["schemes"], first)
        draw(found["schemes"], second)
        assert first.read_bytes() == second.read_bytes()
        texts = "".join(ET.parse(first).getroot().itertext())  # noqa: S314 (our own file)
        for each in found["schemes"][1:]:
            assert each["scheme"] in texts


def test_labels_are_moved_apart() -> None:
    """Places closer than the gap are pushed up in their order; others stay."""
    assert plot.spread([5.0, 1.0, 1.5, 1.25], 1.0) == [5.0, 1.0, 3.0, 2.0]
    assert plot.spread([], 1.0) == []
