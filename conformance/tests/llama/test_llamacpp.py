"""The process that llama.cpp runs in: what it refuses, and how it ends."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import struct
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from q8a8.llama import Model, load
from q8a8_evaluation import llamacpp, llamacpp_child
from q8a8_evaluation.llamacpp import LlamaCpp, LlamaCppError, LlamaCppUnavailableError
from q8a8_lab.evaluation.llama_agreement import GgmlAngles
from q8a8_lab.evaluation.rounding_noise import agreement, logit_noise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.llama.conftest import Tiny, WriteTiny


@pytest.fixture(scope="module")
def path(
    need: Callable[[object, str], None],
    tiny: Tiny,
    write_tiny: WriteTiny,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a small model's file; need a real llama.cpp."""
    try:
        llamacpp.library()
    except LlamaCppUnavailableError as error:
        need(False, str(error))
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_tiny(path, tiny)
    return path


def test_small_model_runs(path: Path) -> None:
    """It says what it is, in as many positions as asked for at least."""
    with LlamaCpp(path, n_ctx=100, threads=2) as llama:
        assert llama.n_vocab == 300
        assert llama.n_ctx >= 100
        assert llama.ggml.count(".") >= 2
        assert all(isinstance(name, str) for name in llama.features)
        assert llama.logits([1, 2, 3]).shape == (3, 300)
        assert llama.tokenize("", bos=False) == []
        assert llama.tokenize("he", bos=True)[-1] == llama.tokenize("he")[0]


F32 = (gguf.GGMLQuantizationType.F32,)


@pytest.mark.parametrize(
    ("scaling", "factors", "head"),
    [(None, False, False), (4.0, False, False), (None, True, False), (8.0, True, True)],
    ids=["plain", "scaled", "factors", "all"],
)
def test_small_model_is_the_same(
    path: Path, tiny: Tiny, write_tiny: WriteTiny, scaling: float | None, factors: bool, head: bool
) -> None:
    """Linear scaling, Llama 3's frequency factors, a head of its own: llama.cpp computes what we compute."""
    rng = np.random.default_rng(31)
    weights = dict(tiny.weights)
    if factors:
        weights["rope_freqs.weight"] = np.linspace(1, 32, 8, dtype=np.float32)
    if head:
        weights["output.weight"] = rng.normal(size=(300, 64)).astype(np.float32)
    path = path.with_name(f"{scaling}-{factors}-{head}.gguf")
    write_tiny(path, dataclasses.replace(tiny, weights=weights), types=F32, scaling=scaling)
    loaded = load(path)
    tokens = [*tiny.tokens, *range(40)]
    noise = logit_noise(loaded.config, loaded.weights, tokens)
    with LlamaCpp(path) as llama:
        assert agreement(llama.logits(tokens), noise).holds
    assert agreement(loaded.model().forward(tokens), noise).holds
    # And each of them matters.
    plain = Model(tiny.config, tiny.weights).forward(tokens)
    assert agreement(plain, noise).holds == (not (scaling or factors or head))


def test_angles_explain_the_difference(path: Path, tiny: Tiny, write_tiny: WriteTiny) -> None:
    """Far along, most of llama.cpp's distance from float64 is its way to compute angles in float32."""
    far = dataclasses.replace(tiny, config=tiny.config_but(context=2048))
    path = path.with_name("far.gguf")
    write_tiny(path, far, types=F32)
    loaded = load(path)
    tokens = np.random.default_rng(32).integers(0, 300, 1200).tolist()
    exact = {name: weight.astype(np.float64) for name, weight in loaded.weights.items()}
    with LlamaCpp(path, n_ctx=2048) as llama:
        logits = llama.logits(tokens, first=900)
    distance = {
        kind: np.sqrt(
            np.mean(np.square(logits - kind(loaded.config, exact).forward(tokens, logits_from=900)))
        )
        for kind in (Model, GgmlAngles)
    }
    assert distance[GgmlAngles] < distance[Model] / 2


@pytest.mark.parametrize("pre", ["smollm", "gpt-2"])
def test_small_tokenizer_is_the_same(path: Path, tiny: Tiny, write_tiny: WriteTiny, pre: str) -> None:
    """Both ways to split text, on texts of everything that the rules tell apart."""
    path = path.with_name(f"{pre}.gguf")
    write_tiny(path, tiny, pre=pre)
    tokenizer = load(path).tokenizer
    rng = random.Random(6)  # noqa: S311 -- texts, no secrets
    pieces = [
        *(
            "the",
            " the",
            "t",
            "he",
            "Then",
            "1",
            "23",
            "½",
            " ",
            "  ",
            "\n",
            "\t",
            "\u3000",
            "'s",
            "'",
            "'ll",
        ),
        *("é", "中", "😀", "!", "--", "\x00", "<|im_start|>", "<|unused3|>", "\u0301"),
    ]
    with LlamaCpp(path) as llama:
        for i in range(300):
            text = "".join(rng.choices(pieces, k=rng.randrange(20)))
            special = i % 2 == 0
            assert tokenizer.encode(text, special=special) == llama.tokenize(text, special=special), repr(
                text
            )


