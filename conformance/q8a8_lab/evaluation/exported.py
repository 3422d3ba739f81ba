"""What `q8a8 export` wrote, run by us and by a real llama.cpp on the same tokens.

::

    python -m q8a8_lab.evaluation.exported EXPORTED.gguf TEXT [--windows N] [--window N]

llama.cpp rounds the inputs of its products with Q4_0, Q4_1 and Q5_0 to 8 bits, and ours stay float: the
logits differ by what that does. For any two rows of logits z and z' the log-likelihoods of a token differ by
|z_t − z'_t + lse(z') − lse(z)| <= 2 · max_v |z_v − z'_v|, as no lse changes by more than its arguments; so

    |ln P − ln P'| <= 2 · mean over predictions of max_v |z_v − z'_v|

The bound is printed beside the difference, which must be within it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from q8a8.llama.load import load
from q8a8_evaluation.likelihood import negative_log_likelihoods
from q8a8_evaluation.llamacpp import LlamaCpp
from q8a8_evaluation.measure import Protocol, read_windows
from q8a8_evaluation.statistics import compare, perplexity

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; 0 where the difference is within its bound."""
    parser = argparse.ArgumentParser(prog="python -m q8a8_lab.evaluation.exported")
    parser.add_argument("model", type=Path, metavar="EXPORTED.gguf")
    parser.add_argument("text", type=Path, metavar="TEXT")
    parser.add_argument("--windows", type=int, default=2, metavar="N")
    parser.add_argument("--window", type=int, default=512, metavar="N")
    options = parser.parse_args(argv)
    loaded = load(options.model)
    windows = read_windows(loaded, options.text, Protocol(options.window, options.windows, spread=True))
    model, ours, theirs, apart = loaded.model(), [], [], []
    with LlamaCpp(options.model, n_ctx=options.window) as llama:
        for tokens in windows:
            z, other = model.forward(tokens)[:-1], llama.logits(tokens.tolist())[:-1]
            ours.append(negative_log_likelihoods(z, tokens[1:]))
            theirs.append(negative_log_likelihoods(other, tokens[1:]))
            apart.append(np.abs(z - other).max(axis=1))
    ratio = compare(theirs, ours)
    bound = 2 * float(np.concatenate(apart).mean())
    error = "" if ratio.log.error is None else f" +- {ratio.log.error:.5f}"
    sys.stdout.write(
        f"{options.model.name}: {len(windows)} windows of {options.window} tokens; perplexity "
        f"{perplexity(ours).value:.4f} here, {perplexity(theirs).value:.4f} in llama.cpp; "
        f"ln of the ratio {ratio.log.value:+.5f}{error}, bound {bound:.3f}\n"
    )
    return 0 if abs(ratio.log.value) <= bound else 1


if __name__ == "__main__":
    sys.exit(main())
