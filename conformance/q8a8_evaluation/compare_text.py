"""What `q8a8 compare-model` found, as JSON data and as one screen of text.

The schema is `q8a8_conformance/report/schemas/compare-model.json`.
"""

from __future__ import annotations

import math
import re
from itertools import combinations
from typing import TYPE_CHECKING, Any

from q8a8_conformance.results.record import count
from q8a8_evaluation.compare_backends import drift

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from q8a8_evaluation.compare_backends import Comparison, Drift, Product, Side, Weights

__all__ = ["FORMAT", "TEXT", "document", "text"]

FORMAT = 1
REGIMES = 4
"""Regimes that the text shows."""

_FOLDER = re.compile("/?([^/,: ]*/)+")
"""Of a path: the text shows names alone."""

TEXT = (
    "A kernel is a small program that a device runs many times over. It reads two rows of numbers, "
    "multiplies them one by one, and adds the products up. How it adds them is not the same everywhere: one "
    "device goes from the first to the last, another keeps eight sums and joins them in the end, a third one "
    "rounds each sum to half of its bits. The results are nearly the same, and nearly is what this text is "
    "about. A model of a language makes thousands of such sums for each word that it writes. Most of the "
    "time the next word stays the same. Sometimes two words are almost equally likely, and then the last "
    "bits decide.\n"
)
"""The text where none is given."""


def document(
    options: argparse.Namespace,
    model_sha256: str,
    tokens: int,
    weights: Weights,
    sides: Sequence[Side],
    found: Comparison,
) -> dict[str, Any]:
    """Return the result as JSON data."""
    names = "AB"[: len(sides)]
    logits = {"reference": found.reference, **dict(zip(names, found.backends, strict=True))}
    pairs = [*(("reference", name) for name in names), *combinations(names, 2)]
    drifts = [_drift(base, other, drift(logits[base], logits[other])) for base, other in pairs]
    drifts.append(_drift("float", "reference", drift(found.floating, found.reference)))
    return {
        "format": FORMAT,
        "kind": "compare-model",
        "model": {"file": options.model.name, "sha256": model_sha256},
        "text": {"file": options.text.name if options.text else None, "tokens": tokens},
        "head": "backend" if options.head else "float",
        "weights": {"stored": weights.stored, "quantized": dict(weights.quantized)},
        "sides": [
            _side(name, side, lost)
            for name, side, lost in zip(names, sides, (_lost(each) for each in found.not_finite), strict=True)
        ],
        "drift": drifts,
    }


def _drift(base: str, other: str, found: Drift | None) -> dict[str, Any]:
    return {
        "from": base,
        "of": other,
        "kl_mean": found.mean if found else None,
        "kl_largest": found.largest if found else None,
        "top1_changes": found.changes if found else None,
        "tokens": found.tokens if found else None,
    }


def _lost(found: Any) -> dict[str, Any] | None:  # noqa: ANN401 (a NotFinite or None)
    """Return where results stop being numbers."""
    if found is None:
        return None
    return {"tensor": found.tensor, "token": found.token, "row": found.row, "text": found.text}


def _side(name: str, side: Side, not_finite: dict[str, Any] | None) -> dict[str, Any]:
    """Return what was found of a backend."""
    backend, first = side.backend, side.backend.first
    return {
        "side": name,
        "sut": side.spec,
        "name": side.name,
        "outside": len(backend.outside),
        "recipe": backend.recipe,
        "largest_fraction": max((_number(each.fraction) or 0.0 for each in backend.products), default=0.0),
        "error_over_quantization": _ratio(backend.products),
        "first": None
        if first is None
        else {
            "tensor": first.tensor,
            "layer": _layer(first.tensor),
            "token": first.token,
            "row": first.row,
            "outside": first.outside,
            "of": first.of,
            "actual": _number(first.actual),
            "expected": first.expected,
            "bound": first.bound,
        },
        "facts": [
            {"fact": fact.slug, "rule": fact.rule, "sentence": fact.sentence, "fix": fact.fix}
            for fact in side.facts
        ],
        "regimes": [
            {"where": regime.where, "names": list(regime.names), "unexplained": regime.unexplained}
            for regime in (side.revealed.regimes if side.revealed else ())
        ],
        "why": side.why or "; ".join(side.revealed.notes if side.revealed else ()),
        "not_finite": not_finite,
        "seconds": round(backend.seconds, 2),
        "products": [
            {
                "tensor": each.tensor,
                "m": each.m,
                "n": each.n,
                "k": each.k,
                "outside": each.outside,
                "largest_fraction": _number(each.fraction),
                "error": _number(each.error),
                "quantization_error": each.quantization_error,
            }
            for each in backend.products
        ],
    }


def _number(value: float) -> float | None:
    """Return a number; None for what JSON has no number for."""
    return value if math.isfinite(value) else None


