"""The plots of FP8, of the KV cache and of the observers: the same bytes each time, and what they claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8.methods.observers import Observer
from q8a8_lab.evaluation.plots import fp8, kv_cache, observers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def drawn_twice(draw: Callable[[Path], None], path: Path) -> str:
    """Draw a plot twice and give it, once it is known to be the same both times."""
    texts = []
    for _ in range(2):
        draw(path)
        texts.append(path.read_text("utf-8"))
    assert texts[0] == texts[1]
    return texts[0]


def test_fp8(tmp_path: Path) -> None:
    """The error of a normal number is below 1/16 in E4M3 and 1/8 in E5M2; that of int8 falls with size."""
    curves = fp8.curves()
    for name, limit, normal in (("e4m3fn", 1 / 16, 2.0**-6 / 448), ("e5m2", 1 / 8, 2.0**-14 / 57344)):
        size, worst = curves[name]
        assert worst[size >= normal].max() < limit
    size, worst = curves["int8"]
    near = size >= 1 / 16
    assert (worst[near] <= 1 / 254 / size[near] * (1 + 1e-5)).all()
    assert (worst[size < 1 / 300] == 1).all()
    real = {f"{n}, {g}": {"ffn_down": [0.1, 0.2]} for n in fp8.NAMES for g in ("tensor", "token")}
    text = drawn_twice(lambda path: fp8.draw(curves, real, path), tmp_path / "fp8.svg")
    assert "e4m3fn, token" in text


def test_kv_cache(tmp_path: Path) -> None:
    """Where keys have an outlier channel, groups along tokens are more exact; every layer is measured."""
    rng = np.random.default_rng(1)

    def heads() -> kv_cache.Heads:
        keys = rng.standard_normal((64, 2, 32)).astype(np.float32)
        keys[..., 3] += 50
        values = rng.standard_normal((64, 2, 32)).astype(np.float32)
        queries = rng.standard_normal((64, 4, 32)).astype(np.float32)
        return kv_cache.Heads(queries, keys, np.float32(0.5) * keys, values)

    layers = [heads() for _ in range(12)]
    int4 = kv_cache.measure(layers, 4)
    for by_channel, by_token in zip(int4["keys by channel"][0], int4["keys by token"][0], strict=True):
        assert by_channel < by_token
    assert [len(lines) for lines in int4["values by token"]] == [12, 12]
    text = drawn_twice(lambda path: kv_cache.draw(layers, int4, path), tmp_path / "kv.svg")
    assert "keys before rotation" in text


def test_observers(tmp_path: Path) -> None:
    """The error that is shown is least for mse's threshold."""
    rng = np.random.default_rng(2)
    seen = {}
    for name in observers.SHOWN:
        seen[name] = Observer()
        seen[name].observe(rng.standard_t(3, 20_000).astype(np.float32))
        errors = [observers.error(seen[name], seen[name].threshold(method)) for method in observers.DRAWN]
        assert min(errors) == errors[observers.DRAWN.index("mse")]
    text = drawn_twice(lambda path: observers.draw(seen, path), tmp_path / "observers.svg")
    assert "percentile-99.99" in text
