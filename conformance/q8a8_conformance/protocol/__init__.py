"""The worker protocol: messages and their encoding, worker processes, sessions, and systems under test."""
