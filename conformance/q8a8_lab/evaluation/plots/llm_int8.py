"""Plot for docs/methods/llm-int8.md: the real model's outlier columns, and what leaving them out buys.

``python -m q8a8_lab.evaluation.plots.llm_int8``
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8.methods.llm_int8 import THRESHOLD, LlmInt8Linear, outlier_columns
from q8a8_lab.evaluation.plots.figure import FOLDER, drawn, table
from q8a8_lab.evaluation.plots.inputs import observe, relative_error

if TYPE_CHECKING:
    from pathlib import Path

    from q8a8_lab.evaluation.plots.inputs import Layers

KINDS = {"attn_q": "q, k, v", "attn_output": "attention output", "ffn_gate": "gate, up", "ffn_down": "down"}
THRESHOLDS = {"int8 alone": 0.0, "LLM.int8(), threshold 6": THRESHOLD}

Shares = dict[str, list[float]]
Errors = dict[str, list[float]]


def measure(layers: Layers) -> tuple[Shares, Errors]:
    """Give the share of outlier columns by kind of input, and the errors of `down` by threshold."""
    shares: Shares = {}
    for kind in KINDS:
        inputs = [layers.inputs[name].astype(np.float16) for name in layers.of(kind)]
        shares[kind] = [outlier_columns(a).size / a.shape[1] for a in inputs]
    errors: Errors = {name: [] for name in THRESHOLDS}
    for name in layers.of("ffn_down"):
        x, w = layers.inputs[name], layers.weights[name]
        exact = x.astype(np.float64) @ w.astype(np.float64).T
        for label, threshold in THRESHOLDS.items():
            errors[label].append(relative_error(LlmInt8Linear(w, threshold=threshold)(x), exact))
    return shares, errors


def draw(shares: Shares, errors: Errors, path: Path) -> None:
    """Draw shares in one panel, errors in the other."""
    with drawn(path, 2) as (_, (left, right)):
        for kind, values in shares.items():
            left.plot(range(len(values)), [100 * value for value in values], "o-", label=KINDS[kind])
        # From 0 to 0.1 % linear, beyond it logarithmic.
        left.set_yscale("symlog", linthresh=0.1)
        left.set(title="columns with an outlier among 512 tokens, %", xlabel="layer")
        left.legend(title="input of", loc="upper left", ncols=2)
        for name, errors_of in errors.items():
            right.plot(range(len(errors_of)), [100 * error for error in errors_of], "o-", label=name)
        right.set(title="relative error of down's output, %", xlabel="layer")
        right.set_ylim(bottom=0)
        right.legend()


def main() -> None:
    """Measure on the real model, print tables and write the plot."""
    shares, errors = measure(observe())
    rows = [(KINDS[kind], float(np.median(v)), max(v), int(np.argmax(v))) for kind, v in shares.items()]
    table(("input of", "median share of columns", "largest", "in layer"), rows)
    rows = [(name, float(np.median(v)), max(v), int(np.argmax(v))) for name, v in errors.items()]
    table(("down", "median error", "largest", "in layer"), rows)
    draw(shares, errors, FOLDER / "llm_int8.svg")


if __name__ == "__main__":
    main()
