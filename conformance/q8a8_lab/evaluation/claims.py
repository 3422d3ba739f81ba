"""The page of claims: each figure of documents 000 to 004, with what became of it.

::

    python -m q8a8_lab.evaluation.claims --measure               weights of the real model -> measured/
    python -m q8a8_lab.evaluation.claims --markdown docs/model/claims.md --korean docs-ko/model/claims.md
    python -m q8a8_lab.evaluation.claims --uncovered FOLDER      lines of the documents that no row has

The page is made from the table of claims, the shapes of models, and the measurements in
`docs/model/measured/`: what ``make evaluate`` wrote, two outputs of a real llama-bench, and the errors of the
real model's weights. The same measurements give the same page.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8 import dequantize_row, quantize_row
from q8a8.atomic import write_text
from q8a8_evaluation.llamacpp_logs import BenchRow, LogError, parse_bench
from q8a8_lab.evaluation import assets
from q8a8_lab.evaluation.claims_korean import KOREAN
from q8a8_lab.evaluation.claims_notes import NOTES
from q8a8_lab.evaluation.claims_table import CLAIMS as REPORTS
from q8a8_lab.evaluation.claims_table import Claim, Verdict, Words
from q8a8_lab.evaluation.shapes import MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CLAIMS", "ENGLISH", "facts", "main", "measure_weights", "render", "shape_facts", "uncovered"]

CLAIMS = (*REPORTS, *NOTES)
"""Every claim, by document and line."""

MEASURED = Path("docs/model/measured")
COMMAND = "python -m q8a8_lab.evaluation.claims --markdown docs/model/claims.md"

_HEAD = f"""\
<!-- Made by `{COMMAND}`; not to be edited by hand. -->

# Claims of the design documents

Documents 000 to 004 hold figures that nobody had measured. Each is set here against a measurement, a
computation or a published source. Lines are those of the documents; sentences are shortened and translated.

- **confirmed**, **refuted**: with the figure that does it.
- **not testable here**: it needs hardware, code or a model that is not to be had; the finding says which, and
  what is known all the same.

Sizes are computed from the shapes of the models' tensors (`q8a8_lab.evaluation.shapes`), not from a
ratio. GB is 10⁹ bytes, GiB 2³⁰. Perplexities are those of [the evaluation](evaluation.md), with their paired
standard errors; speeds are llama-bench's, in one run on a small shared machine: their ratio says little about
another.
"""


ENGLISH = Words(
    head=_HEAD,
    counts=("verdict", "claims"),
    columns=("lines", "claim", "verdict", "finding"),
    titles={
        "000": "## Document 000: the plan",
        "001": "## Document 001: status and performance",
        "002": "## Document 002: the linking guide",
        "003": "## Document 003: notes on quantization",
        "004": "## Document 004: a lecture on quantization",
    },
    verdicts={verdict: verdict.value for verdict in Verdict},
    texts={(claim.document, claim.lines): (claim.says, claim.finding) for claim in CLAIMS},
)
"""The page's words in English."""


def render(values: Mapping[str, str], words: Words = ENGLISH) -> str:
    """Return the page, as Markdown.

    Parameters
    ----------
    values
        The facts by name.
    words
        The words in the page's language.
    """
    lines = [words.head, f"| {' | '.join(words.counts)} |", "| --- | --: |"]
    counts = {verdict: sum(claim.verdict is verdict for claim in CLAIMS) for verdict in Verdict}
    lines += [f"| {words.verdicts[verdict]} | {count} |" for verdict, count in counts.items()]
    for document, title in words.titles.items():
        lines += ["", title, "", f"| {' | '.join(words.columns)} |", "| --- | --- | --- | --- |"]
        lines += [_row(claim, values, words) for claim in CLAIMS if claim.document == document]
    return "\n".join(lines) + "\n"


