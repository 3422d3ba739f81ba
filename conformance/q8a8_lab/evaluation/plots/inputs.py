"""Inputs of the plots about the real model: its weights, and the activations of its linear operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from q8a8.llama.load import load
from q8a8_evaluation.text import read_text, windows
from q8a8_lab.evaluation import assets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]

__all__ = ["TOKENS", "Layers", "observe"]

TOKENS = 512
"""Tokens of the text that the model reads: one window of its context in the evaluation."""


@dataclass(frozen=True)
class Layers:
    """A model's linear operators on one text.

    Attributes
    ----------
    weights
        float32 `[out, in]` by GGUF name.
    inputs
        float32 `[tokens, in]` by GGUF name.
    """

    weights: Mapping[str, F32]
    inputs: Mapping[str, F32]

    def of(self, kind: str) -> list[str]:
        """Name the operators of a kind, "ffn_down" say, in the order of the layers."""
        names = [name for name in self.inputs if name.endswith(f".{kind}.weight")]
        return sorted(names, key=lambda name: int(name.split(".")[1]))


def observe(tokens: int = TOKENS) -> Layers:
    """Run the real model in float on the first tokens of the Wikipedia text, and keep what its operators see.

    Raises
    ------
    AssetUnavailableError
        The model or the text cannot be had.
    """
    loaded = load(assets.model())
    text = read_text(assets.wikipedia(), at_least=24 * tokens)
    (window,) = windows(loaded.tokenizer.encode(text), tokens, 1)
    inputs: dict[str, F32] = {}
    loaded.model().forward(window, observe=lambda name, x: inputs.__setitem__(name, np.array(x, np.float32)))
    return Layers({name: loaded.weights[name] for name in inputs if name in loaded.weights}, inputs)


def relative_error(mine: F32, exact: NDArray[np.float64]) -> float:
    """Return ‖mine − exact‖ / ‖exact‖ (Frobenius)."""
    return float(np.linalg.norm(mine - exact) / np.linalg.norm(exact))
