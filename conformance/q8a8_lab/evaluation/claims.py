"""The page of claims: each figure of documents 000 to 004, with what became of it.

::

    python -m q8a8_lab.evaluation.claims --measure               weights of the real model -> measured/
    python -m q8a8_lab.evaluation.claims --markdown docs/model/claims.md --korean docs-ko/model/claims.md
    python -m q8a8_lab.evaluation.claims --lines FOLDER          sort the lines of the documents in a folder

The page is made from the table of claims, the shapes of models, and the measurements in
`docs/model/measured/`: what ``make evaluate`` wrote, two outputs of a real llama-bench, and the errors of the
real model's weights. The same measurements give the same page.

Every line of the documents is of a class, by rule: blank, heading, code, link, or statement (`line_classes`).
A statement without a row is unsorted; `--lines` says which are, keeps the classes in
`docs/model/measured/documents.json`, and fails where there is one. A test goes through that file.
"""

from __future__ import annotations

import argparse
import hashlib
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
from q8a8_lab.evaluation.claims_notes_rest import NOTES_REST
from q8a8_lab.evaluation.claims_rest import REST
from q8a8_lab.evaluation.claims_table import CLAIMS as REPORTS
from q8a8_lab.evaluation.claims_table import Claim, Verdict, Words
from q8a8_lab.evaluation.shapes import MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "CLAIMS",
    "ENGLISH",
    "facts",
    "line_classes",
    "lines_of",
    "main",
    "measure_weights",
    "named_lines",
    "render",
    "shape_facts",
]


def _place(claim: Claim) -> tuple[str, int]:
    found = re.match(r"\d+", claim.lines)
    return claim.document, int(found[0]) if found else 0


CLAIMS = tuple(sorted((*REPORTS, *REST, *NOTES, *NOTES_REST), key=_place))
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
- **only mentioned**: the document has a name or a goal, and no figure that a test could meet.

Every line of the documents that states something has a row; headings, links and lines of code that none names
are sorted out by rule (`--lines`).

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
    found |= _plan_facts(measured)
    for language in ("en", "ko"):
        report = json.loads((measured / f"evaluation-smollm2-{language}.json").read_text(encoding="utf-8"))
        (apart,) = (each["divergence"] for each in report["schemes"] if each["scheme"] == "q8_a8")
        error = apart["same_top_error_percent"]
        found[f"top_q8_{language}"] = f"{apart['same_top_percent']:.1f} % ± {error:.1f}"
    found["cache_float"] = f"{changes['float']['cache_bytes']:,}"
    found["cache_kv_int8"] = f"{changes['kv-int8']['cache_bytes']:,}"
    return found


def _plan_facts(measured: Path) -> dict[str, str]:
    """Return what was measured of document 001's plan of a benchmark, by the commands that it prints."""
    plan = json.loads((measured / "bench-plan.json").read_text(encoding="utf-8"))
    f16, q8 = plan["f16"], plan["q8_a8"]
    found = {
        "plan_first": f"{q8['first_token_seconds'] / f16['first_token_seconds']:.2f}",
        "plan_generate": f"{f16['generate_seconds'] / q8['generate_seconds']:.2f}",
        "plan_saving": _percent(1 - q8["file_bytes"] / f16["file_bytes"]),
        "plan_rss_saving": _percent(1 - q8["resident_bytes"] / f16["resident_bytes"]),
    }
    for name, each in (("f16", f16), ("q8", q8)):
        found[f"plan_file_{name}"] = f"{each['file_bytes'] / 1e6:.1f} MB"
        found[f"plan_rss_{name}"] = f"{each['resident_bytes'] / 1e6:.1f} MB"
    for name, file in (("f16", "f16"), ("q8", "q8_a8")):
        text = (measured / f"llama-perplexity-{file}.log").read_text(encoding="utf-8")
        estimate = re.search(r"Final estimate: PPL = ([\d.]+) \+/- ([\d.]+)", text)
        if estimate is None:
            raise LogError(f"llama-perplexity-{file}.log: no final estimate")
        found[f"ppl_{name}"] = f"{float(estimate[1]):.2f} ± {float(estimate[2]):.2f}"
    return found


def line_classes(text: str) -> str:
    """Return a letter for each line of a document.

    ====  ========  ===================================================================================
    `-`   blank     no letter and no digit
    `h`   heading   begins with #, is the head of a table, or introduces what follows: a bold title, or
                    a line of prose that ends in a colon
    `c`   code      within a fence, or the fence
    `l`   link      a picture or a link alone
    `s`   states    any other: it needs a row
    ====  ========  ===================================================================================
    """
    lines = text.splitlines()
    classes, fenced = [], False
    for number, line in enumerate(lines):
        bare = line.strip()
        below = lines[number + 1].strip() if number + 1 < len(lines) else ""
        if bare.startswith("```"):
            fenced = not fenced
            kind = "c"
        elif fenced:
            kind = "c"
        elif not re.search(r"\w", bare):
            kind = "-"
        elif (
            bare.startswith("#")
            or re.fullmatch(r"\|[\s|:-]+\|", below)
            or re.fullmatch(r"(?:\d+\. )?\*\*[^*|]+\*\*:?|[^`|][^|]*:", bare)
        ):
            kind = "h"
        elif re.fullmatch(r"!?\[.*\]\(\S+\)", bare):
            kind = "l"
        else:
            kind = "s"
        classes.append(kind)
    return "".join(classes)


def lines_of(claim: Claim) -> set[int]:
    """Return the lines that a row names."""
    ranges = re.findall(r"(\d+)(?:–(\d+))?", claim.lines.split(", FP16", maxsplit=1)[0])
    return {line for first, last in ranges for line in range(int(first), int(last or first) + 1)}


def named_lines(document: str) -> set[int]:
    """Return the lines of a document that some row names."""
    return {line for claim in CLAIMS if claim.document == document for line in lines_of(claim)}


def _sort_lines(folder: Path, measured: Path) -> int:
    """Keep the class of each line, and print the statements without a row; return how many there are."""
    unsorted, found = 0, {}
    for path in sorted(folder.glob("[0-9][0-9][0-9]_*.md")):
        text = path.read_text(encoding="utf-8")
        document, classes = path.name[:3], line_classes(text)
        found[document] = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "lines": classes}
        named = named_lines(document)
        for number, (kind, line) in enumerate(zip(classes, text.splitlines(), strict=True), 1):
            if kind == "s" and number not in named:
                unsorted += 1
                sys.stdout.write(f"{path.name}:{number}: {line}\n")
    write_text(json.dumps(found, indent=1) + "\n", measured / "documents.json")
    return unsorted


_SCHEMES = (
    "w8a16",
    "q8_a8",
    "q8_a8+smooth",
    "q8_a8+smooth-down",
    "w8a8-channel",
    "w8a8-channel+smooth",
    "w8a8-channel+smooth-down",
    "w8a8-tensor",
    "int4-g32",
    "int4-g128",
    "llm-int8",
    "kv-int4",
    "kv-int8",
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
    parser.add_argument("--lines", type=Path, metavar="FOLDER", help="with the documents, 000_….md")
    options = parser.parse_args(argv)
    if options.lines:
        count = _sort_lines(options.lines, options.measured)
        sys.stdout.write(f"{count} statements without a row\n")
        if count:
            return 1
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
