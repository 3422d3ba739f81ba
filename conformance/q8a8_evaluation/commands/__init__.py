"""The commands of `q8a8` that measure: the reference's speed, and language models in each scheme."""