def _layer(tensor: str) -> int | None:
    """Return the layer of ``blk.3.attn_q.weight``; None for the head."""
    parts = tensor.split(".")
    return int(parts[1]) if parts[0] == "blk" else None


def _ratio(products: Sequence[Product]) -> float | None:
    """Return the mean error over that of quantization itself."""
    own = sum(each.error for each in products)
    return _number(own / (sum(each.quantization_error for each in products) or 1.0))


def text(found: dict[str, Any]) -> str:
    """Return the result for a terminal."""
    lines = [*_head(found), ""]
    for side in found["sides"]:
        lines += [*_about(side), ""]
    lines += [*_kinds(found["sides"]), ""]
    return "\n".join([*lines, *_drifts(found)]) + "\n"


def _head(found: dict[str, Any]) -> Iterator[str]:
    """Yield what was compared."""
    whose = found["text"]["file"] or "a text of the command's own"
    yield f"{found['model']['file']}, {count(found['text']['tokens'], 'token')} of {whose}"
    if held := found["weights"]["quantized"]:
        types = ", ".join(f"{count} {name}" for name, count in held.items())
        yield f"weights quantized to Q8_A8 first, by the specification: {types}"
    yield (
        "each product is made on the same input by every backend, and judged by the bound; the head is "
        + ("a backend's, too" if found["head"] == "backend" else "a float product")
    )


def _about(side: dict[str, Any]) -> Iterator[str]:
    """Yield what was found of a backend."""
    total, outside, ratio = len(side["products"]), side["outside"], side["error_over_quantization"]
    yield f"{side['side']}  {_FOLDER.sub('', side['sut'])}"
    yield f"   {side['name']}; {side['seconds']:.1f} s in its products"
    error = "" if ratio is None else f"; error {ratio:.3g} times that of quantization itself"
    first = side["first"]
    if first is None:
        share = side["largest_fraction"]
        yield f"   all {total} products are within the bound (at most {share:.2g} of it){error}"
        yield f"   activations by the recipe {side['recipe']}"
    else:
        yield f"   {outside} of {total} products are outside the bound{error}"
        layer = "the head" if first["layer"] is None else f"layer {first['layer']}"
        yield (
            f"   the first: {first['tensor']} ({layer}), {first['outside']} of {first['of']} outputs; "
            f"furthest at token {first['token']}, row {first['row']}:"
        )
        actual = "no number" if first["actual"] is None else f"{first['actual']:.9g}"
        bound = f"at most {first['bound']:.2g} from the exact sum"
        yield f"   {actual}, expected {first['expected']:.9g}, {bound}"
        yield from (f"   {fact['fact']}: {fact['sentence']}" for fact in side["facts"])
        if not side["facts"]:
            why = f": {side['why']}" if side["why"] else ""
            yield f"   what it computes there is not known{why}"
        for regime in side["regimes"][:REGIMES]:
            yield f"   {regime['where']}: {', '.join(regime['names'])}"
        if side["facts"] and side["why"]:
            yield f"   {side['why']}"
    if side["not_finite"]:
        yield f"   its own results stop being numbers at {side['not_finite']['text']}"


def _kinds(sides: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a table of the linear operators, all layers of one kind together."""
    kinds = list(dict.fromkeys(_kind(each["tensor"]) for each in sides[0]["products"]))
    titles = "".join(f"{side['side'] + ': outside':>14}{'of bound':>10}{'error':>8}" for side in sides)
    yield f"{'':<14}{titles}"
    for kind in kinds:
        cells = []
        for side in sides:
            held = [each for each in side["products"] if _kind(each["tensor"]) == kind]
            outside = f"{sum(bool(each['outside']) for each in held)} of {len(held)}"
            share = max(
                math.inf if each["largest_fraction"] is None else each["largest_fraction"] for each in held
            )
            own = sum(each["error"] if each["error"] is not None else math.inf for each in held)
            ratio = own / (sum(each["quantization_error"] for each in held) or 1.0)
            cells.append(f"{outside:>14}{share:>10.2g}{ratio:>8.3g}")
        yield f"{kind:<14}{''.join(cells)}"


def _kind(tensor: str) -> str:
    return tensor.split(".")[-2]


def _drifts(found: dict[str, Any]) -> Iterator[str]:
    """Yield how far predictions are apart where each backend runs the whole model."""
    yield f"{'predictions of the whole model':<32}{'KL, nats: mean':>15}{'largest':>10}{'top-1 changes':>16}"
    for each in found["drift"]:
        what = f"{each['of']} from {each['from']}"
        if each["kl_mean"] is None:
            yield f"{what:<32}{'not numbers':>15}"
            continue
        changes = f"{each['top1_changes']} of {each['tokens']}"
        yield f"{what:<32}{each['kl_mean']:>15.2g}{each['kl_largest']:>10.2g}{changes:>16}"
