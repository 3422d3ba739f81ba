"""Files of blocks and of models: read, written, quantized and inspected."""
