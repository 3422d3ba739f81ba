"""What `q8a8 export` wrote, run by us and by a real llama.cpp on the same tokens.

::

    python -m q8a8_lab.evaluation.exported EXPORTED.gguf TEXT [--windows N] [--window N]

llama.cpp rounds the inputs of its products with Q4_0, Q4_1 and Q5_0 to 8 bits, and ours stay float: the
logits differ by what that does. For any two rows of logits z and z' the log-likelihoods of a token differ by
|z_t − z'_t + lse(z') − lse(z)| <= 2 · max_v |z_v − z'_v|, as no lse changes by more than its arguments; so

    |ln P − ln P'| <= 2 · mean over predictions of max_v |z_v − z'_v|

The bound is printed beside the difference, which must be within it. Our model is run once more with inputs
rounded as llama.cpp rounds them: what is left of the difference then has another cause.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import dequantize_row, quantize_row
from q8a8.ggufio import open_model
from q8a8.llama import HEAD, FloatLinear, linear_names
from q8a8.llama.config import EMBEDDING
from q8a8.llama.load import load
from q8a8_evaluation.likelihood import negative_log_likelihoods
from q8a8_evaluation.llamacpp import LlamaCpp
from q8a8_evaluation.measure import Protocol, read_windows
from q8a8_evaluation.statistics import compare, perplexity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from q8a8.llama import Model
    from q8a8.llama.load import LoadedModel
    from q8a8_evaluation.statistics import Ratio

    F32 = NDArray[np.float32]

__all__ = ["RoundedInput", "main", "with_rounded_inputs"]


class RoundedInput(FloatLinear):
    """A float operator whose input is rounded as ggml's products with 4 and 5 bits round it.

    To 8 bits in blocks of 32. Of Q4_1, d·c + m, the sum of a block's rounded inputs that m is multiplied with
    is rounded to float16 besides. ggml-cpu/arch/x86/quants.c, `quantize_row_q8_0` and `quantize_row_q8_1`.

    Parameters
    ----------
    weight
        float32 `[out, in]`.
    minima
        m of each block of Q4_1, float32 `[out, in / 32]`; None for other types.
    """

    def __init__(self, weight: F32, minima: F32 | None) -> None:
        super().__init__(weight)
        self._minima = minima

    def __call__(self, x: F32) -> F32:
        """Multiply: float32 `[t, in]` to `[t, out]`; errors as `quantize_row`."""
        blocks = quantize_row(x, "ggml-avx2")
        y = super().__call__(dequantize_row(blocks).reshape(x.shape))
        if self._minima is None:
            return y
        total = blocks["weight_qs"].sum(axis=2, dtype=np.float32)
        unrounded = np.abs(x).reshape(*blocks.shape, -1).max(axis=2) / np.float32(127)
        stored = (unrounded * total).astype(np.float16).astype(np.float32)
        lost = stored - blocks["weight_scale"].astype(np.float32) * total
        return np.asarray(y + lost @ self._minima.T)


def with_rounded_inputs(loaded: LoadedModel) -> Model:
    """Build a model whose operators of the types that `q8a8 export` writes round inputs as llama.cpp does."""
    weights = {name: name for name in linear_names(loaded.config)}
    weights[HEAD] = HEAD if HEAD in loaded.weights else EMBEDDING
    linears = {}
    with open_model(loaded.path) as file:
        for operator, name in weights.items():
            kind, minima = file.tensors[name].type.name, None
            if kind not in {"Q4_0", "Q4_1", "Q5_0", "Q8_0"}:
                continue
            if kind == "Q4_1":
                # d, m, 32 codes of 4 bits.
                blocks = np.ascontiguousarray(file.raw(name)).reshape(len(loaded.weights[name]), -1, 20)
                minima = blocks[..., 2:4].copy().view(np.float16)[..., 0].astype(np.float32)
            linears[operator] = RoundedInput(loaded.weights[name], minima)
    return loaded.model(linears=linears)


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
    models = loaded.model(), with_rounded_inputs(loaded)
    ours, rounded, theirs, apart = [], [], [], []
    with LlamaCpp(options.model, n_ctx=options.window) as llama:
        for tokens in windows:
            z, near = (model.forward(tokens)[:-1] for model in models)
            other = llama.logits(tokens.tolist())[:-1]
            ours.append(negative_log_likelihoods(z, tokens[1:]))
            rounded.append(negative_log_likelihoods(near, tokens[1:]))
            theirs.append(negative_log_likelihoods(other, tokens[1:]))
            apart.append(np.abs(z - other).max(axis=1))
    ratio = compare(theirs, ours)
    bound = 2 * float(np.concatenate(apart).mean())
    sys.stdout.write(
        f"{options.model.name}: {len(windows)} windows of {options.window} tokens; perplexity "
        f"{perplexity(ours).value:.4f} here, {perplexity(theirs).value:.4f} in llama.cpp; "
        f"ln of the ratio {_estimate(ratio)}, bound {bound:.3f}; with inputs rounded here as well "
        f"{perplexity(rounded).value:.4f}, ln of the ratio {_estimate(compare(theirs, rounded))}\n"
    )
    return 0 if abs(ratio.log.value) <= bound else 1


def _estimate(ratio: Ratio) -> str:
    """Write the logarithm of a ratio with its error, where it has one."""
    error = "" if ratio.log.error is None else f" +- {ratio.log.error:.5f}"
    return f"{ratio.log.value:+.5f}{error}"


if __name__ == "__main__":
    sys.exit(main())