def test_batches_are_one_text(path: Path) -> None:
    """More tokens than a batch has: the rows of each come in order, from any first one."""
    text = list(range(10, 40))
    with LlamaCpp(path, n_ctx=64) as llama:
        whole = llama.logits(text)
    with LlamaCpp(path, n_ctx=64, n_batch=7) as llama:
        for first in (0, 6, 7, 29):
            rows = llama.logits(text, first=first)
            assert rows.shape == (30 - first, 300)
            assert (rows.argmax(-1) == whole[first:].argmax(-1)).all()


def test_refusals_leave_it_alive(path: Path) -> None:
    """A token that there is not, too many tokens, a piece of nothing: an error each, and then an answer."""
    with LlamaCpp(path, n_ctx=256) as llama:
        with pytest.raises(LlamaCppError, match="llama_decode gives -1"):
            llama.logits([300])
        with pytest.raises(LlamaCppError, match=r"0 \+ 300 positions, there are 256"):
            llama.logits([1] * 300)
        for tokens, first in (([1], 1), ([], 0), ([1], -1)):
            with pytest.raises(ValueError, match="first"):
                llama.logits(tokens, first=first)
        assert llama.logits([1]).shape == (1, 300)


def test_what_cannot_be_loaded(path: Path, tmp_path: Path) -> None:
    """No file, or no model in it: what llama.cpp printed is shown."""
    with pytest.raises(LlamaCppError, match=r"gone\.gguf: llama\.cpp cannot load it"):
        LlamaCpp(tmp_path / "gone.gguf")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(LlamaCppError, match="cannot load it"):
        LlamaCpp(broken)


def test_death_is_told(path: Path) -> None:
    """A process that dies is an error that says how; one that was ended as well."""
    llama = LlamaCpp(path)
    os.kill(llama._child.pid, signal.SIGKILL)
    with pytest.raises(LlamaCppError, match="killed by SIGKILL"):
        llama.logits([1])
    llama.close()
    with pytest.raises(LlamaCppError, match="was ended"):
        llama.tokenize("a")


@pytest.mark.parametrize("options", [{"kv_type": "q4_0"}, {"n_ctx": 0}, {"n_batch": 0}, {"threads": 0}])
def test_options_are_checked(path: Path, options: dict[str, object]) -> None:
    """Before a process is started."""
    with pytest.raises(ValueError, match=next(iter(options))):
        LlamaCpp(path, **options)  # type: ignore[arg-type]  # by name


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what installs it."""
    monkeypatch.setattr(llamacpp, "find_spec", lambda _: None)
    with pytest.raises(LlamaCppUnavailableError, match=r"pip install -e '\.\[oracles\]'"):
        LlamaCpp("model.gguf")


def defaults(kind: str) -> llamacpp_child._Opaque:
    """Lay out the known defaults."""
    params = llamacpp_child._Opaque()
    for offset, form, known in llamacpp_child.DEFAULTS[kind].values():
        struct.pack_into(form, params, offset, known)
    return params


@pytest.mark.parametrize("kind", ["model", "context"])
def test_another_layout_is_refused(kind: str) -> None:
    """Each field that is not where it is known to be, or has another default; nothing is set then."""
    llamacpp_child._set(defaults(kind), kind)
    for name, (offset, form, known) in llamacpp_child.DEFAULTS[kind].items():
        params = defaults(kind)
        struct.pack_into(form, params, offset, known + 1)
        before = bytes(params)
        with pytest.raises(llamacpp_child.LibraryError, match=f"{name} is .* at byte {offset}"):
            llamacpp_child._set(params, kind, **{name: 7})
        assert bytes(params) == before


def test_fields_are_set_where_they_are() -> None:
    """And nothing else is."""
    params = defaults("context")
    llamacpp_child._set(params, "context", n_ctx=513, type_v=0)
    expected = bytearray(defaults("context"))
    expected[0:4] = struct.pack("<I", 513)
    expected[108:112] = bytes(4)
    assert bytes(params) == bytes(expected)
