"""The page: made from results by hand here, and the one in docs/ is what the command makes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from q8a8_lab.peers import families, page, results
from q8a8_lab.peers.compare import DotCount, FamilyCount
from q8a8_lab.peers.kernels import QUANTIZE

PAGE = Path(__file__).parents[4] / "docs" / "peers.md"


def _leg() -> results.LegResult:
    rules = {"pass": 2, "fail": 1}
    causes = {"f": {"order:avx2": (5, 6)}}
    verdict = results.Verdict("kernel", "does-not-conform", 1, rules, ("Q8A8-DOT-1",), causes)
    return results.LegResult(
        name="x86",
        title="a kernel",
        files={"wheel 1: library.so": "ab" * 32},
        families=[FamilyCount(QUANTIZE, "ggml-avx2", family, 1000, 3) for family in families.FAMILIES],
        dots=[
            DotCount("avx2", "int8", 1, 200, 0),
            DotCount("avx2", "quantized", 1, 200, 0),
            DotCount("avx2", "int8-128", 1, 100, 7, "sign-128", 90),
        ],
        orders=("avx2",),
        wrong_products=128,
        beyond={QUANTIZE: {"1e-40": "h = 0, q = 0, 0, 0"}},
        verdicts=[verdict],
    )


def _build(**changes: object) -> results.BuildResult:
    result = results.BuildResult("gcc-i8mm", "aarch64", "GNU 12", "armv8.6-a+i8mm", "max", ggml="0.25")
    result.expected = {"1": "neon-dotprod-gcc", "2": "i8mm"}
    result.orders = {"1": ("neon-dotprod-gcc",), "2": ("scalar", "i8mm")}
    result.families = [FamilyCount(QUANTIZE, "ggml-neon", "bf16", 1000, 0)]
    result.dots = [DotCount("i8mm", "int8", 2, 100, 0)]
    for name, value in changes.items():
        setattr(result, name, value)
    return result


def test_what_differs_is_on_the_page() -> None:
    """Counts are summed: six families of three bytes and seven bits, and each is in its table."""
    share = {"design": 0.25, "ggml-neon": 1.0, "ggml-avx2": 0.0, "division": 0.5}
    shares = dict.fromkeys(families.FAMILIES, share)
    text = page.render([_leg()], [_build()], shares, 1000)
    assert "**25 of 238,000 bytes of 7,000 blocks" in text
    assert "| `quantize_row_q8_0` | `ggml-avx2` | 1,000 | 3 | 3 | 3 | 3 | 3 | 3 |" in text
    assert "7 of 100 x 32" in text
    assert "90 of 100 rows" in text
    assert "| gaussian | 25.0 % | 100 % | 0 % | 50.0 % |" in text
    assert "DOT-1" in text
    assert "`order:avx2` (5 of 6)" in text
    assert "nrc = 2: `scalar` = `i8mm`" in text


def test_what_was_not_run_is_said() -> None:
    """A build that this machine cannot run is a row with the reason; no builds, no section."""
    text = page.render([_leg()], [_build(not_run="no such CPU")], {}, 1000)
    assert "| `gcc-i8mm` | GNU 12 | `armv8.6-a+i8mm` | not run: no such CPU |" in text
    assert "built from source" not in page.render([_leg()], [], {}, 1000).split("## Peers")[1]


def test_tables_are_tables() -> None:
    """Every row of a table has as many cells as its head."""
    text = page.render([_leg()], [_build(), _build(not_run="x")], {}, 10)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"orders": {"1": ("neon-dotprod-gcc",), "2": ("scalar",)}}, False),
        ({"dots": [DotCount("i8mm", "int8", 2, 100, 1)]}, False),
        ({"families": [FamilyCount(QUANTIZE, "ggml-neon", "bf16", 1000, 1)]}, False),
        ({"wrong_products": 128}, False),
        ({"wrong_products": 128, "flawed": True}, True),
        ({"dots": []}, False),
    ],
)
def test_a_build_passes_when_all_is_as_expected(changes: dict[str, object], passed: bool) -> None:
    """Another order, a bit, a byte, an error that should not be there, nothing compared: each fails."""
    assert _build(**changes).passed is passed


def test_results_survive_the_file(tmp_path: Path) -> None:
    """What is saved is what is loaded; nothing saved is nothing found."""
    file = tmp_path / "builds" / "builds.json"
    assert results.load_builds(file) == []
    results.save_builds([_build(), _build(not_run="x")], file)
    assert results.load_builds(file) == [_build(), _build(not_run="x")]


def test_the_page_in_docs_is_the_commands() -> None:
    """It has the sections that the command writes, nothing differs, and no path or host is on it."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith(page.HEAD)
    assert text.count("**0 of ") == 1
    for section in ("Peers", "Quantizers", "Dot products", "What `q8a8 test` says", "built from source"):
        assert section in text
    assert "/home" not in text
    assert "/root" not in text
    assert "/work" not in text
