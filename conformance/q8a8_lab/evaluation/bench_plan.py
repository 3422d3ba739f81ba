"""Document 001's plan of a benchmark (lines 131 to 161), in a real llama.cpp: F16 against Q8_A8.

::

    python -m q8a8_lab.evaluation.bench_plan docs/model/measured/bench-plan.json [THREADS]

As printed: a prompt of 512 tokens, 128 generated, and the process's resident memory; on SmolLM2-135M, whose
two files are written here. Times are to the first token and of generating, in rounds in which the files take
turns. llama.cpp is the library of the package xllamacpp, its arithmetic that of llama-bench's CPU backend.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from q8a8.atomic import write_text
from q8a8.ggufio import dequantize_model, quantize_model
from q8a8_evaluation.bench_model_child import prompt_tokens
from q8a8_evaluation.llamacpp import LlamaCpp
from q8a8_evaluation.memory_status import memory_bytes
from q8a8_lab.evaluation import assets

__all__ = ["main", "measure"]

PROMPT, GENERATE, ROUNDS = 512, 128, 2


def measure(
    files: dict[str, Path], *, prompt: int, generate: int, rounds: int, threads: int = 1
) -> dict[str, Any]:
    """Time models in turns.

    Parameters
    ----------
    files
        GGUF files by name.
    prompt, generate, rounds
        Tokens, and how often.
    threads
        Of each llama.cpp; they take turns, so all of them may use all cores.

    Returns
    -------
    dict
        By name the medians of `first_token_seconds` and `generate_seconds`, and the sizes of the file and of
        resident memory at its peak, both in bytes.
    """
    with ExitStack() as stack:
        # Weights rearranged for the processor, attention fused, keys in float16: as llama-bench runs.
        peers = {
            name: stack.enter_context(
                LlamaCpp(path, n_ctx=prompt + generate, threads=threads, kv_type="f16", repack=True)
            )
            for name, path in files.items()
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
        for _ in range(rounds):
            for name, peer in peers.items():
                tokens = prompt_tokens(prompt, peer.n_vocab)
                begun = time.perf_counter()
                logits = peer.logits(tokens, first=prompt - 1)
                first = time.perf_counter() - begun
                token = int(logits[0].argmax())
                begun = time.perf_counter()
                for _ in range(generate - 1):
                    token = int(peer.logits([token], fresh=False)[0].argmax())
                times[name].append((first, time.perf_counter() - begun))
        found: dict[str, Any] = {"prompt": prompt, "generate": generate, "rounds": rounds, "threads": threads}
        for name, peer in peers.items():
            found[name] = {
                "first_token_seconds": statistics.median(first for first, _ in times[name]),
                "generate_seconds": statistics.median(rest for _, rest in times[name]),
                "file_bytes": files[name].stat().st_size,
                "resident_bytes": memory_bytes(peer.status)["VmHWM"],
            }
            found["ggml"], found["features"] = peer.ggml, list(peer.features)
        return found


def main(argv: list[str] | None = None) -> int:
    """Write the two files and the measurement."""
    target, *threads = sys.argv[1:] if argv is None else argv
    with tempfile.TemporaryDirectory() as folder:
        files = {"f16": Path(folder) / "f16.gguf", "q8_a8": Path(folder) / "q8_a8.gguf"}
        dequantize_model(assets.model(), files["f16"], kind="f16")
        quantize_model(files["f16"], files["q8_a8"], embedding=True)
        found = measure(
            files, prompt=PROMPT, generate=GENERATE, rounds=ROUNDS, threads=int(threads[0]) if threads else 1
        )
    write_text(json.dumps(found, indent=1) + "\n", Path(target))
    return 0


if __name__ == "__main__":
    sys.exit(main())
