"""Q8_A8: the NumPy reference implementation of the block format."""
