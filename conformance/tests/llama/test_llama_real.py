"""The real model against a real llama.cpp: tokens to the bit, logits within what float32 rounds."""

from __future__ import annotations

import bz2
import dataclasses
import random
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.ggufio.quantize import dequantize_model
from q8a8.llama import FloatCache, LoadedModel, Model, generate, load
from q8a8_evaluation import llamacpp
from q8a8_evaluation.llamacpp import LlamaCpp, LlamaCppUnavailableError
from q8a8_lab.evaluation.rounding_noise import Noise, agreement, logit_noise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from q8a8.llama import Config

    Weights = dict[str, NDArray[np.float32]]
    Need = Callable[[object, str], None]

T = 24
"""Tokens that logits are compared for."""


@pytest.fixture(scope="module", autouse=True)
def real_llama(need: Need) -> None:
    """Need a real llama.cpp."""
    try:
        llamacpp.library()
    except LlamaCppUnavailableError as error:
        need(False, str(error))


@pytest.fixture(scope="module")
def float_file(real_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the model in float32: the same weights for both, and no quantized activations in llama.cpp."""
    path = tmp_path_factory.mktemp("float") / "f32.gguf"
    dequantize_model(real_model, path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def loaded(float_file: Path) -> LoadedModel:
    """Return what this project reads of it."""
    return load(float_file)


@pytest.fixture(scope="module")
def llama(float_file: Path) -> Iterator[LlamaCpp]:
    """Return it in llama.cpp."""
    with LlamaCpp(float_file, n_ctx=256) as llama:
        yield llama


@pytest.fixture(scope="module")
def tokens(loaded: LoadedModel, news: Path) -> list[int]:
    """Return the first tokens of the news."""
    return loaded.tokenizer.encode(news.read_text("utf-8", "replace")[:2000])[:T]


@pytest.fixture(scope="module")
def noise(loaded: LoadedModel, tokens: list[int]) -> Noise:
    """Return the logits in float64, and how far float32 may be off."""
    return logit_noise(loaded.config, loaded.weights, tokens)


def test_tokens_of_texts_are_the_same(
    loaded: LoadedModel, llama: LlamaCpp, wikipedia: Path, news: Path
) -> None:
    """An encyclopedia with its markup, news, and Python: every token, and back to the text."""
    with bz2.open(wikipedia, "rt", encoding="utf-8") as file:
        article = file.read(150_000)
    for text in (article, news.read_text("utf-8", "replace")[:40_000], Path(__file__).read_text("utf-8")):
        tokens = loaded.tokenizer.encode(text)
        assert tokens == llama.tokenize(text)
        assert loaded.tokenizer.decode(tokens) == text


PIECES = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<file_sep>", "<|", "|>", "im_end", "<", ">"),
    *(
        " ",
        "  ",
        "\n",
        "\t",
        "\r\n",
        "\u00a0",
        "\u3000",
        "\u200b",
        "\ufeff",
        "\u0085",
        "\u2028",
        "\x00",
        "\x04",
    ),
    *("a", "Bc", "é", "e\u0301", "ﬁ", "中", "文", "ß", "Ж", "ع", "1", "23", "½", "٣", "Ⅷ"),
    *("😀", "👩‍👩‍👧", "'s", "'LL", "’s", "!", "...", "_", "=="),
)


@pytest.mark.parametrize("special", [False, True])
def test_tokens_of_hostile_texts_are_the_same(loaded: LoadedModel, llama: LlamaCpp, special: bool) -> None:
    """Runs of white space, digits, signs, emoji, control tokens and bytes without a token, in any order."""
    rng = random.Random(5)  # noqa: S311 -- texts, no secrets
    for _ in range(250):
        text = "".join(rng.choices(PIECES, k=rng.randrange(25)))
        assert loaded.tokenizer.encode(text, special=special) == llama.tokenize(text, special=special), repr(
            text
        )


def test_tokens_of_all_scripts_are_the_same(loaded: LoadedModel, llama: LlamaCpp) -> None:
    """Characters of every block, between letters, digits, signs and white space.

    Only assigned ones: what a character is that Unicode added lately, 93 new digits, the tables of the two
    know differently.
    """
    assigned = [
        chr(code) for code in range(0, 0x110000, 37) if unicodedata.category(chr(code)) not in {"Cn", "Cs"}
    ]
    assert len(assigned) > 3500
    for start in range(0, len(assigned), 500):
        text = "".join(f"a{c}{c} {c}1{c}!{c}! \n{c}\n" for c in assigned[start : start + 500])
        assert loaded.tokenizer.encode(text) == llama.tokenize(text)


def test_every_token_is_the_same_text(loaded: LoadedModel, llama: LlamaCpp) -> None:
    """A sample of all, the control tokens among them."""
    for token in (*range(20), *range(20, len(loaded.tokenizer), 97), len(loaded.tokenizer) - 1):
        assert loaded.tokenizer.decode_bytes([token]) == llama.piece(token)


def test_logits_agree(loaded: LoadedModel, llama: LlamaCpp, tokens: list[int], noise: Noise) -> None:
    """Both are within the bound, and have the same largest logit wherever rounding leaves no doubt of it."""
    for logits in (loaded.model().forward(tokens), llama.logits(tokens)):
        found = agreement(logits, noise)
        assert found.holds, found
        assert found.decided > T // 2


def test_next_token_is_the_same(loaded: LoadedModel, llama: LlamaCpp, tokens: list[int]) -> None:
    """Greedy generation gives one text, with each program's own cache."""
    assert list(generate(loaded.model(), tokens, 8)) == llama.generate(tokens, 8)


def test_llama_continues_what_it_has_seen(llama: LlamaCpp, tokens: list[int], noise: Noise) -> None:
    """In two calls as in one; from a later first token on only those."""
    llama.logits(tokens[:10])
    rest = llama.logits(tokens[10:], fresh=False)
    assert agreement(rest, dataclasses.replace(noise, reference=noise.reference[10:])).holds
    last = llama.logits(tokens, first=T - 2)
    assert last.shape == (2, llama.n_vocab)
    assert agreement(last, dataclasses.replace(noise, reference=noise.reference[-2:])).holds


def test_cache_agrees(loaded: LoadedModel, tokens: list[int], noise: Noise) -> None:
    """Our logits with a cache, in parts and token by token, are within the same bound."""
    model = loaded.model()
    cache = FloatCache(loaded.config, T)
    parts = [model.forward(tokens[:18], cache), *(model.forward([token], cache) for token in tokens[18:])]
    assert agreement(np.concatenate(parts), noise).holds


NORM, KEYS = "blk.15.attn_norm.weight", "blk.3.attn_k.weight"

WRONG: dict[str, Callable[[Config, Weights], tuple[Config, Weights]]] = {
    "norm of layer 15, 0.1 %": lambda c, w: (c, {**w, NORM: w[NORM] * np.float32(1.001)}),
    "keys of layer 3, 0.1 %": lambda c, w: (c, {**w, KEYS: w[KEYS] * np.float32(1.001)}),
    "base of the angles, 2 %": lambda c, w: (dataclasses.replace(c, rope_base=102000.0), w),
    "positions, 0.1 %": lambda c, w: (dataclasses.replace(c, rope_scale=1.001), w),
    "head of another group": lambda c, w: (c, {**w, KEYS: np.roll(w[KEYS], 64, axis=0)}),
    "eps of other models": lambda c, w: (dataclasses.replace(c, eps=1e-6), w),
}


@pytest.mark.parametrize("wrong", list(WRONG))
def test_bound_rejects_wrong_models(loaded: LoadedModel, tokens: list[int], noise: Noise, wrong: str) -> None:
    """A thousandth of one tensor, of the positions, a fiftieth of the base: outside."""
    config, weights = WRONG[wrong](loaded.config, loaded.weights)
    assert not agreement(Model(config, weights).forward(tokens), noise).holds


@pytest.mark.parametrize("options", [{"kv_type": "f16"}, {"flash_attn": True}], ids=["kv-f16", "flash"])
def test_bound_rejects_half_precision(
    float_file: Path, tokens: list[int], noise: Noise, options: dict[str, object]
) -> None:
    """Keys and values in float16, llama.cpp's default, are outside; so is its fused attention."""
    with LlamaCpp(float_file, n_ctx=256, **options) as llama:  # type: ignore[arg-type]  # by name
        found = agreement(llama.logits(tokens), noise)
    assert not found.holds
    # It is no other model either.
    assert found.same == found.decided


def test_quantized_file_is_another_computation(real_model: Path, tokens: list[int], noise: Noise) -> None:
    """On the Q4_1 file itself llama.cpp quantizes activations as well: hundreds of bounds away."""
    with LlamaCpp(real_model, n_ctx=256) as llama:
        found = agreement(llama.logits(tokens), noise)
    assert found.largest > 100 * found.bound


def test_agreement_takes_no_nan(noise: Noise) -> None:
    """A logit that is no number is no agreement."""
    logits = noise.reference.astype(np.float32)
    assert agreement(logits, noise).holds
    logits[3, 5] = np.nan
    assert not agreement(logits, noise).holds


def test_agreement_is_sharp(noise: Noise) -> None:
    """A logit just outside the bound is rejected, just inside it is not."""
    for factor, holds in ((1 - 1e-9, True), (1 + 1e-9, False)):
        logits = noise.reference.copy()
        logits[7, 123] += factor * noise.bound
        assert agreement(logits, noise).holds == holds
