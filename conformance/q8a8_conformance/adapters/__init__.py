"""Adapters: third-party Python implementations as objects for `q8a8 test py:MODULE:OBJECT`.

An adapter is an object, or a class without constructor arguments, with one method for each ABI function of
the implementation, named as in C. Missing functions are reported as not run. A method takes the C arguments
in C order: pointers as one-dimensional NumPy arrays (float32 for ``float *``, int8 for ``int8_t *``, uint16
for the bits of a half, uint8 for the bytes of blocks), integers as `int`. It writes its outputs in place;
inputs are read-only; the return value is ignored, and an exception is a refused call. An array may be longer
than the integers require: use only the first ``k`` elements. A string attribute ``version`` is copied to the
report.

`q8a8_conformance.adapters.gguf_py` is an example. `gguf_py:product`, `onnxruntime_py:kernel` and
`torchao_py:kernel` are matrix products as these packages make them: ``q8a8 reveal`` names their arithmetic,
which is not this format's.
"""
