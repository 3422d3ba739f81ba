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

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from q8a8.install import how_to_install
from q8a8_evaluation.child import Child, ChildError
from q8a8_evaluation.llamacpp_child import KV_TYPES, Options

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["LlamaCpp", "LlamaCppError", "LlamaCppUnavailableError", "library"]


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
        f"a real llama.cpp needs the package xllamacpp: {how_to_install('oracles')}"
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
    rope
        Fields of `llama_context_params` about rotary positions, by name (`yarn_beta_fast`, `yarn_beta_slow`).

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
        rope: Mapping[str, float] | None = None,
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
            rope=dict(rope or {}),
        )
        if min(options.n_ctx, options.n_batch, options.threads) < 1:
            raise ValueError("n_ctx, n_batch, threads: expected at least 1")
        self._child = Child("q8a8_evaluation.llamacpp_child", dataclasses.asdict(options))
        try:
            hello, _ = self._answer(self._child.read)
        except BaseException:
            self.close()
            raise
        self.n_vocab: int = hello["n_vocab"]
        self.n_ctx: int = hello["n_ctx"]
        self.ggml: str = hello["ggml"]
        self.features: tuple[str, ...] = tuple(hello["features"])

    def __enter__(self) -> Self:
        """Return the model itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.close()

    def close(self) -> None:
        """End the process; nothing can be asked afterwards."""
        self._child.close()

    @property
    def status(self) -> Path:
        """Where Linux says how much memory the process holds."""
        return Path(f"/proc/{self._child.pid}/status")

    def _ask(self, body: bytes = b"", **request: object) -> tuple[dict[str, Any], bytes]:
        """Ask for one thing."""
        return self._answer(lambda: self._child.ask(body, **request))

    @staticmethod
    def _answer(ask: Callable[[], tuple[dict[str, Any], bytes]]) -> tuple[dict[str, Any], bytes]:
        """Return the process's answer, or raise its refusal as `LlamaCppError`."""
        try:
            return ask()
        except ChildError as error:
            raise LlamaCppError(f"llama.cpp: {error}") from error

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
        """Return the bytes of a token, the name of a control token."""
        return self._ask(op="piece", token=int(token))[1]

    def logits(self, tokens: Sequence[int], *, first: int = 0, fresh: bool = True) -> NDArray[np.float32]:
        """Compute the logits that follow each token.

        Parameters
        ----------
        tokens
            At least one.
        first
            The first whose logits are returned.
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
