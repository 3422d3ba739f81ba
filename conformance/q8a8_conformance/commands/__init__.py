"""The commands of `q8a8`, one module each; what they share is in `options`."""
