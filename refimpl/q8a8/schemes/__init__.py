"""Quantization schemes for the linear operators of a language model."""
