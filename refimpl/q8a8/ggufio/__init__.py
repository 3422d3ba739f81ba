"""GGUF files in and out: models of the real world, to Q8_A8 and back.

::

    header        the header, every length in it checked against the file before it is believed
    tensor_types  the types of tensors and of metadata, as data
    design_id     what tensor type 39 means in a file
    floats        the bytes of a tensor as float32
    model         an open file: metadata, tensors, numbers in parts
    select        which tensors are quantized
    split         parts of a model that is split over several files
    safetensors   tensors of Hugging Face's files
    hf_config     a model's shape in `config.json`
    hf_tokenizer  a tokenizer in `tokenizer.json`
    hf            a folder of these as a GGUF file
    fold          smoothing factors, put into tensors as they stream by
    writer        a file that is written tensor by tensor, and appears when it is complete
    integer_weights  weights of AWQ, GPTQ and int4 in ggml's types, exactly
    quantize      a model to Q8_A8, smoothed if asked for; and back to floats

NumPy is enough for files of F32, F16, BF16 and Q8_0; other tensor types are read by the package `gguf` (the
extra `model`).
"""

from q8a8.ggufio.errors import GgufError, MissingExtraError
from q8a8.ggufio.header import Field, Header, TensorInfo
from q8a8.ggufio.integer_weights import IntegerWeight, exact_blocks, replace_weights
from q8a8.ggufio.model import GgufModel, open_model
from q8a8.ggufio.plan import Summary
from q8a8.ggufio.quantize import dequantize_model, quantize_model
from q8a8.ggufio.select import is_linear
from q8a8.ggufio.tensor_types import TensorType

__all__ = [
    "Field",
    "GgufError",
    "GgufModel",
    "Header",
    "IntegerWeight",
    "MissingExtraError",
    "Summary",
    "TensorInfo",
    "TensorType",
    "dequantize_model",
    "exact_blocks",
    "is_linear",
    "open_model",
    "quantize_model",
    "replace_weights",
]
