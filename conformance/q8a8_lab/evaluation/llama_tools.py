"""Build llama.cpp's own llama-perplexity and llama-bench, and run them on the real model: a release check.

::

    python -m q8a8_lab.evaluation.llama_tools --measured docs/model/measured

The source is that of llama-cpp-python's distribution, fetched and checked; the build takes some minutes and
is kept. The model is written as F16 by llama-quantize and as Q8_A8 by `q8a8.ggufio`; both files then go
through both tools, whose outputs are kept as they are. `q8a8 compare` reads them.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8_conformance.files.atomic import write_text
from q8a8_evaluation.text import read_text
from q8a8_lab import native_build
from q8a8_lab.evaluation import assets
from q8a8_lab.peers import store

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TOOLS", "build", "main", "measure"]

TOOLS = ("llama-perplexity", "llama-bench", "llama-quantize")

_SOURCE = dataclasses.replace(
    store.GGML_SOURCE, members="llama_cpp_python-0.3.36/vendor/llama.cpp/", unpacked="llama.cpp"
)
_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",  # the CPU at hand is what is measured
    "-DGGML_OPENMP=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_TOOLS=ON",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
)


def build(jobs: int = 2) -> Path:
    """Build the tools unless they are built, and give the folder that they are in.

    Raises
    ------
    PeerUnavailableError
        The source cannot be fetched.
    NativeError
        CMake or a compiler is missing, or the build failed.
    """
    folder = store.cache_folder() / "build" / f"{_SOURCE.sha256[:16]}-llama-tools"
    tools = folder / "bin"
    if all((tools / name).is_file() for name in TOOLS):
        return tools
    source = store.fetch(_SOURCE) / _SOURCE.members
    generator = "Ninja" if shutil.which("ninja") else "Unix Makefiles"
    cmake = native_build.find_tool("cmake")
    _run([cmake, "-G", generator, "-S", str(source), "-B", str(folder), *_OPTIONS], folder.parent)
    targets = [word for name in TOOLS for word in ("--target", name)]
    _run([cmake, "--build", str(folder), *targets, "--parallel", str(jobs)], folder.parent)
    return tools


def measure(
    measured: Path, *, chunks: int = 12, prompt: int = 512, generate: int = 64, repeat: int = 3
) -> None:
    """Run both tools on the real model in F16 and in Q8_A8, and keep what they print.

    Parameters
    ----------
    measured
        The folder for `llama-perplexity-NAME.log` and `llama-bench-NAME.json`, NAME f16 and q8_a8.
    chunks
        Windows of 512 tokens of the Wikipedia text that perplexity is measured on.
    prompt, generate, repeat
        What llama-bench times.

    Raises
    ------
    AssetUnavailableError, NativeError, OSError
        The model or the tools cannot be had, or a tool failed.
    """
    from q8a8.ggufio import quantize_model  # noqa: PLC0415 - the extra `model`

    tools = build()
    folder = store.cache_folder() / "build" / "llama-tools-files"
    folder.mkdir(parents=True, exist_ok=True)
    _run(
        [str(tools / "llama-quantize"), "--allow-requantize", str(assets.model()), "f16.gguf", "F16"], folder
    )
    quantize_model(folder / "f16.gguf", folder / "q8_a8.gguf")
    write_text(read_text(assets.wikipedia()), folder / "text.txt")
    threads = str(os.cpu_count() or 1)
    for name in ("f16", "q8_a8"):
        perplexity = [str(tools / "llama-perplexity"), "-m", f"{name}.gguf", "-f", "text.txt", "-c", "512"]
        printed = _run([*perplexity, "--chunks", str(chunks), "-t", threads], folder)
        write_text(printed, measured / f"llama-perplexity-{name}.log")
    for name in ("f16", "q8_a8"):
        bench = [str(tools / "llama-bench"), "-m", f"{name}.gguf", "-p", str(prompt), "-n", str(generate)]
        printed = _run([*bench, "-t", threads, "-r", str(repeat), "-o", "json"], folder, both=False)
        write_text(printed, measured / f"llama-bench-{name}.json")


def _run(command: Sequence[str], folder: Path, *, both: bool = True) -> str:
    """Run a command in a folder, and give what it prints: both its streams, or the standard output alone."""
    # Files are named without their folder: what the tools print of them is then the same everywhere.
    folder.mkdir(parents=True, exist_ok=True)
    errors = subprocess.STDOUT if both else subprocess.PIPE
    # S603: build tools and what they built, from a source whose hash was checked.
    done = subprocess.run(  # noqa: S603
        command, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True, check=False
    )
    if done.returncode:
        tail = "\n".join((done.stdout + (done.stderr or "")).splitlines()[-20:])
        raise native_build.BuildFailedError(
            f"{Path(command[0]).name} failed with status {done.returncode}:\n{tail}"
        )
    return done.stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Build, and measure where asked. The exit status."""
    parser = argparse.ArgumentParser(description="llama.cpp's own tools, built and run on the real model.")
    parser.add_argument(
        "--measured", type=Path, metavar="FOLDER", help="run both tools, keep their outputs here"
    )
    options = parser.parse_args(argv)
    try:
        sys.stdout.write(f"{build()}\n")
        if options.measured:
            measure(options.measured)
    except (store.PeerUnavailableError, native_build.NativeError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
