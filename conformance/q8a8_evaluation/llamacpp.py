"""A real llama.cpp, in a process of its own: what it makes of a text, and its logits for it.

The package xllamacpp brings it, prebuilt (the extra `oracles`)::

    with LlamaCpp("model.gguf", n_ctx=512) as llama:
        tokens = llama.tokenize("The capital of France is")
        logits = llama.logits(tokens)              # float32 [t, n_vocab]

Defaults are chosen for comparison: keys and values in float32 (llama.cpp's own default is float16), attention
in separate operations (flash attention rounds queries and values to float16 on some processors), weights not
rearranged, one thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from q8a8_conformance.protocol.process import describe_exit
from q8a8_evaluation.llamacpp_child import KV_TYPES, Options, read_message, write_message

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["LlamaCpp", "LlamaCppError", "LlamaCppUnavailableError", "library"]

_TAIL = 2000
"""Characters of what llama.cpp printed that an error shows."""


class LlamaCppError(Exception):
    """llama.cpp refused something, or died of it."""


class LlamaCppUnavailableError(LlamaCppError):
    """The package that brings llama.cpp is not installed."""


def library() -> Path:
    """Find the library inside the package xllamacpp, without importing it.

    Raises
    ------
    LlamaCppUnavailableError
        Without the package.
    """
    spec = find_spec("xllamacpp")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for path in sorted(Path(folder).glob("xllamacpp*.so")):
            return path
    raise LlamaCppUnavailableError(
        "a real llama.cpp needs the package xllamacpp: pip install 'q8a8[oracles]'"
    )


class LlamaCpp:
    """A model in a running llama.cpp; a context manager, which ends the process.

    Parameters
    ----------
    path
        A GGUF file.
    n_ctx
        Positions; llama.cpp rounds up to a multiple of 256.
    n_batch
        Tokens that are computed at a time; `n_ctx` by default.
    threads
        Threads.
    flash_attn
        Whether attention is one fused operation.
    kv_type
        What keys and values are stored as: f32 or f16.
    repack
        Whether weights may be rearranged for the processor at hand, which changes the order of sums.

    Attributes
    ----------
    n_vocab, n_ctx
        Tokens, and positions.
    ggml
        The version of its ggml.
    features
        The instruction sets that it was compiled for, as ggml calls them.

    Raises
    ------
    LlamaCppUnavailableError
        Without the package.
    LlamaCppError
        The model cannot be loaded.
    ValueError
        No such kv_type, or no positive number.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        n_ctx: int = 512,
        n_batch: int | None = None,
        threads: int = 1,
        flash_attn: bool = False,
        kv_type: str = "f32",
        repack: bool = False,
    ) -> None:
        if kv_type not in KV_TYPES:
            raise ValueError(f"kv_type: {kv_type!r} is none of {', '.join(KV_TYPES)}")
        options = Options(
            library=str(library()),
            model=str(Path(path).resolve()),
            n_ctx=n_ctx,
            n_batch=n_ctx if n_batch is None else n_batch,
            threads=threads,
            flash_attn=flash_attn,
            kv_type=kv_type,
            repack=repack,
        )
        if min(options.n_ctx, options.n_batch, options.threads) < 1:
            raise ValueError("n_ctx, n_batch, threads: at least 1 is wanted")
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by `close`
        # The options are this process's own, not input of others: no shell sees them.
        self._process = subprocess.Popen(  # noqa: S603 -- as said
            [
                sys.executable,
                "-m",
                "q8a8_evaluation.llamacpp_child",
                json.dumps(dataclasses.asdict(options)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
        )
        try:
            hello, _ = self._read()
        except BaseException:
            self.close()
            raise
        self.n_vocab: int = hello["n_vocab"]
        self.n_ctx: int = hello["n_ctx"]
        self.ggml: str = hello["ggml"]
        self.features: tuple[str, ...] = tuple(hello["features"])

    def __enter__(self) -> Self:
        """Give the model itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.close()

    def close(self) -> None:
        """End the process; nothing can be asked afterwards."""
        self._process.kill()
        self._process.communicate()
        self._printed.close()

    def _read(self) -> tuple[dict[str, Any], bytes]:
        """Read one answer."""
        stream = self._process.stdout
        message = read_message(stream) if stream else None
        if message is None:
            raise LlamaCppError(f"llama.cpp: {describe_exit(self._process.wait())}\n{self._tail()}")
        head, body = message
        if "error" in head:
            raise LlamaCppError(f"{head['error']}\n{self._tail()}")
        return head, body

    def _tail(self) -> str:
        """Give the last of what it printed."""
        self._printed.seek(0)
        return self._printed.read().decode("utf-8", "replace")[-_TAIL:]

    def _ask(self, body: bytes = b"", **request: object) -> tuple[dict[str, Any], bytes]:
        """Ask for one thing."""
        if self._printed.closed or self._process.stdin is None:
            raise LlamaCppError("llama.cpp: the process was ended")
        # Of a process that has died, `_read` says how.
        with contextlib.suppress(BrokenPipeError):
            write_message(self._process.stdin, request, body)
        return self._read()

    def tokenize(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]:
        """Turn text into tokens.

        Parameters
        ----------
        text
            Any text.
        bos
            Whether the beginning that the file asks for is put in front (`add_special` of `llama_tokenize`).
        special
            Whether names of control tokens are read as those tokens.
        """
        head, _ = self._ask(text.encode(), op="tokenize", bos=bos, special=special)
        return list(head["tokens"])

    def piece(self, token: int) -> bytes:
        """Give the bytes that a token stands for; control tokens by their names."""
        return self._ask(op="piece", token=int(token))[1]

    def logits(self, tokens: Sequence[int], *, first: int = 0, fresh: bool = True) -> NDArray[np.float32]:
        """Compute the logits that follow each token.

        Parameters
        ----------
        tokens
            At least one.
        first
            The first whose logits are wanted.
        fresh
            False: these follow the tokens of the last call.

        Returns
        -------
        numpy.ndarray
            float32 `[len(tokens) - first, n_vocab]`.

        Raises
        ------
        LlamaCppError
            where there are too many, or one is not in the vocabulary.
        """
        ids = [int(token) for token in tokens]
        if not 0 <= first < len(ids):
            raise ValueError(f"first: {first} is none of {len(ids)} tokens")
        head, body = self._ask(op="logits", tokens=ids, first=first, fresh=fresh)
        return np.frombuffer(body, np.float32).reshape(head["shape"])

    def generate(self, tokens: Sequence[int], n: int) -> list[int]:
        """Generate the most probable token n times after these; the first of equal ones."""
        head, _ = self._ask(op="generate", tokens=[int(token) for token in tokens], n=n)
        return list(head["tokens"])
