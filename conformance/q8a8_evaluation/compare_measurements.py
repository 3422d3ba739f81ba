"""``q8a8 compare`` for measurements of a model: perplexities, and speeds with sizes.

Document 002's comparison, done so that a number stands only where both sides have it. Read are

- ``q8a8 perplexity --json`` and ``q8a8 bench-model --json`` (``FILE#SCHEME`` picks one of several schemes),
- llama-perplexity's output, both its streams, and llama-bench's (`q8a8_evaluation.llamacpp_logs`).

Two perplexities are compared only where windows and their lengths are the same, ours also only on the same
text and protocol; the standard error of their ratio is then the paired one. Two speeds are compared test by
test. What one side lacks is noted, never printed as None.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q8a8.schemes.table import SCHEMES
from q8a8_conformance.report import html
from q8a8_conformance.report.schema import ReportError, parse
from q8a8_evaluation.llamacpp_logs import (
    LogError,
    is_bench_output,
    is_perplexity_log,
    parse_bench,
    parse_perplexity,
)
from q8a8_evaluation.statistics import ratio_of_sums

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "FORMAT",
    "WRITERS",
    "PerplexityRun",
    "RunComparison",
    "SpeedRun",
    "as_html",
    "as_json",
    "compare_runs",
    "markdown",
    "perplexity_run",
    "read_run",
    "speed_run",
    "text",
]

FORMAT = 1


@dataclass(frozen=True)
class PerplexityRun:
    """A measured perplexity.

    Attributes
    ----------
    name
        File, and scheme where it has several.
    perplexity
        The value.
    sums
        Negative log-likelihood of each window in nats: the sum over its counted tokens.
    counts
        Counted tokens of each window.
    protocol
        What must be the same on the other side, where it is known there.
    """

    name: str
    perplexity: float
    sums: tuple[float, ...]
    counts: tuple[int, ...]
    protocol: Mapping[str, object]


@dataclass(frozen=True)
class SpeedRun:
    """Measured speeds.

    Attributes
    ----------
    name
        File, and scheme where it has several.
    speeds
        Tokens a second by test: pp512 a prompt of 512 tokens, tg64 64 tokens generated.
    size
        Bytes of the tensors; None where that is not known.
    protocol
        As for perplexities.
    """

    name: str
    speeds: Mapping[str, float]
    size: int | None
    protocol: Mapping[str, object]


@dataclass(frozen=True)
class RunComparison:
    """Two measurements of one kind.

    Attributes
    ----------
    a, b
        What they are called.
    perplexities
        A's and B's; empty for speeds.
    change_percent, error_percent
        B over A, less 1, and its paired standard error (None for a single window).
    speeds
        By test: A's, B's, in tokens a second.
    sizes
        A's and B's bytes, where both are known.
    memories
        A's and B's resident bytes, where both are known.
    notes
        What is on one side alone, or not known to be the same.
    """

    a: str
    b: str
    perplexities: tuple[float, ...] = ()
    change_percent: float | None = None
    error_percent: float | None = None
    speeds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()
    memories: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def read_run(word: str) -> PerplexityRun | SpeedRun | None:
    """Read a measurement; None for a file of another kind.

    Parameters
    ----------
    word
        A file, or ``FILE#SCHEME``.

    Raises
    ------
    ReportError, LogError
        The file cannot be read, is cut short or not what it seems to be, or the scheme is not in it.
    """
    path, scheme = Path(word), None
    if not path.exists() and "#" in word:
        file, scheme = word.rsplit("#", 1)
        path = Path(file)
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if is_bench_output(content):
        return _whole(_bench(content, str(path)), scheme)
    if is_perplexity_log(content):
        return _whole(_log(content, str(path)), scheme)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    kind = document.get("kind") if isinstance(document, dict) else None
    if kind not in ("perplexity", "bench-model"):
        return None
    document = parse(content.encode(), str(path), kind)
    entry = _pick(document["schemes"], scheme, str(path))
    name = f"{path}#{entry['scheme']}"
    return (perplexity_run if kind == "perplexity" else speed_run)(document, entry, name)


def _whole(run: PerplexityRun | SpeedRun, scheme: str | None) -> PerplexityRun | SpeedRun:
    """Refuse a scheme for a tool's output, which has none."""
    if scheme is not None:
        raise ReportError(
            f"{run.name}: no scheme {scheme!r} in it: it is the output of one of llama.cpp's tools"
        )
    return run


