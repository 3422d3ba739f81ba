"""The page of claims: complete, true to its measurements, and reproducible."""

from __future__ import annotations

import json
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


def test_classes_of_lines() -> None:
    """Each rule, and what is next to it."""
    text = """\
# Title
> states
**Gains**:
- **Gains**: 3 times
1. **First**
1. First
It adds:
`Y = X`   :

---
```c
# no title
```
| a | b |
|---|--:|
| 1 | 2 |
![p](q.png)
see [p](q.png)"""
    assert claims.line_classes(text) == "hshshshs--ccch-sls"


def test_every_statement_has_a_row() -> None:
    """No line of the documents that states something is without a row, and no row names other lines alone."""
    found = json.loads((DOCS / "model" / "measured" / "documents.json").read_text(encoding="utf-8"))
    assert sorted(found) == ["000", "001", "002", "003", "004"]
    for document, each in found.items():
        named = claims.named_lines(document)
        states = {number for number, kind in enumerate(each["lines"], 1) if kind == "s"}
        assert states <= named, (document, states - named)
        assert max(named) <= len(each["lines"])
    for claim in CLAIMS:
        kinds = {found[claim.document]["lines"][number - 1] for number in claims.lines_of(claim)}
        assert kinds - {"-"}, claim.lines


def test_lines_are_sorted_from_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A statement that no row names is printed and fails; the classes and the hash are kept."""
    (tmp_path / "003_notes.md").write_text("# Notes\n\nIt is fast.\n", encoding="utf-8")
    folder = ["--lines", str(tmp_path), "--measured", str(tmp_path)]
    # Line 3 is in a row's range, line 10 in none.
    assert claims.main(folder) == 0
    assert capsys.readouterr().out == "0 statements without a row\n"
    (tmp_path / "003_notes.md").write_text("\n" * 9 + "It is fast.\n", encoding="utf-8")
    assert claims.main(folder) == 1
    assert capsys.readouterr().out == "003_notes.md:10: It is fast.\n1 statements without a row\n"
    kept = json.loads((tmp_path / "documents.json").read_text())["003"]
    assert kept["lines"] == "-" * 9 + "s"
    assert len(kept["sha256"]) == 64


def test_allow_shlib_undefined_hides(tmp_path: Path, need: Callable[[object, str], None]) -> None:
    """What document 002 proposes links a program that then fails, where the strict linker says so at once."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    need(compiler, "no C compiler")
    (tmp_path / "library.c").write_text("int missing(void);\nint call(void) { return missing(); }\n")
    (tmp_path / "main.c").write_text("int call(void);\nint main(void) { return call(); }\n")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=tmp_path, check=False, capture_output=True, text=True)

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


def test_explicit_instantiation_mends_it(tmp_path: Path, need: Callable[[object, str], None]) -> None:
    """What document 002 gives first defines the symbols that its error names, as far as they are used."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    need(compiler, "no C++ compiler")
    (tmp_path / "loader.h").write_text(
        "#include <string>\n"
        "struct llama_model_loader {\n"
        "    template<typename T> bool get_key(const std::string & key, T & result, bool required = true);\n"
        "};\n"
    )
    body = (
        '#include "loader.h"\n'
        "template<typename T>\n"
        "bool llama_model_loader::get_key(const std::string & key, T & result, bool required) {\n"
        "    result = T(key.size());\n"
        "    return required;\n"
        "}\n"
    )
    lines = "".join(
        f"template bool llama_model_loader::get_key<{kind}>(const std::string &, {kind} &, bool);\n"
        for kind in ("bool", "int", "float", "double")
    )
    (tmp_path / "main.cpp").write_text(
        '#include "loader.h"\n'
        "int main() {\n"
        "    float value = 0;\n"
        '    return llama_model_loader().get_key<float>("seven!!", value) ? int(value) : 1;\n'
        "}\n"
    )

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=tmp_path, check=False, capture_output=True, text=True)

    results = []
    for end in ("", lines):
        (tmp_path / "loader.cpp").write_text(body + end)
        assert run(str(compiler), "-shared", "-fPIC", "loader.cpp", "-o", "libloader.so").returncode == 0
        results.append(run(str(compiler), "main.cpp", "-L.", "-lloader", "-Wl,-rpath,.", "-o", "main"))
    assert results[0].returncode != 0
    assert "llama_model_loader::get_key<float>" in results[0].stderr
    assert results[1].returncode == 0
    assert run("./main").returncode == 7


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
