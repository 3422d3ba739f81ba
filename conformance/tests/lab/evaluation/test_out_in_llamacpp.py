"""The file that `q8a8 quantize` writes, in a real llama.cpp: each bit of each logit, and what breaks it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.ggufio import open_model, quantize_model
from q8a8.llama import Model, Q8A8Linear
from q8a8_evaluation import llamacpp
from q8a8_evaluation.llamacpp import LlamaCpp, LlamaCppUnavailableError
from q8a8_lab.evaluation import out_in_llamacpp
from q8a8_lab.evaluation.ggml_arithmetic import GgmlModel
from q8a8_lab.evaluation.out_in_llamacpp import (
    FEATURES,
    Subject,
    codes_that_differ,
    difference,
    parting,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    Observer = Callable[[str, F32], None]

TEXT = "She opened the old door and saw"
"""Token by token and in a batch, llama.cpp's logits part from its fourth token on."""


@pytest.fixture(scope="module")
def subject(
    need: Callable[[object, str], None], real_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Subject:
    """Return the real model, quantized; need a real llama.cpp."""
    try:
        llamacpp.library()
    except LlamaCppUnavailableError as error:
        need(False, str(error))
    path = tmp_path_factory.mktemp("model") / "out.gguf"
    quantize_model(real_model, path)
    return Subject(path)


@pytest.fixture(scope="module")
def tokens(subject: Subject) -> list[int]:
    """Return the text."""
    return subject.loaded.tokenizer.encode(TEXT)


@pytest.fixture(scope="module")
def theirs(subject: Subject, tokens: list[int]) -> F32:
    """Return llama.cpp's logits token by token; skip where it has another arithmetic than the one here."""
    with LlamaCpp(subject.path, n_batch=1) as llama:
        if llama.features != FEATURES:
            pytest.skip(f"this llama.cpp is built for {' '.join(llama.features)}")
        return llama.logits(tokens)


@pytest.fixture(scope="module")
def ours(subject: Subject, tokens: list[int]) -> F32:
    """Return the logits in ggml's arithmetic."""
    return subject.model().forward_text(tokens)


def test_every_bit_token_by_token(ours: F32, theirs: F32, tokens: list[int]) -> None:
    """Thirty layers and the head: every logit of every token is the same float32."""
    found = difference(ours, theirs, tokens)
    assert found.same
    assert found.logits == found.nll == found.mean == 0


def test_every_bit_in_a_batch(subject: Subject, ours: F32, theirs: F32, tokens: list[int]) -> None:
    """All tokens at once run other kernels: one number of attention differs enough, and is explained too."""
    with LlamaCpp(subject.path) as llama:
        batch = llama.logits(tokens)
    assert difference(subject.model(batch=True).forward_text(tokens), batch, tokens).same
    assert 0 < difference(batch, theirs, tokens).identical < len(tokens)
    assert not difference(ours, batch, tokens).same


def changed(
    subject: Subject, path: Path, *names: str
) -> dict[str, np.memmap[tuple[int], np.dtype[np.uint8]]]:
    """Copy the file, and map the bytes of some tensors of the copy."""
    shutil.copy(subject.path, path)
    with open_model(path) as file:
        places = {name: file.tensors[name] for name in names}
    return {
        name: np.memmap(path, np.uint8, "r+", info.offset, (info.n_bytes,)) for name, info in places.items()
    }


def logits_of(path: Path, tokens: list[int]) -> F32:
    """Run a changed file in llama.cpp."""
    with LlamaCpp(path, n_batch=1) as llama:
        return llama.logits(tokens)


def test_a_scale_of_one_percent_shows(
    subject: Subject, ours: F32, theirs: F32, tokens: list[int], tmp_path: Path
) -> None:
    """All scales of one matrix of the last layer are 1 % larger."""
    assert len(theirs)
    name = "blk.29.ffn_down.weight"
    blocks = changed(subject, tmp_path / "scale.gguf", name)[name].reshape(-1, 34)
    scales = blocks[:, :2].copy().view(np.float16)
    blocks[:, :2] = (scales.astype(np.float32) * 1.01).astype(np.float16).view(np.uint8)
    assert not difference(ours, logits_of(tmp_path / "scale.gguf", tokens), tokens).same


def test_two_tensors_exchanged_show(
    subject: Subject, ours: F32, specified: F32, noise: float, tokens: list[int], tmp_path: Path
) -> None:
    """Keys and values of one layer, which have the same shape: far outside what quantization does."""
    names = "blk.4.attn_k.weight", "blk.4.attn_v.weight"
    first, second = changed(subject, tmp_path / "pair.gguf", *names).values()
    first[:], second[:] = second.copy(), first.copy()
    found = logits_of(tmp_path / "pair.gguf", tokens)
    assert not difference(ours, found, tokens).same
    assert not within(difference(specified, found, tokens), noise)


def test_one_code_shows(subject: Subject, ours: F32, theirs: F32, tokens: list[int], tmp_path: Path) -> None:
    """One weight of 134 million is one step larger."""
    assert len(theirs)
    name = "blk.0.ffn_down.weight"
    raw = changed(subject, tmp_path / "code.gguf", name)[name]
    raw[2] += 1 if raw[2] != 127 else -1
    assert not difference(ours, logits_of(tmp_path / "code.gguf", tokens), tokens).same


@pytest.fixture(scope="module")
def specified(subject: Subject, theirs: F32, tokens: list[int]) -> F32:
    """Return the logits as specified."""
    assert len(theirs)
    return subject.specified().forward_text(tokens)


@pytest.fixture(scope="module")
def noise(subject: Subject, specified: F32, tokens: list[int]) -> float:
    """Return how far quantized activations move the logits: root mean square."""
    return difference(specified, subject.loaded.model().forward(tokens), tokens).logits_rms


def test_as_specified_lies_within_the_quantization(specified: F32, noise: float, theirs: F32) -> None:
    """Not the same bits, but no further away than two independent roundings of the activations are."""
    tokens = list(range(len(theirs)))
    apart = difference(specified, theirs, tokens)
    assert not apart.same
    assert within(apart, noise)


def test_parts_left_out_are_the_model(subject: Subject, tokens: list[int]) -> None:
    """Without any part of ggml's, it is `Model`'s own forward pass."""
    plain = Model(subject.loaded.config, subject.loaded.weights, linears=subject.linears(Q8A8Linear))
    np.testing.assert_array_equal(plain.forward(tokens[:2]), subject.specified().forward_text(tokens[:2]))


def test_generates_the_same(subject: Subject, theirs: F32) -> None:
    """Greedy: eight tokens of llama.cpp's are eight of ours, in its arithmetic."""
    assert len(theirs)
    prompt = subject.loaded.tokenizer.encode(out_in_llamacpp.PROMPT)
    with LlamaCpp(subject.path, n_batch=1) as llama:
        made = llama.generate(prompt, 8)
    text = [*prompt, *made]
    logits = subject.model().forward_text(text[:-1])
    assert parting(logits, len(prompt), text) is None
    other = [*text[:-1], (text[-1] + 1) % 1000]
    found = parting(logits, len(prompt), other)
    assert found is not None
    assert found[0] == 7
    assert found[1] == pytest.approx(float(logits[-1].max() - logits[-1][other[-1]]))


def test_difference_is_counted() -> None:
    """By hand: one row of two is the same; −0 is another number than +0 here."""
    ours = np.zeros((2, 2), np.float32)
    theirs = np.array([[0, 0], [0, 2]], np.float32)
    found = difference(ours, theirs, [0, 1])
    assert (found.tokens, found.identical, found.logits, found.logits_rms) == (2, 1, 2, 1)
    assert found.nll == found.nll_rms == found.mean == found.error == 0
    assert not difference(ours, -ours, [0, 1]).same
    assert difference(ours, ours.copy(), [0, 1]).same


class Shifted(GgmlModel):
    """A model that computes nothing, and shows its observers numbers that are known."""

    def forward_text(self, tokens: Sequence[int], observe: Observer | None = None) -> F32:
        """Show the observer the same numbers for every layer; with `batch`, one of the last layer's is 0."""
        x = np.tile(np.linspace(-1, 1, 32, dtype=np.float32), (len(tokens), 1))
        assert observe is not None
        for layer in range(self.config.n_layers):
            y = x.copy()
            if self.batch and layer == self.config.n_layers - 1:
                y[0, 0] = 0
            observe(f"blk.{layer}.attn_q.weight", y)
        observe("output.weight", x)
        return x


def test_codes_are_counted(subject: Subject) -> None:
    """One number of 64 in the last layer has another code, and none elsewhere."""
    config, weights = subject.loaded.config, subject.loaded.weights
    one, other = (Shifted(config, weights, batch=batch) for batch in (False, True))
    shares = codes_that_differ(one, other, [1, 2])
    assert shares[:-2].max() == shares[-1] == 0
    assert shares[-2] == 1 / 64