def _pick(schemes: list[dict[str, Any]], wanted: str | None, name: str) -> dict[str, Any]:
    """Return the scheme asked for, or the only one other than float."""
    names = [each["scheme"] for each in schemes]
    if wanted is None:
        quantized = [each for each in schemes if each["scheme"] != "float"] or schemes
        if len(quantized) != 1:
            raise ReportError(
                f"{name}: {len(names)} schemes: say which, as {name}#SCHEME: {', '.join(names)}"
            )
        return quantized[0]
    if wanted not in names:
        raise ReportError(f"{name}: no scheme {wanted!r} in it; there are {', '.join(names)}")
    return schemes[names.index(wanted)]


def perplexity_run(document: dict[str, Any], entry: dict[str, Any], name: str) -> PerplexityRun:
    """Take one scheme of a document of `q8a8 perplexity`."""
    protocol = dict(document["protocol"])
    counts = tuple(protocol.pop("counted"))
    return PerplexityRun(
        name,
        entry["perplexity"],
        tuple(entry["window_nll"]),
        counts,
        {"text": document["text"]["sha256"], "model": document["model"]["sha256"], **protocol},
    )


def speed_run(document: dict[str, Any], entry: dict[str, Any], name: str) -> SpeedRun:
    """Take one scheme of a document of `q8a8 bench-model`."""
    speeds = {
        f"pp{document['prompt']}": entry["prompt_tokens_per_second"],
        f"tg{document['generate'] - 1}": entry["generate_tokens_per_second"],
    }
    # A scheme is NumPy's, with one thread; rows of another name are a C kernel's or llama.cpp's.
    threads = 1 if entry["scheme"] in SCHEMES else document.get("threads", 1)
    return SpeedRun(name, speeds, entry["weight_bytes"], {"sizes of": "linear weights", "threads": threads})


