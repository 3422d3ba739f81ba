"""Plot for docs/methods/kv-cache.md: where keys and values are large, and what int4 costs each grouping.

``python -m q8a8_lab.evaluation.plots.kv_cache``
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from q8a8.llama.layers import attention
from q8a8.llama.load import load
from q8a8.llama.rope import rope_angles, rotate
from q8a8.methods.kv_cache import dequantize, quantize
from q8a8_evaluation.text import read_text, windows
from q8a8_lab.evaluation import assets
from q8a8_lab.evaluation.plots.figure import FOLDER, finish, panels, table

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from q8a8.llama.load import LoadedModel

    F32 = NDArray[np.float32]

TOKENS = 512
GROUP = 32
LAYER, HEAD = 11, 0
"""Whose channels are drawn."""


@dataclass(frozen=True)
class Heads:
    """The operands of one layer's attention, float32 `[TOKENS, heads, d_head]` each.

    `plain` are the keys before their rotary positions.
    """

    queries: F32
    keys: F32
    plain: F32
    values: F32


def observe(loaded: LoadedModel) -> list[Heads]:
    """Run the model in float on the first tokens of the Wikipedia text: a `Heads` for each layer."""
    text = read_text(assets.wikipedia(), at_least=24 * TOKENS)
    (window,) = windows(loaded.tokenizer.encode(text), TOKENS, 1)
    projected: dict[str, F32] = {}

    def keep(name: str, x: F32) -> None:
        if name.split(".")[-2] in {"attn_q", "attn_k", "attn_v"}:
            y = np.asarray(x @ loaded.weights[name].T)
            projected[name] = y.reshape(len(x), -1, loaded.config.d_head)

    loaded.model().forward(window, observe=keep, logits_from=TOKENS)
    config = loaded.config
    turn = np.exp(1j * rope_angles(np.arange(TOKENS), config.d_head, config.rope_base)).astype(np.complex64)
    layers = []
    for layer in range(config.n_layers):
        q, k, v = (projected[f"blk.{layer}.attn_{kind}.weight"] for kind in "qkv")
        layers.append(Heads(rotate(q, turn), rotate(k, turn), k, v))
    return layers


def by_channel(x: F32, bits: int) -> F32:
    """Quantize and dequantize with groups along the tokens of a channel."""
    groups = x.reshape(-1, GROUP, *x.shape[1:])
    return dequantize(*quantize(groups, bits, axis=1)).reshape(x.shape)


def by_token(x: F32, bits: int) -> F32:
    """Quantize and dequantize with groups along the channels of a token."""
    groups = x.reshape(*x.shape[:-1], -1, GROUP)
    return dequantize(*quantize(groups, bits)).reshape(x.shape)


def error(mine: F32, exact: F32) -> float:
    """Return the relative error, of all elements together."""
    return float(np.linalg.norm(mine - exact) / np.linalg.norm(exact))


def measure(layers: list[Heads], bits: int) -> dict[str, tuple[list[float], list[float]]]:
    """Return the errors of what is stored, and of the attention's output, for each layer."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for layer in layers:
        exact = attention(layer.queries, layer.keys, layer.values)
        for name, way in (("by channel", by_channel), ("by token", by_token)):
            keys, values = way(layer.keys, bits), way(layer.values, bits)
            for kind, stored, output in (
                (
                    "keys",
                    error(keys, layer.keys),
                    error(attention(layer.queries, keys, layer.values), exact),
                ),
                (
                    "values",
                    error(values, layer.values),
                    error(attention(layer.queries, layer.keys, values), exact),
                ),
            ):
                lines = found.setdefault(f"{kind} {name}", ([], []))
                lines[0].append(stored)
                lines[1].append(output)
        plain = found.setdefault("keys before rotation, by channel", ([], []))
        plain[0].append(error(by_channel(layer.plain, bits), layer.plain))
    return found


def draw(layers: list[Heads], int4: dict[str, tuple[list[float], list[float]]], path: Path) -> None:
    """Draw the channels of a head, and the errors of attention's output by layer."""
    figure, (left, right) = panels(2)
    shown = layers[LAYER]
    for label, x in (
        ("keys", shown.keys),
        ("keys before rotation", shown.plain),
        ("values", shown.values),
    ):
        left.plot(np.abs(x[:, HEAD]).max(axis=0), label=label)
    left.set(title=f"largest magnitude of a channel, layer {LAYER}", xlabel="channel", yscale="log")
    for name in ("keys by channel", "keys by token", "values by channel", "values by token"):
        style = "-" if name in {"keys by channel", "values by token"} else "--"
        right.plot(int4[name][1], style, color="C0" if name.startswith("keys") else "C2", label=name)
    right.set(title="error of attention's output, int4", xlabel="layer", yscale="log")
    for axis in (left, right):
        axis.legend(fontsize=8)
    finish(figure, path)


def main() -> None:
    """Measure on the real model, print a table and write the plot."""
    layers = observe(load(assets.model()))
    measured = {bits: measure(layers, bits) for bits in (8, 4)}
    rows = [
        (f"int{bits}", name, float(np.mean(stored)), float(np.mean(output)) if output else "")
        for bits, found in measured.items()
        for name, (stored, output) in found.items()
    ]
    table(("codes", "groups", "error of what is stored", "error of attention's output"), rows)
    draw(layers, measured[4], FOLDER / "kv_cache.svg")


if __name__ == "__main__":
    main()
