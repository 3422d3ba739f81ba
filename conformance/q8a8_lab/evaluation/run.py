"""``make evaluate``: every scheme on the real model, the page with its plots, and the gate.

::

    python -m q8a8_lab.evaluation.run --markdown docs/model/evaluation.md [--windows N]
    python -m q8a8_lab.evaluation.run --render --markdown docs/model/evaluation.md
    python -m q8a8_lab.evaluation.run --model gemma3 --text korean --json FILE --schemes q8_a8,w8a16

Results are kept in `.cache/evaluate`, window by window, by what they depend on: a run that was stopped goes
on where it was, and one after a change measures again only what the change can have changed.

`--render` writes the page from the reports that are kept beside it, without measuring.

Exit status: 0, the gate holds; 1, it is broken, or something cannot be measured; 2, usage.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q8a8.atomic import write_text
from q8a8.errors import Q8A8Error
from q8a8.llama.load import load
from q8a8.schemes.table import SCHEMES
from q8a8_conformance.files.arrays import FileError
from q8a8_evaluation.calibration_data import CALIBRATION_WINDOWS, CalibrationData
from q8a8_evaluation.commands.perplexity import document, measure, scheme_names, table
from q8a8_evaluation.measure import (
    BASE,
    Protocol,
    Subject,
    read_windows,
)
from q8a8_lab.evaluation import assets, page, plot
from q8a8_lab.evaluation.verdicts import gate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_evaluation.measure import Outcome

__all__ = ["evaluate", "machine", "main", "others"]

CACHE = Path(".cache") / "evaluate"


def evaluate(subject: Subject, names: Sequence[str], model: Path, text: Path) -> dict[str, Any]:
    """Measure schemes and hold them to the gate.

    Parameters
    ----------
    subject
        What is measured.
    names
        The schemes.
    model, text
        The files, for the report.

    Returns
    -------
    The report of `q8a8 perplexity`, with `gate`, and with the least and largest perplexity of a window.

    Raises
    ------
    Q8A8Error, FileError
        as `Subject.measure` and `document`.
    """
    outcomes = measure(subject, names)
    found = document(subject, outcomes, model, text)
    for each, outcome in zip(found["schemes"], outcomes, strict=True):
        each["window_perplexity"] = _extremes(outcome)
    found["gate"] = [
        asdict(check) for check in gate({each.scheme.name: each.nlls for each in outcomes}, BASE)
    ]
    return found


def _extremes(outcome: Outcome) -> list[float]:
    each = [math.exp(float(nlls.mean())) for nlls in outcome.nlls]
    return [min(each), max(each)]


def _write(found: dict[str, Any], markdown: Path, images: Path) -> None:
    """Write the page and its plots."""
    images.mkdir(parents=True, exist_ok=True)
    plots = {"changes": images / "evaluation-changes.svg", "bits": images / "evaluation-bits.svg"}
    plot.draw_changes(found["schemes"], plots["changes"])
    plot.draw_bits(found["schemes"], plots["bits"])
    # Both are in the folder of the documentation; the page is in a folder below it.
    links = {name: f"../assets/{path.name}" for name, path in plots.items()}
    measured = markdown.parent / "measured"
    write_text(page.render(found, links, others(measured), machine(measured)), markdown)


def others(measured: Path) -> dict[str, dict[str, Any]]:
    """Return the kept reports of other models and texts, by the names of their columns."""
    names = {
        "smollm2-en": "SmolLM2 135M, English",
        "smollm2-ko": "SmolLM2 135M, Korean",
        "gemma3-en": "Gemma 3 270M, English",
        "gemma3-ko": "Gemma 3 270M, Korean",
    }
    paths = {name: measured / f"evaluation-{key}.json" for key, name in names.items()}
    return {
        name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.is_file()
    }


def machine(measured: Path) -> dict[str, Any] | None:
    """Return the kept report of some schemes in a machine's arithmetic, or None."""
    path = measured / "evaluation-machine.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m q8a8_lab.evaluation.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the page, and the plots beside it"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the report [measured/evaluation.json beside the page]",
    )
    parser.add_argument(
        "--assets", type=Path, metavar="FOLDER", help="where the plots go [../assets from the page]"
    )
    parser.add_argument(
        "--render", action="store_true", help="write the page from the reports beside it: measure nothing"
    )
    parser.add_argument("--schemes", type=scheme_names, default=list(SCHEMES), metavar="NAMES", help="[all]")
    parser.add_argument("--windows", type=int, default=12, metavar="N", help="windows to measure on [12]")
    parser.add_argument(
        "--model", choices=("smollm2", "gemma3"), default="smollm2", help="the gate is of smollm2 [smollm2]"
    )
    parser.add_argument("--text", choices=("wikipedia", "korean"), default="wikipedia", help="[wikipedia]")
    parser.add_argument(
        "--arithmetic", choices=("own", "machine"), default="own", help="of the float parts [own]"
    )
    parser.add_argument("--window", type=int, default=512, metavar="N", help="tokens of a window [512]")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="FOLDER", help=f"[{CACHE}]")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write, judge; return the exit status."""
    options = _parser().parse_args(argv)
    if options.render:
        kept = json.loads(
            (options.markdown.parent / "measured" / "evaluation.json").read_text(encoding="utf-8")
        )
        _write(kept, options.markdown, options.assets or options.markdown.parent.parent / "assets")
        return 0
    gemma = options.model == "gemma3"
    protocol = Protocol(
        options.window,
        options.windows,
        spread=True,
        bos=gemma,
        divergence=True,
        own_order=options.arithmetic == "own",
    )
    try:
        model, news = assets.gemma() if gemma else assets.model(), assets.news()
        text = assets.korean() if options.text == "korean" else assets.wikipedia()
        loaded = load(model).opened(options.window)
        calibration = CalibrationData(news, protocol.window, CALIBRATION_WINDOWS)
        windows = read_windows(loaded, text, protocol)
        subject = Subject(loaded, protocol, windows, calibration, options.cache)
        found = evaluate(subject, options.schemes, model, text)
        if gemma or options.text != "wikipedia":
            found["gate"] = []
        json_file = options.json
        if options.markdown:
            options.markdown.parent.mkdir(parents=True, exist_ok=True)
            _write(found, options.markdown, options.assets or options.markdown.parent.parent / "assets")
            json_file = json_file or options.markdown.parent / "measured" / "evaluation.json"
        if json_file:
            json_file.parent.mkdir(parents=True, exist_ok=True)
            write_text(json.dumps(found, indent=1) + "\n", json_file)
    except (assets.AssetUnavailableError, FileError, Q8A8Error, OSError) as error:
        sys.stderr.write(f"evaluate: {error}\n")
        return 1
    sys.stdout.write(table(found))
    for check in found["gate"]:
        verdict = "holds" if check["passed"] else "BROKEN"
        bar = f"{check['low']:+.2f} to {check['high']:+.2f} %"
        sys.stdout.write(f"{verdict}: {check['asks']} ({check['value']:+.2f} %, {bar})\n")
    # This model and this calibration suit every scheme.
    return 0 if all(check["passed"] for check in found["gate"]) and not subject.skipped else 1


if __name__ == "__main__":
    sys.exit(main())
