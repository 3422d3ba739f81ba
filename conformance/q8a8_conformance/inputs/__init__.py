"""What kernels are called with: whole calls, rows, blocks, and random inputs."""
