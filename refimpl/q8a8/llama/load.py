"""A model from a GGUF file: shape, weights in float32, tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from q8a8.errors import ShapeError
from q8a8.ggufio import open_model
from q8a8.llama.config import Config
from q8a8.llama.errors import ModelError
from q8a8.llama.model import Model
from q8a8.llama.tensors import check_shapes
from q8a8.llama.tokenizer import Tokenizer

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from q8a8.llama.linear import Linear

__all__ = ["LoadedModel", "load"]


@dataclass(frozen=True)
class LoadedModel:
    """The contents of a GGUF file.

    Attributes
    ----------
    config
        The model's shape.
    weights
        float32 by GGUF name, matrices `[out, in]`.
    metadata
        The file's metadata, values by key.
    sha256
        Of the file, as hex digits.
    path
        The file, for errors.
    """

    config: Config
    weights: dict[str, NDArray[np.float32]]
    metadata: Mapping[str, object]
    sha256: str
    path: str = ""

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, built on first access; errors as `Tokenizer`, with the file's name."""
        try:
            return Tokenizer(self.metadata)
        except ModelError as error:
            raise (type(error)(f"{self.path}: {error}") if self.path else error) from None

    def opened(self, positions: int) -> LoadedModel:
        """Return the same for runs of at most so many positions, as `Config.opened`."""
        return replace(self, config=self.config.opened(positions))

    def model(self, *, linears: Mapping[str, Linear] | None = None) -> Model:
        """Build the model; parameters and errors as `Model`."""
        return Model(self.config, self.weights, linears=linears)


def load(path: str | os.PathLike[str], *, allow_id_39: bool = False) -> LoadedModel:
    """Read a model; quantized tensors are dequantized.

    Parameters
    ----------
    path
        A GGUF file of an architecture in `q8a8.llama.families`.
    allow_id_39
        As `q8a8.ggufio.open_model`.

    Raises
    ------
    GgufError, DomainError, MissingExtraError
        as `q8a8.ggufio.open_model` and its `read`.
    ModelError, ShapeError
        as `Config.from_metadata` and `q8a8.llama.tensors.check_shapes`, with the file's name; nothing of the
        tensors has been read then.
    """
    with open_model(path, allow_id_39=allow_id_39) as file:
        try:
            config = Config.from_metadata(file.metadata)
            check_shapes(config, {name: info.shape for name, info in file.tensors.items()})
        except (ModelError, ShapeError) as error:
            raise type(error)(f"{path}: {error}") from None
        weights = {name: file.read(name) for name in file.tensors}
        return LoadedModel(config, weights, dict(file.metadata), file.sha256(), str(path))
