"""A Llama model in NumPy, to measure the effect of a format on a language model, with every step readable.

::

    config     the shape of a model, from a GGUF file's metadata
    layers     RMSNorm, rotary positions, attention, SwiGLU
    linear     the linear operator: float, weights in Q8_A8, both sides in Q8_A8
    cache      keys and values of earlier positions
    model      tokens in, logits out
    tokenizer  text to tokens and back
    generate   one token after the other
    load       all of it out of a file

NumPy is enough to run a model; its tokenizer needs the package `tokenizers`, and a file with other types than
F32, F16, BF16 and Q8_0 needs the package `gguf` (the extra `model`).
"""

from q8a8.llama.cache import FloatCache, KVCache
from q8a8.llama.config import HEAD, Config, linear_names
from q8a8.llama.errors import MissingPackageError, ModelError
from q8a8.llama.generate import generate, probabilities
from q8a8.llama.linear import FloatLinear, Int8WeightLinear, Linear, Q8A8Linear
from q8a8.llama.load import LoadedModel, load
from q8a8.llama.model import Model
from q8a8.llama.tokenizer import Tokenizer

__all__ = [
    "HEAD",
    "Config",
    "FloatCache",
    "FloatLinear",
    "Int8WeightLinear",
    "KVCache",
    "Linear",
    "LoadedModel",
    "MissingPackageError",
    "Model",
    "ModelError",
    "Q8A8Linear",
    "Tokenizer",
    "generate",
    "linear_names",
    "load",
    "probabilities",
]
