"""The model path: commands that measure quantization schemes on a real language model."""
