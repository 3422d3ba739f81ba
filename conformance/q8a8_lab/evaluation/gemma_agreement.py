"""Generate text with Gemma 3 270M in NumPy and in llama.cpp, from one float32 file.

::

    python -m q8a8_lab.evaluation.gemma_agreement

needs 3 GB of memory, 2 GB of disk and a few minutes. One prompt is longer than the window of local layers.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from q8a8.ggufio.quantize import dequantize_model
from q8a8.llama import generate, load
from q8a8_evaluation.llamacpp import LlamaCpp
from q8a8_evaluation.text import read_text
from q8a8_lab.evaluation import assets

__all__ = ["main"]

COUNT = 24
"""Tokens that are generated."""

LONG = 600
"""Tokens of the long prompt; the window has 512."""


def main() -> int:
    """Compare the most probable tokens; 1 where a text differs."""
    same = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gemma.gguf"
        dequantize_model(assets.gemma(), path)
        loaded = load(path)
        model, tokenizer = loaded.model(), loaded.tokenizer
        prompts = ["The capital of France is", "한국의 수도는", "def fibonacci(n):\n"]
        tokens = [tokenizer.encode(text, bos=tokenizer.add_bos) for text in prompts]
        article = read_text(assets.wikipedia(), at_least=24 * LONG)
        tokens.append(tokenizer.encode(article[: 24 * LONG], bos=tokenizer.add_bos)[:LONG])
        with LlamaCpp(path, n_ctx=1024) as llama:
            for prompt in tokens:
                ours = list(generate(model, prompt, COUNT))
                theirs = llama.generate(prompt, COUNT)
                same &= ours == theirs
                verdict = "the same" if ours == theirs else "DIFFERENT"
                sys.stdout.write(f"{len(prompt)} tokens, then {verdict}: {tokenizer.decode(ours)!r}\n")
                sys.stdout.flush()
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
