"""The worker protocol: messages and their bytes, processes, sessions, and kinds of kernel under test."""
