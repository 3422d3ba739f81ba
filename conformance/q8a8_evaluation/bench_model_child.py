"""The process that times one scheme for ``q8a8 bench-model``; its memory is that scheme's alone.

Asked by lines on the standard input, it answers with lines of JSON: first what it loaded, then one line of
times for each ``round``. It ends with its input.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from q8a8.ggufio import open_model
from q8a8.llama.cache import FloatCache
from q8a8.llama.generate import generate
from q8a8.llama.load import load
from q8a8.methods.calibration import Calibration
from q8a8.schemes.scheme import build, get_scheme
from q8a8.schemes.statistics import Evidence, gather_inputs
from q8a8.schemes.table import SCHEMES
from q8a8_evaluation.memory_status import resident_bytes

__all__ = ["main"]


def prompt_tokens(count: int, n_vocab: int) -> list[int]:
    """Give the tokens of the prompt: any do, for no time depends on which."""
    return [int(token) for token in np.random.default_rng(0).integers(0, n_vocab, count)]


class Timed:
    """One scheme's model, loaded and quantized.

    Parameters
    ----------
    request
        `model`, `scheme`, `prompt`, `generate`, and `calibration` or None.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        scheme = get_scheme(request["scheme"], SCHEMES)
        started = time.perf_counter()
        loaded = load(request["model"])
        calibration = request["calibration"] and Calibration.load(Path(request["calibration"]))
        inputs = None
        if scheme.needs_inputs:
            # What was seen does not change a time: one short window of anything will do.
            window = np.array(prompt_tokens(64, loaded.config.n_vocab))
            inputs = gather_inputs(loaded.model(), [window])
        self.built = build(scheme, loaded.config, loaded.weights, Evidence(calibration, inputs))
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
        """Tell what was loaded; `stored_bytes` are the scheme's weights and the file's other tensors."""
        return {
            "weight_bytes": self.built.weight_bytes,
            "stored_bytes": self.built.weight_bytes + self.kept_bytes,
            "weight_bits": self.built.weight_bits,
            "load_seconds": self.load_seconds,
        }

    def round(self) -> dict[str, Any]:
        """Read the prompt and generate once: seconds until the first token, seconds of the others, memory."""
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


def main(request: str, asked: TextIO, answers: TextIO) -> None:
    """Answer until the input ends."""
    timed = Timed(json.loads(request))
    answers.write(json.dumps(timed.loaded()) + "\n")
    answers.flush()
    for line in asked:
        if line.strip() == "round":
            answers.write(json.dumps(timed.round()) + "\n")
            answers.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin, sys.stdout)
