"""The page of claims: complete, true to its measurements, and reproducible."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_lab.evaluation import claims
from q8a8_lab.evaluation.claims import CLAIMS
from q8a8_lab.evaluation.claims_korean import COMMAND, KOREAN
from q8a8_lab.evaluation.claims_table import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).parents[4] / "docs"


def test_shapes_against_the_documents() -> None:
    """The documents' sizes of 7B and 13B are those of the shapes, that of 30B is not."""
    facts = claims.shape_facts()
    assert (facts["f16_7b"], facts["q8_7b"]) == ("13.48 GB", "7.16 GB")
    assert (facts["f16_13b"], facts["q8_13b"]) == ("26.03 GB", "13.83 GB")
    assert (facts["f16_30b"], facts["q8_30b"]) == ("65.06 GB", "34.56 GB")
    assert facts["block_saving"] == "46.9 %"


def test_every_fact_is_known() -> None:
    """The page can be made from the committed measurements, and is what is committed."""
    page = claims.render(claims.facts(DOCS / "model" / "measured"))
    assert "{" not in page.split("-->", 1)[1].replace("{ #", "")
    assert page == (DOCS / "model" / "claims.md").read_text(encoding="utf-8"), claims.COMMAND


def test_korean_page() -> None:
    """The Korean page has the same claims with the same facts, and is what is committed."""
    for claim in CLAIMS:
        texts = KOREAN.texts[claim.document, claim.lines]
        names = [re.findall(r"{\w+}", text) for text in (claim.finding, texts[1])]
        assert sorted(names[0]) == sorted(names[1]), claim.says
    assert len(KOREAN.texts) == len(CLAIMS)
    page = claims.render(claims.facts(DOCS / "model" / "measured"), KOREAN)
    assert page == (DOCS.parent / "docs-ko/model/claims.md").read_text(encoding="utf-8"), COMMAND


def test_claims_are_in_the_order_of_the_documents() -> None:
    """A reader finds a document's claims together, each with its lines and a verdict."""
    assert [claim.document for claim in CLAIMS] == sorted(claim.document for claim in CLAIMS)
    assert all(re.match(r"\d+", claim.lines) for claim in CLAIMS)
    assert {claim.verdict for claim in CLAIMS} == set(Verdict)


def test_lines_without_a_row() -> None:
    """A line that no claim names is told, blank ones and rules are not."""
    text = "\n".join(["# Title", "", "---", *["x"] * 9, "y = 1"])
    assert claims.uncovered("003", text) == [(1, "# Title"), *((n, "x") for n in range(4, 12))]
    assert claims.uncovered("999", "a\n\nb") == [(1, "a"), (3, "b")]


def test_allow_shlib_undefined_hides(tmp_path: Path, need: Callable[[object, str], None]) -> None:
    """What document 002 proposes links a program that then fails, where the strict linker says so at once."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    need(compiler, "no C compiler")
    (tmp_path / "library.c").write_text("int missing(void);\nint call(void) { return missing(); }\n")
    (tmp_path / "main.c").write_text("int call(void);\nint main(void) { return call(); }\n")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=tmp_path, check=False, capture_output=True, text=True)  # noqa: S603 - the words are this test's

    cc = str(compiler)
    assert run(cc, "-shared", "-fPIC", "library.c", "-o", "liblibrary.so").returncode == 0
    link = [cc, "main.c", "-L.", "-llibrary", "-Wl,-rpath,."]
    strict = run(*link, "-o", "strict", "-Wl,--no-allow-shlib-undefined")
    assert strict.returncode != 0
    assert "missing" in strict.stderr
    assert run(*link, "-o", "lax", "-Wl,--allow-shlib-undefined").returncode == 0
    started = run("./lax")
    assert started.returncode != 0
    assert "undefined symbol: missing" in started.stderr


def test_weights_are_measured(tmp_path: Path) -> None:
    """A weight of one value loses what its scale's rounding loses, by hand."""
    pytest.importorskip("gguf")
    from gguf import GGUFWriter  # noqa: PLC0415 - where it is there

    path = tmp_path / "one.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_tensor("blk.0.attn_q.weight", np.full((2, 32), 3.0, np.float32))
    writer.add_tensor("token_embd.weight", np.ones((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = claims.measure_weights(path)
    # 3/127 as a half is 1548 · 2^-16; times 127 it is 196596 / 65536, 12 / 65536 short of 3.
    assert found["tensors"] == 1
    assert found["mse"] == [(12 / 65536) ** 2] * 2
    assert found["snr"][0] == pytest.approx(20 * np.log10(3 * 65536 / 12))
