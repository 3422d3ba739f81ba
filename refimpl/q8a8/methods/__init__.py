"""Other methods of quantization, one a module, each with its formula, its source and its own rules.

Nothing here belongs to the format Q8_A8. The modules define what other methods compute, so that they
can be compared on the same model.
"""