def _log(content: str, name: str) -> PerplexityRun:
    found = parse_perplexity(content, name)
    # llama-perplexity counts the second half of a window but for its last token (perplexity.cpp: `first`).
    counted = max(found.n_ctx - found.n_ctx // 2 - 1, 1)
    means = found.chunk_log_likelihoods()
    return PerplexityRun(
        name,
        found.perplexity,
        tuple(counted * mean for mean in means),
        (counted,) * len(means),
        {"window": found.n_ctx, "windows": len(means)},
    )


def _bench(content: str, name: str) -> SpeedRun:
    rows = parse_bench(content, name)
    tests = [row.test for row in rows]
    for what, values in (("models", {row.model for row in rows}), ("threads", {row.threads for row in rows})):
        if len(values) > 1:
            raise LogError(f"{name}: {len(values)} {what} in one file: {', '.join(map(str, sorted(values)))}")
    if len(set(tests)) < len(tests):
        raise LogError(f"{name}: a test is there twice: {', '.join(tests)}")
    speeds = {row.test: row.tokens_per_second for row in rows}
    return SpeedRun(name, speeds, rows[0].size, {"sizes of": "all tensors", "threads": rows[0].threads})


def compare_runs(a: PerplexityRun | SpeedRun, b: PerplexityRun | SpeedRun) -> RunComparison:
    """Compare two measurements.

    Raises
    ------
    ReportError
        They are of different kinds, or of things that cannot be compared; the message says what differs.
    """
    for run in (a, b):
        values = (run.perplexity,) if isinstance(run, PerplexityRun) else run.speeds.values()
        if not all(value > 0 for value in values):
            raise ReportError(f"{run.name}: a perplexity or a speed is 0")
    if isinstance(a, PerplexityRun) and isinstance(b, PerplexityRun):
        return _perplexities(a, b)
    if isinstance(a, SpeedRun) and isinstance(b, SpeedRun):
        return _speeds(a, b)
    kinds = ["perplexities" if isinstance(run, PerplexityRun) else "speeds" for run in (a, b)]
    raise ReportError(f"{a.name} has {kinds[0]}, {b.name} has {kinds[1]}")


def _perplexities(a: PerplexityRun, b: PerplexityRun) -> RunComparison:
    for key in a.protocol.keys() & b.protocol.keys() - {"model", "head"}:
        if a.protocol[key] != b.protocol[key]:
            raise ReportError(
                f"the {key} differs: {a.protocol[key]} in {a.name}, {b.protocol[key]} in {b.name}"
            )
    notes = [
        f"not known to be the same: {', '.join(sorted(alone))}"
        for alone in [(a.protocol.keys() ^ b.protocol.keys()) - {"model", "head"}]
        if alone
    ]
    notes += [
        f"the {key} differs: {a.protocol[key]} and {b.protocol[key]}"
        for key in ("model", "head")
        if key in a.protocol and key in b.protocol and a.protocol[key] != b.protocol[key]
    ]
    ratio, error = b.perplexity / a.perplexity, None
    if a.counts == b.counts:
        log = ratio_of_sums([y - x for x, y in zip(a.sums, b.sums, strict=True)], a.counts)
        error = None if log.error is None else 100 * ratio * log.error
    else:
        notes.append(
            f"other tokens are counted: {sum(a.counts)} and {sum(b.counts)}; no paired error can be given"
        )
    return RunComparison(
        a.name,
        b.name,
        perplexities=(a.perplexity, b.perplexity),
        change_percent=100 * (ratio - 1),
        error_percent=error,
        notes=tuple(notes),
    )


def _speeds(a: SpeedRun, b: SpeedRun) -> RunComparison:
    common = {test: (a.speeds[test], b.speeds[test]) for test in a.speeds if test in b.speeds}
    if not common:
        raise ReportError(
            f"no test is in both: {', '.join(a.speeds)} in {a.name}, {', '.join(b.speeds)} in {b.name}"
        )
    notes = [
        f"in {run.name} alone: {', '.join(test for test in run.speeds if test not in common)}"
        for run in (a, b)
        if run.speeds.keys() - common.keys()
    ]
    if a.protocol["threads"] != b.protocol["threads"]:
        notes.append(f"the threads differ: {a.protocol['threads']} and {b.protocol['threads']}")
    sizes: tuple[int, ...] = ()
    if a.size and b.size and a.protocol["sizes of"] == b.protocol["sizes of"]:
        sizes = (a.size, b.size)
    else:
        notes.append("the sizes are not of the same tensors, or not known")
    return RunComparison(a.name, b.name, speeds=common, sizes=sizes, notes=tuple(notes))


def as_json(found: RunComparison) -> str:
    """Return the comparison as JSON: `report/schemas/run-comparison.json`."""
    document = {
        "format": FORMAT,
        "kind": "run-comparison",
        "a": found.a,
        "b": found.b,
        "perplexity": None,
        "speeds": [{"test": test, "a": a, "b": b, "ratio": b / a} for test, (a, b) in found.speeds.items()],
        "size": None,
        "memory": None,
        "notes": list(found.notes),
    }
    if found.perplexities:
        document["perplexity"] = {
            "a": found.perplexities[0],
            "b": found.perplexities[1],
            "change_percent": found.change_percent,
            "error_percent": found.error_percent,
        }
    for key, pair in (("size", found.sizes), ("memory", found.memories)):
        if pair:
            a, b = pair
            document[key] = {"a": a, "b": b, "change_percent": 100 * (b / a - 1)}
    return json.dumps(document, indent=2) + "\n"


def _lines(found: RunComparison) -> list[tuple[str, str, str, str]]:
    """Return the rows of the table: what, A's, B's, the change."""
    rows = []
    if found.perplexities:
        assert found.change_percent is not None  # noqa: S101 - it goes with the perplexities
        change = f"{found.change_percent:+.2f} %"
        if found.error_percent is not None and math.isfinite(found.error_percent):
            change += f" ± {found.error_percent:.2f}"
        rows.append(("perplexity", *(f"{value:.4f}" for value in found.perplexities), change))
    for test, (a, b) in found.speeds.items():
        rows.append((f"{test}, tokens a second", f"{a:.2f}", f"{b:.2f}", f"{b / a:.2f} times"))
    for what, pair in (("size", found.sizes), ("resident memory", found.memories)):
        if pair:
            a, b = pair
            rows.append((what, f"{a / 1e6:.1f} MB", f"{b / 1e6:.1f} MB", f"{100 * (b / a - 1):+.1f} %"))
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def text(found: RunComparison) -> str:
    """Return the comparison for a terminal."""
    lines = [f"A: {found.a}", f"B: {found.b}", "", f"{'':<24}{'A':>14}{'B':>14}   B against A"]
    lines += [f"{what:<24}{a:>14}{b:>14}   {change}" for what, a, b, change in _lines(found)]
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join(lines) + "\n"


def markdown(found: RunComparison) -> str:
    """Return the comparison as Markdown."""
    lines = ["| | A | B | B against A |", "| --- | --: | --: | --- |"]
    lines += ["| " + " | ".join(row) + " |" for row in _lines(found)]
    lines += ["", f"A is `{found.a}`, B is `{found.b}`."]
    lines += [f"- {note}" for note in found.notes]
    return "\n".join(lines) + "\n"


def as_html(found: RunComparison) -> str:
    """Return the comparison as one HTML page."""
    body = [
        "<h1>Two measurements</h1>",
        *html.facts([("A", found.a), ("B", found.b)]),
        *html.table(("", "A", "B", "B against A"), [tuple(map(escape, row)) for row in _lines(found)]),
        *(f"<p>{escape(note)}</p>" for note in found.notes),
    ]
    return html.page(f"{found.a} and {found.b}", body)


WRITERS: Mapping[str, Callable[[RunComparison], str]] = {
    "json": as_json,
    "markdown": markdown,
    "html": as_html,
}
"""By the option that asks for it."""
