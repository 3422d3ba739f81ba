"""What a matrix product computes: its regimes of shapes, activations and trees of additions (`revealed`)."""