def _row(claim: Claim, values: Mapping[str, str], words: Words) -> str:
    says, finding = words.texts[claim.document, claim.lines]
    cells = (claim.lines, says, f"**{words.verdicts[claim.verdict]}**", finding.format_map(values))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def shape_facts() -> dict[str, str]:
    """Return the facts that follow from shapes alone."""
    found = {"block_saving": _percent(1 - 34 / 64), "block_ratio": f"{64 / 34:.2f}"}
    for suffix, name in (("7b", "Llama-7B"), ("13b", "Llama-13B"), ("30b", "Llama-30B")):
        shape = MODELS[name]
        found[f"f16_{suffix}"] = _gb(shape.f16_bytes())
        found[f"q8_{suffix}"] = _gb(shape.q8_a8_bytes(tables=True))
        found[f"saving_{suffix}"] = _percent(1 - shape.q8_a8_bytes(tables=True) / shape.f16_bytes())
        found[f"saving_{suffix}_linear"] = _percent(1 - shape.q8_a8_bytes(tables=False) / shape.f16_bytes())
        found[f"parameters_{suffix}"] = f"{shape.parameters / 1e9:.1f}"
    large, small = MODELS["Llama-7B"], MODELS["SmolLM2-135M"]
    weights = large.q8_a8_bytes(tables=True)
    found["gib_7b"] = _gib(weights)
    found["kv_7b"] = _gib(large.kv_cache_bytes(4096))
    found["sum_7b"] = _gib(weights + large.kv_cache_bytes(4096))
    found["sum_7b_2048"] = _gib(weights + large.kv_cache_bytes(2048))
    found["activation_7b"] = f"{large.activation_row_bytes():,}"
    found["activation_smollm"] = f"{small.activation_row_bytes():,}"
    found["saving_smollm_linear"] = _percent(1 - small.q8_a8_bytes(tables=False) / small.f16_bytes())
    return found


def measure_weights(model: Path) -> dict[str, Any]:
    """Quantize every linear weight of a model, and measure what is lost.

    Parameters
    ----------
    model
        A GGUF file.

    Returns
    -------
    dict
        `tensors`, and the least and the greatest of their mean squared errors (`mse`) and of their ratios of
        signal to noise in dB (`snr`).
    """
    from q8a8.ggufio import is_linear, open_model  # noqa: PLC0415 - the extra `model`

    errors, ratios = [], []
    with open_model(model) as source:
        for name in source.tensors:
            if not is_linear(name):
                continue
            weight = source.read(name)
            error = dequantize_row(quantize_row(weight)).astype(np.float64) - weight
            errors.append(float(np.mean(error**2)))
            ratios.append(10 * float(np.log10(np.mean(weight.astype(np.float64) ** 2) / errors[-1])))
    return {
        "tensors": len(errors),
        "mse": [min(errors), max(errors)],
        "snr": [min(ratios), max(ratios)],
    }


