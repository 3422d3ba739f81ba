"""Adapters: other people's Python implementations as objects that `q8a8 test py:MODULE:OBJECT` can judge.

An adapter is an object, or a class without constructor arguments, with one method for each ABI function that
the implementation has, named as in C. What the implementation lacks, the object lacks: it is reported as not
run. A method gets the C arguments in C order: pointers as one-dimensional NumPy arrays (float32 for
``float *``, int8 for ``int8_t *``, uint16 for the bits of a half, uint8 for the bytes of blocks), integers as
`int`. It writes its outputs in place; inputs are not writable; what it returns is ignored, and an exception
counts as a refused call. An array may be longer than the integers say: use the first ``k`` elements, and no
more. An attribute ``version``, a string, goes into the report.

`q8a8_conformance.adapters.gguf_py` is one to copy.
"""
