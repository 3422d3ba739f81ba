"""The inputs of kernels: whole calls, rows, blocks, and random inputs."""
