"""What a kernel computes, found by experiments on it and named afterwards.

For a dot product: the tree of its additions over blocks and lanes, and how it rounds (`dots`). The order that
is found is a value of the reference's own type, and the reference must give the kernel's bits with it.
"""
