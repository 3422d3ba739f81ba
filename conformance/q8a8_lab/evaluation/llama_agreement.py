"""Measure how far the NumPy model and llama.cpp are from the exact logits, and how long a window takes.

::

    python -m q8a8_lab.evaluation.llama_agreement

prints the two tables of docs/model/llama.md. The model is written as float32 first: on quantized weights
llama.cpp quantizes activations too, which is another computation (the last row of the first table).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.ggufio.quantize import dequantize_model
from q8a8.llama import FloatLinear, Int8WeightLinear, Model, Q8A8Linear, linear_names, load
from q8a8_evaluation.llamacpp import LlamaCpp
from q8a8_lab.evaluation import assets
from q8a8_lab.evaluation.rounding_noise import agreement, logit_noise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from q8a8.llama import LoadedModel
    from q8a8_lab.evaluation.rounding_noise import Agreement, Noise

__all__ = ["GgmlAngles", "differences", "main", "seconds_a_window"]

LLAMA: dict[str, dict[str, Any]] = {
    "llama.cpp": {},
    "llama.cpp, two threads": {"threads": 2},
    "llama.cpp, 64 tokens at a time": {"n_batch": 64},
    "llama.cpp, token by token": {"n_batch": 1},
    "llama.cpp, flash attention": {"flash_attn": True},
    "llama.cpp, keys and values in float16": {"kv_type": "f16"},
}
"""Ways to run llama.cpp on the float32 file."""


class GgmlAngles(Model):
    """The model with the rotary angles that ggml computes: a product of float32 from pair to pair.

    ::

        theta_0 = p,      theta_(i+1) = f32(theta_i · f32(base^(−2/d_head)))

    ggml-cpu/ops.cpp, `ggml_rope_cache_init`, for a model without scaling or frequency factors.
    """

    def _turn(self, positions: NDArray[np.integer[Any]]) -> NDArray[np.complexfloating[Any]]:
        """Compute e^(i·angle) `[t, d_head / 2]` of these positions."""
        step = np.float32(self.config.rope_base) ** np.float32(-2 / self.config.d_head)
        angle = positions.astype(np.float32)
        angles = []
        for _ in range(self.config.d_head // 2):
            angles.append(angle)
            angle = angle * step
        turn: NDArray[np.complexfloating[Any]] = np.exp(1j * np.stack(angles, axis=1).astype(np.float64))
        return turn.astype(np.result_type(self.dtype, np.complex64))


def differences(
    float_file: Path, quantized_file: Path, loaded: LoadedModel, tokens: Sequence[int]
) -> tuple[Noise, Iterator[tuple[str, Agreement]]]:
    """Evaluate the model in several ways; each is held against float64 with exact angles, or with ggml's.

    Parameters
    ----------
    float_file, quantized_file
        The model in float32, and as it was.
    loaded
        The model in float32.
    tokens
        The text.
    """
    config, weights = loaded.config, loaded.weights
    noise = logit_noise(config, weights, tokens)

    def rows() -> Iterator[tuple[str, Agreement]]:
        yield "NumPy, float32", agreement(loaded.model().forward(tokens), noise)
        exact = {name: weight.astype(np.float64) for name, weight in weights.items()}
        turned = GgmlAngles(config, exact).forward(tokens)
        yield "float64, ggml's angles", agreement(turned, noise)
        for name, options in LLAMA.items():
            with LlamaCpp(float_file, n_ctx=len(tokens), **options) as llama:
                logits = llama.logits(tokens)
            yield name, agreement(logits, noise)
            if name == "llama.cpp":
                against = dataclasses.replace(noise, reference=turned)
                yield "llama.cpp, against float64 with ggml's angles", agreement(logits, against)
        with LlamaCpp(quantized_file, n_ctx=len(tokens)) as llama:
            yield "llama.cpp, quantized weights", agreement(llama.logits(tokens), noise)

    return noise, rows()


def seconds_a_window(loaded: LoadedModel, tokens: Sequence[int]) -> Iterator[tuple[str, float, float]]:
    """Time the linear operators: processor seconds for the logits of all tokens, and of the last alone."""
    for name, kind in (("float", FloatLinear), ("w8a16", Int8WeightLinear), ("q8_a8", Q8A8Linear)):
        linears = {weight: kind(loaded.weights[weight]) for weight in linear_names(loaded.config)}
        model = loaded.model(linears=linears)
        took = []
        for logits_from in (0, -1):
            start = time.process_time()
            model.forward(tokens, logits_from=logits_from)
            took.append(time.process_time() - start)
        yield name, took[0], took[1]


def main(argv: Sequence[str] | None = None) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=512, metavar="N", help="of the news [512]")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        float_file = Path(folder) / "f32.gguf"
        dequantize_model(assets.model(), float_file)
        loaded = load(float_file)
        text = assets.news().read_text("utf-8", "replace")
        tokens = loaded.tokenizer.encode(text[: 16 * options.tokens])[: options.tokens]
        noise, rows = differences(float_file, assets.model(), loaded, tokens)
        out = sys.stdout.write
        out(f"{len(tokens)} tokens, bound {noise.bound:.1e}, its root mean square {noise.rms:.1e}\n\n")
        out("| logits of | largest difference | root mean square | of the bound | same largest logit |\n")
        out("| --- | ---: | ---: | ---: | ---: |\n")
        for name, found in rows:
            out(
                f"| {name} | {found.largest:.1e} | {found.rms:.1e} | {found.largest / found.bound:.3g} "
                f"| {found.same} of {found.decided} |\n"
            )
        out("\n| linear operators | all logits, s | last logits, s |\n| --- | ---: | ---: |\n")
        for name, every, last in seconds_a_window(loaded, tokens):
            out(f"| {name} | {every:.2f} | {last:.2f} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
