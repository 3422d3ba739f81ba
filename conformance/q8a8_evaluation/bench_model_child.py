"""The process that times one scheme for ``q8a8 bench-model``; its memory is that scheme's alone.

It answers first what it loaded, then each request with the times of one round.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.errors import Q8A8Error
from q8a8.ggufio import open_model
from q8a8.llama.cache import FloatCache
from q8a8.llama.generate import generate
from q8a8.llama.load import load
from q8a8.methods.calibration import Calibration
from q8a8.schemes.scheme import build, get_scheme
from q8a8.schemes.statistics import InputStatistics, gather_inputs
from q8a8.schemes.table import SCHEMES
from q8a8_evaluation.child import serve
from q8a8_evaluation.memory_status import resident_bytes
from q8a8_evaluation.native import with_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["prompt_tokens", "start"]


def prompt_tokens(count: int, n_vocab: int) -> list[int]:
    """Return the tokens of the prompt: random ones, for no time depends on which."""
    return [int(token) for token in np.random.default_rng(0).integers(0, n_vocab, count)]


class Timed:
    """One scheme's model, loaded and quantized.

    Parameters
    ----------
    request
        `model`, `scheme`, `kernel`, `threads`, `prompt`, `generate`, and `calibration` or None.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        scheme = with_kernel(get_scheme(request["scheme"], SCHEMES), request["kernel"], request["threads"])
        started = time.perf_counter()
        loaded = load(request["model"])
        calibration = request["calibration"] and Calibration.load(Path(request["calibration"]))
        inputs = None
        if scheme.needs_inputs:
            # What was seen does not change a time: one short window of anything will do.
            window = np.array(prompt_tokens(64, loaded.config.n_vocab))
            inputs = gather_inputs(
                loaded.model(), [window], hessian=scheme.needs_hessian, histogram=scheme.needs_histogram
            )
        self.built = build(scheme, loaded.config, loaded.weights, InputStatistics(calibration, inputs))
        # The float weights that a scheme replaced are held no longer.
        del loaded
        self.load_seconds = time.perf_counter() - started
        self.prompt = prompt_tokens(request["prompt"], self.built.model.config.n_vocab)
        self.generate = int(request["generate"])

        with open_model(request["model"]) as file:
            self.kept_bytes = sum(
                tensor.n_bytes for name, tensor in file.tensors.items() if name not in self.built.replaced
            )

    def loaded(self) -> dict[str, Any]:
        """Describe what was loaded; `stored_bytes` are the scheme's weights and the file's other tensors."""
        return {
            "weight_bytes": self.built.weight_bytes,
            "stored_bytes": self.built.weight_bytes + self.kept_bytes,
            "weight_bits": self.built.weight_bits,
            "load_seconds": self.load_seconds,
        }

    def round(self) -> dict[str, Any]:
        """Process the prompt and generate once: seconds to the first token, seconds of the others, memory."""
        capacity = len(self.prompt) + self.generate
        cache = self.built.new_cache(capacity) or FloatCache(self.built.model.config, capacity)
        tokens = generate(self.built.model, self.prompt, self.generate, cache=cache)
        started = time.perf_counter()
        next(tokens)
        first = time.perf_counter()
        for _ in tokens:
            pass
        ended = time.perf_counter()
        return {
            "first_token_seconds": first - started,
            "generate_seconds": ended - first,
            "cache_bytes": cache.nbytes,
            "resident_bytes": resident_bytes(),
        }


def start(
    request: dict[str, Any],
) -> tuple[dict[str, Any], Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]]]:
    """Load the model, and return what was loaded and what times a round."""
    timed = Timed(request)
    return timed.loaded(), lambda _request, _body: (timed.round(), b"")


if __name__ == "__main__":
    serve(start, Q8A8Error, OSError)
