"""What a kernel computes, found by experiments on it."""