def facts(measured: Path) -> dict[str, str]:
    """Return every fact that the findings name.

    Parameters
    ----------
    measured
        The folder with `evaluation.json`, `weights.json`, and llama-bench's output for F16 and Q8_A8 files,
        `llama-bench-f16.json` and `llama-bench-q8_a8.json`.

    Raises
    ------
    OSError, ValueError, KeyError
        A measurement is missing or is not what it should be.
    """
    found = shape_facts()
    weights = json.loads((measured / "weights.json").read_text(encoding="utf-8"))
    found["mse_count"] = str(weights["tensors"])
    found["mse_least"], found["mse_most"] = (f"{value:.1e}" for value in weights["mse"])
    found["snr_least"], found["snr_most"] = (f"{value:.0f}" for value in weights["snr"])
    f16, q8 = (
        parse_bench((measured / name).read_text(encoding="utf-8"), name)
        for name in ("llama-bench-f16.json", "llama-bench-q8_a8.json")
    )
    found["bench_cpu"] = json.loads((measured / "llama-bench-f16.json").read_text())[0]["cpu_info"]
    found["bench_prompt"] = _one(f16, "pp").test.removeprefix("pp")
    for kind in ("pp", "tg"):
        ratio = _one(q8, kind).tokens_per_second / _one(f16, kind).tokens_per_second
        found[f"bench_{kind}"] = f"{ratio:.2f}"
    found["file_saving"] = _percent(1 - q8[0].size / f16[0].size)
    evaluation = json.loads((measured / "evaluation.json").read_text(encoding="utf-8"))
    changes = {each["scheme"]: each for each in evaluation["schemes"]}
    for scheme in _SCHEMES:
        change = changes[scheme]
        found[scheme.replace("+", "_").replace("-", "_")] = (
            f"{change['delta_percent']:+.2f} % ± {change['delta_error_percent']:.2f}"
        )
    for scheme in ("int4-g32", "int4-g128"):
        found[f"bits_{scheme.replace('-', '_')}"] = f"{changes[scheme]['weight_bits']:.2f}"
    found["gb_70b"] = f"{70 * changes['int4-g128']['weight_bits'] / 8:.1f}"
    found["cache_float"] = f"{changes['float']['cache_bytes']:,}"
    found["cache_kv_int8"] = f"{changes['kv-int8']['cache_bytes']:,}"
    return found


def uncovered(document: str, text: str) -> list[tuple[int, str]]:
    """Return the lines of a document that no claim names: number and text, of those with a digit or a letter.

    Which of them claim anything is for a reader to say: headings, code and definitions do not.
    """
    named: set[int] = set()
    for claim in CLAIMS:
        if claim.document == document:
            for first, last in re.findall(r"(\d+)(?:–(\d+))?", claim.lines):
                named.update(range(int(first), int(last or first) + 1))
    lines = enumerate(text.splitlines(), 1)
    return [(number, line) for number, line in lines if number not in named and re.search(r"\w", line)]


_SCHEMES = (
    "w8a16",
    "q8_a8",
    "q8_a8+smooth",
    "q8_a8+smooth-down",
    "w8a8-channel",
    "w8a8-channel+smooth-down",
    "w8a8-tensor",
    "int4-g32",
    "int4-g128",
    "llm-int8",
    "kv-int4",
    "rtn-int4-g64",
    "gptq-int4-g64",
    "gptq-int4-g64-act",
    "awq-int4-g64",
    "fp8-e4m3-tensor",
    "fp8-e5m2-tensor",
)


def _one(rows: Sequence[BenchRow], kind: str) -> BenchRow:
    found = [row for row in rows if row.test.startswith(kind)]
    if len(found) != 1:
        raise LogError(f"{len(found)} tests {kind}; one is expected")
    return found[0]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or write the page. The exit status."""
    parser = argparse.ArgumentParser(description="The claims of the design documents, checked.")
    parser.add_argument(
        "--measured", type=Path, default=MEASURED, metavar="FOLDER", help="[default: %(default)s]"
    )
    parser.add_argument("--measure", action="store_true", help="measure the weights of the real model first")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page")
    parser.add_argument("--korean", type=Path, metavar="FILE", help="write the page in Korean")
    parser.add_argument("--uncovered", type=Path, metavar="FOLDER", help="with the documents, 000_….md")
    options = parser.parse_args(argv)
    if options.uncovered:
        for path in sorted(options.uncovered.glob("[0-9][0-9][0-9]_*.md")):
            for number, line in uncovered(path.name[:3], path.read_text(encoding="utf-8")):
                sys.stdout.write(f"{path.name}:{number}: {line}\n")
    if options.measure:
        text = json.dumps(measure_weights(assets.model()), indent=1)
        write_text(text + "\n", options.measured / "weights.json")
    if options.markdown:
        write_text(render(facts(options.measured)), options.markdown)
    if options.korean:
        write_text(render(facts(options.measured), KOREAN), options.korean)
    return 0


if __name__ == "__main__":
    sys.exit(main())
