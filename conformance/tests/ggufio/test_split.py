"""Models that are split over several files: one part is not a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.ggufio import GgufError, dequantize_model, quantize_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import gguf

TENSORS = {"output.weight": (np.ones((2, 32), np.float32), "Q8_0")}


def parts(count: int) -> Callable[[gguf.GGUFWriter], None]:
    """Return a function that adds the number of parts, as gguf-split does."""
    return lambda writer: writer.add_uint16("split.count", count)


def test_a_part_is_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    """A part is refused with all parts named, those that are missing too, and nothing is written."""
    part = write("m-00001-of-00002.gguf", TENSORS, fields=parts(2))
    named = r"is one of 2 parts of a split model \(m-00001-of-00002\.gguf, m-00002-of-00002\.gguf"
    for convert in (quantize_model, dequantize_model):
        with pytest.raises(GgufError, match=rf"{named}; missing: m-00002-of-00002\.gguf\): merge them first"):
            convert(part, tmp_path / "out.gguf")
    write("m-00002-of-00002.gguf", TENSORS)
    with pytest.raises(GgufError, match=rf"{named}\): merge them first, with llama-gguf-split"):
        quantize_model(part, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_names_and_counts(write: Callable[..., Path], tmp_path: Path) -> None:
    """Name or count suffices; few of many parts are named; a model of one part is whole."""
    with pytest.raises(GgufError, match="is one of 3 parts of a split model: merge them first"):
        quantize_model(write("in.gguf", TENSORS, fields=parts(3)), tmp_path / "out.gguf")
    with pytest.raises(GgufError, match=r"00008-of-00100\.gguf, \.\.\.\): merge"):
        quantize_model(write("m-00007-of-00100.gguf", TENSORS), tmp_path / "out.gguf")
    quantize_model(write("m-00001-of-00001.gguf", TENSORS, fields=parts(1)), tmp_path / "out.gguf")
