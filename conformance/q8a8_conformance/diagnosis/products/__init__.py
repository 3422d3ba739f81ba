"""What a matrix product does wrong: places of outputs, terms, activations and what it keeps (`experiments`).

An output that is wrong by itself is measured as a dot product (`dots`).
"""
