"""A model out of a file that another package wrote."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.ggufio import GgufError
from q8a8.llama import FloatLinear, Int8WeightLinear, MissingPackageError, ModelError, load

if TYPE_CHECKING:
    from pathlib import Path

    from tests.llama.conftest import Tiny, WriteTiny


def test_file_is_read(tiny: Tiny, write_tiny: WriteTiny, tmp_path: Path) -> None:
    """Shape, weights to the bit, metadata, hash; and the model runs."""
    path = tmp_path / "tiny.gguf"
    written = write_tiny(path, tiny)
    loaded = load(path)
    # float32 is what metadata have room for.
    assert loaded.config == tiny.config_but(eps=float(np.float32(tiny.config.eps)))
    assert list(loaded.weights) == list(written)
    for name, weight in written.items():
        assert loaded.weights[name].dtype == np.float32
        assert loaded.weights[name].shape == weight.shape
        assert loaded.weights[name].tobytes() == weight.astype(np.float32).tobytes()
    assert loaded.metadata["general.architecture"] == "llama"
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.model().forward(tiny.tokens).shape == (len(tiny.tokens), tiny.config.n_vocab)
    name = "blk.0.attn_q.weight"
    model = loaded.model(linears={name: Int8WeightLinear(loaded.weights[name])})
    assert isinstance(model.linears[name], Int8WeightLinear)
    assert isinstance(model.linears["blk.1.attn_q.weight"], FloatLinear)


def test_tokenizer_is_built_when_it_is_asked_for(
    tiny: Tiny, write_tiny: WriteTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model runs without one; it is built once."""
    path = tmp_path / "tiny.gguf"
    write_tiny(path, tiny)
    loaded = load(path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tokenizers", None)
        with pytest.raises(MissingPackageError):
            _ = loaded.tokenizer
        assert loaded.model().forward([1]).shape == (1, 300)
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("Grüße!")) == "Grüße!"
    assert loaded.tokenizer is loaded.tokenizer


def test_what_is_no_such_model(tiny: Tiny, write_tiny: WriteTiny, tmp_path: Path) -> None:
    """Another architecture, no GGUF file at all, and none there."""
    path = tmp_path / "other.gguf"
    write_tiny(path, tiny, architecture="gpt2")
    with pytest.raises(ModelError, match=r"other\.gguf: .* expected one of llama, .* got 'gpt2'"):
        load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(GgufError, match=r"other\.gguf"):
        load(path)
    with pytest.raises(GgufError, match=r"gone\.gguf"):
        load(tmp_path / "gone.gguf")
