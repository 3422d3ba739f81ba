"""The evaluation on a real model: its pages and plots, the claims, and the comparison with llama.cpp."""
