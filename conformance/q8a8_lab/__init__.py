"""The project's laboratory, not in the wheel.

Mutation testing of the suite, real third-party kernels, the demo, page writers, and builds of the C kernels.
"""
