"""``q8a8 perplexity``: how well a quantized model predicts a text, beside the float one.

::

    q8a8 perplexity model.gguf text.txt --scheme q8_a8,w8a16
    q8a8 perplexity model.gguf wiki.bz2 --scheme q8_a8+smooth --calibration news.cor --windows 24

The protocol is described in docs/model/perplexity.md: windows that do not overlap, each run by itself;
log-likelihoods in float64; differences paired, token by token, against float. Standard errors are over
windows (`q8a8_evaluation.statistics`).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.atomic import write_text, writing
from q8a8.errors import ArgumentError, Q8A8Error, UnknownNameError
from q8a8.llama.load import load
from q8a8.schemes.table import SCHEMES
from q8a8_conformance.commands.options import OK, refuse
from q8a8_conformance.files.arrays import FileError
from q8a8_conformance.files.progress import progress_bar
from q8a8_conformance.results.record import count
from q8a8_evaluation.calibration_data import CALIBRATION_WINDOWS, CalibrationData
from q8a8_evaluation.commands.shared import require_writable
from q8a8_evaluation.divergence import summarize
from q8a8_evaluation.measure import (
    BASE,
    Outcome,
    Protocol,
    Subject,
    read_windows,
)
from q8a8_evaluation.native import add_kernel_options, with_kernel
from q8a8_evaluation.statistics import compare, perplexity
from q8a8_evaluation.text import sha256

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from q8a8.schemes.scheme import Scheme

__all__ = ["FORMAT", "add_parser", "document", "run", "scheme_names", "table"]


FORMAT = 1
"""Of the JSON document; its schema is `report/schemas/perplexity.json`."""


def scheme_names(text: str) -> list[str]:
    """Read names, separated by commas; "all" is every one.

    Raises
    ------
    argparse.ArgumentTypeError
        listing the schemes, for a name that is none.
    """
    names = list(SCHEMES) if text == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in SCHEMES:
            raise argparse.ArgumentTypeError(str(UnknownNameError("scheme", name, SCHEMES)))
    return names


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``perplexity``."""
    parser = subparsers.add_parser(
        "perplexity",
        help="measure the perplexity of quantization schemes on a text",
        description="Measure how well a model predicts a text, in float and quantized, and how sure the "
        "difference is.",
        epilog="schemes: " + ", ".join(SCHEMES),
    )
    parser.add_argument("model", type=Path, metavar="MODEL.gguf", help="a Llama model")
    parser.add_argument("text", type=Path, metavar="TEXT", help="plain UTF-8, .cor, or a Wikipedia .bz2")
    parser.add_argument(
        "--scheme",
        type=scheme_names,
        default=[BASE, "q8_a8"],
        metavar="NAME[,NAME...]",
        help="which, or all; float is always measured [q8_a8]",
    )
    parser.add_argument("--windows", type=int, default=12, metavar="N", help="at most so many [12]")
    parser.add_argument("--window", type=int, default=512, metavar="N", help="tokens of a window [512]")
    parser.add_argument(
        "--spread", action="store_true", help="spread the windows evenly over the text, not its first ones"
    )
    parser.add_argument("--bos", action="store_true", help="begin each window with the BOS token")
    parser.add_argument(
        "--count",
        choices=("all", "second-half"),
        default="all",
        help="which predictions of a window count; second-half is llama-perplexity's way [all]",
    )
    parser.add_argument(
        "--head", choices=("float", "scheme"), default="float", help="how the last product is done [float]"
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="a text, or what q8a8 calibrate saved (.npz), for schemes that need it",
    )
    parser.add_argument(
        "--calibration-windows",
        type=int,
        default=CALIBRATION_WINDOWS,
        metavar="N",
        help=f"windows of a calibration text [{CALIBRATION_WINDOWS}]",
    )
    parser.add_argument(
        "--divergence",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare predictions with float's too: KL divergence, same most probable token, probabilities",
    )
    parser.add_argument(
        "--arithmetic",
        choices=("machine", "own"),
        default="machine",
        help="how float products and functions are computed: as the machine does, or in an order of our own, "
        "with the same bits on every machine and five times slower [machine]",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    parser.add_argument(
        "--nll",
        type=Path,
        metavar="FILE",
        help="write every token's log-likelihood as .npz, [windows, tokens]",
    )
    parser.add_argument(
        "--resume", type=Path, metavar="FOLDER", help="keep results here, and use those that are there"
    )
    add_kernel_options(parser)
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> int:
    """Measure, print a table and write what was asked for; return the exit status."""
    protocol = Protocol(
        options.window,
        options.windows,
        options.spread,
        options.bos,
        options.count,
        options.head == "scheme",
        options.divergence,
        options.arithmetic == "own",
    )
    calibration = CalibrationData(options.calibration, options.window, options.calibration_windows)
    try:
        for path in filter(None, (options.json, options.nll)):
            require_writable(path)
        loaded = load(options.model).opened(options.window)
        windows = read_windows(loaded, options.text, protocol)
        subject = Subject(loaded, protocol, windows, calibration, options.resume)
        names = (BASE, *options.scheme)
        schemes = {name: with_kernel(SCHEMES[name], options.kernel, options.threads) for name in names}
        outcomes = measure(subject, options.scheme, schemes)
        found = document(subject, outcomes, options.model, options.text)
        if options.json:
            write_text(json.dumps(found, indent=1) + "\n", options.json)
        if options.nll:
            _write_nlls(options.nll, outcomes)
    except (FileError, Q8A8Error, OSError) as error:
        return refuse(error)
    sys.stdout.write(table(found))
    return OK


def measure(subject: Subject, names: Sequence[str], schemes: Mapping[str, Scheme] = SCHEMES) -> list[Outcome]:
    """Measure schemes, with a progress bar on a terminal.

    Raises
    ------
    Q8A8Error
        as `Subject.measure`.
    ArgumentError
        where none of them can be applied.
    """
    outcomes: list[Outcome] = []
    total = len(dict.fromkeys((BASE, *names))) * len(subject.windows)
    with progress_bar("windows", total) as progress:
        for done, step in enumerate(subject.measure(names, schemes), start=1):
            progress(done, what=step.scheme.name)
            if step.outcome is not None:
                outcomes.append(step.outcome)
    for name, reason in subject.skipped.items():
        if set(names) <= {BASE, *subject.skipped}:
            raise ArgumentError(reason if name in reason else f"{name}: {reason}")
        sys.stderr.write(f"q8a8 perplexity: {name} is skipped: {reason}\n")
    return outcomes


def document(subject: Subject, outcomes: Sequence[Outcome], model: Path, text: Path) -> dict[str, Any]:
    """Return the result as JSON data; the first outcome is the float model's.

    Raises
    ------
    FileError
        The text cannot be read any more.
    """
    base = outcomes[0]
    protocol = subject.protocol
    schemes = []
    for outcome in outcomes:
        own, ratio = perplexity(outcome.nlls), compare(outcome.nlls, base.nlls)
        percent = ratio.percent
        schemes.append(
            {
                "scheme": outcome.scheme.name,
                "summary": outcome.scheme.summary,
                "source": outcome.scheme.source,
                "perplexity": own.value,
                "perplexity_error": own.error,
                "delta_percent": percent.value,
                "delta_error_percent": percent.error,
                "log_ratio": ratio.log.value,
                "log_ratio_error": ratio.log.error,
                "log_ratio_token_error": ratio.token_error,
                "weight_bits": outcome.weight_bits,
                "weight_bytes": outcome.weight_bytes,
                "activation_bits": outcome.activation_bits,
                "cache_bits": outcome.scheme.cache_bits,
                "cache_bytes": outcome.cache_bytes,
                "window_nll": [float(nlls.sum()) for nlls in outcome.nlls],
                "seconds": round(outcome.seconds, 1),
                "arithmetic": subject.arithmetic(outcome.scheme),
                "divergence": _divergence(outcome),
            }
        )
    return {
        "format": FORMAT,
        "kind": "perplexity",
        "model": {"file": model.name, "sha256": subject.loaded.sha256},
        "text": {"file": text.name, "sha256": sha256(text)},
        "protocol": {
            "window": protocol.window,
            "windows": len(subject.windows),
            "spread": protocol.spread,
            "bos": protocol.bos,
            "count": protocol.count,
            "head": "scheme" if protocol.head else "float",
            "counted": [len(nlls) for nlls in base.nlls],
        },
        "calibration": subject.calibration.facts or None,
        "schemes": schemes,
        "skipped": [{"scheme": name, "reason": reason} for name, reason in subject.skipped.items()],
    }


def _divergence(outcome: Outcome) -> dict[str, float | None] | None:
    """Return the divergence from float as JSON data; None where it was not measured."""
    if not outcome.divergences:
        return None
    found = summarize(outcome.divergences)
    return {
        "kl": found.kl.value,
        "kl_error": found.kl.error,
        "largest_kl": found.largest_kl,
        "same_top_percent": found.same_top.value,
        "same_top_error_percent": found.same_top.error,
        "probability_change_percent": found.change.value,
        "probability_change_error_percent": found.change.error,
        "largest_drop_percent": found.largest_drop,
    }


def table(found: dict[str, Any]) -> str:
    """Return the result for a terminal."""
    protocol = found["protocol"]
    head = (
        f"{found['model']['file']} on {found['text']['file']}: {count(protocol['windows'], 'window')} of "
        f"{protocol['window']} tokens, {sum(protocol['counted'])} predictions, head in {protocol['head']}"
    )
    kinds = sorted({each["arithmetic"] for each in found["schemes"]})
    head += "".join(f"\narithmetic: {'the same on every machine' if k == 'own' else k}" for k in kinds)
    columns = f"{'change':>10}{'± paired':>10}{'bits a weight':>15}{'activation':>12}"
    width = max(25, *(len(each["scheme"]) for each in found["schemes"])) + 1
    lines = [head, "", f"{'scheme':<{width}}{'perplexity':>11}{columns}"]
    for each in found["schemes"]:
        error = each["delta_error_percent"]
        change = "" if each["scheme"] == BASE else f"{each['delta_percent']:+.2f} %"
        beside = "" if each["scheme"] == BASE or error is None else f"{error:.2f} %"
        lines.append(
            f"{each['scheme']:<{width}}{each['perplexity']:>11.3f}{change:>10}{beside:>10}"
            f"{each['weight_bits']:>15.3f}{each['activation_bits']:>12.2f}"
        )
    compared = [each for each in found["schemes"] if each["divergence"]]
    if compared:
        columns = f"{'KL to float':>12}{'±':>10}{'same top':>12}{'±':>9}{'mean Δp':>11}{'largest drop':>14}"
        lines += ["", f"{'scheme':<{width}}{columns}"]
    for each in compared:
        apart = each["divergence"]
        lines.append(
            f"{each['scheme']:<{width}}{apart['kl']:>12.5f}{_error(apart['kl_error'], 5):>10}"
            f"{apart['same_top_percent']:>10.2f} %{_error(apart['same_top_error_percent'], 2):>9}"
            f"{apart['probability_change_percent']:>+9.3f} %{apart['largest_drop_percent']:>12.1f} %"
        )
    return "\n".join(lines) + "\n"


def _error(error: float | None, digits: int) -> str:
    """Return a standard error as text; nothing for one window, which has none."""
    return "" if error is None else f"{error:.{digits}f}"


def _write_nlls(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write `[windows, tokens]` for each scheme; windows have one length."""
    with writing(path) as file:
        np.savez(file, **{outcome.scheme.name: np.stack(outcome.nlls) for outcome in outcomes})  # type: ignore[arg-type] # NumPy's stub takes **kwds for a bool
