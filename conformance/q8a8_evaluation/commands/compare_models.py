"""``q8a8 compare A.gguf B.gguf --text TEXT``: document 002's report of two models, measured in one go.

Perplexity is that of the files' weights in the NumPy model, activations in float, over the same windows;
speed and memory are llama.cpp's where the package xllamacpp is installed, else the NumPy model's; sizes are
the files'.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from q8a8.llama.load import load
from q8a8_conformance.report.schema import ReportError
from q8a8_conformance.results.record import count
from q8a8_evaluation.commands import bench_model, perplexity
from q8a8_evaluation.compare_measurements import (
    RunComparison,
    compare_runs,
    perplexity_run,
    speed_run,
)
from q8a8_evaluation.llamacpp import LlamaCppUnavailableError, library
from q8a8_evaluation.measure import BASE, Protocol, Subject, read_windows

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["compare_models", "is_model"]


def is_model(path: Path) -> bool:
    """Return whether a file begins as GGUF files do."""
    try:
        with path.open("rb") as file:
            return file.read(4) in {b"GGUF", b"FUGG"}
    except OSError:
        return False


def compare_models(
    a: Path,
    b: Path,
    text: Path,
    protocol: Protocol,
    *,
    prompt: int = 128,
    generate: int = 16,
    rounds: int = 3,
    threads: int = 1,
) -> RunComparison:
    """Measure two models, one after the other, and compare them.

    Parameters
    ----------
    a, b
        GGUF files.
    text, protocol
        What their perplexity is measured on, and how.
    prompt, generate, rounds
        As `bench_model.collect`.
    threads
        Of llama.cpp; the NumPy model has one.

    Raises
    ------
    ReportError
        The two cannot be compared: other tokens in the windows.
    Q8A8Error, FileError, OSError, BenchModelError, LlamaCppError
        One of them cannot be measured.
    """
    try:
        library()
        peer = True
    except LlamaCppUnavailableError:
        peer = False
    quality, speed, memories, tokens = [], [], [], []
    for path in (a, b):
        loaded = load(path)
        windows = read_windows(loaded, text, protocol)
        tokens.append([window.tolist() for window in windows])
        subject = Subject(loaded, protocol, windows)
        document = perplexity.document(subject, perplexity.measure(subject, [BASE]), path, text)
        quality.append(perplexity_run(document, document["schemes"][0], str(path)))
        del loaded, subject
        figures = bench_model.collect(
            path,
            [BASE],
            prompt=prompt,
            generate=generate,
            rounds=rounds,
            llama_cpp=peer,
            by=bench_model.By(threads=threads),
        )
        entry = figures["schemes"][-1]
        speed.append(dataclasses.replace(speed_run(figures, entry, str(path)), size=figures["file_bytes"]))
        memories.append(entry["resident_bytes"])
    if tokens[0] != tokens[1]:
        raise ReportError(f"{a}, {b}: their tokens of {text} differ, so that perplexities cannot be compared")
    speeds = compare_runs(*speed)
    found = compare_runs(*quality)
    who = f"{bench_model.PEER}, {count(threads, 'thread')}" if peer else "the NumPy model, 1 thread"
    notes = (
        f"perplexity: weights as stored, activations in float, windows of {protocol.window} tokens",
        f"speed and memory: {who}, medians of {count(rounds, 'round')}",
    )
    return dataclasses.replace(
        found,
        speeds=speeds.speeds,
        sizes=speeds.sizes,
        memories=tuple(memories) if all(memories) else (),
        notes=notes,
    )
