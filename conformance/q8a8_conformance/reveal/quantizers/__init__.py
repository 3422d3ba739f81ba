"""What a quantizer computes: where its bytes are, whose amax counts, its arithmetic (`revealed`)."""
