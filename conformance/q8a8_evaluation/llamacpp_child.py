"""The process that llama.cpp runs in: `q8a8_evaluation.llamacpp` starts it and talks to it.

The library is the one inside the package xllamacpp, which exports llama.cpp's C interface (llama.h). It is
bound by ctypes. Parameters are passed by value there in structures that grow from release to release; here
they are opaque bytes, larger than any release's, that the library's own functions fill with defaults. The
few fields that are set are found by their offsets, and only after known defaults were seen at theirs
(`DEFAULTS`): a release with another layout is refused, and not misread.

The first answer says what was loaded. Requests have an ``op``.
"""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_evaluation.child import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["KV_TYPES", "LibraryError", "Options", "start"]

KV_TYPES = {"f32": 0, "f16": 1}
"""ggml's types for the cache of keys and values."""

_OPAQUE = 1024
"""Bytes of a parameter structure: xllamacpp 2026.10's have 80 and 168. Passed by value, more does no harm."""

DEFAULTS: dict[str, dict[str, tuple[int, str, float]]] = {
    "model": {
        "n_gpu_layers": (16, "<i", -1),
        "split_mode": (20, "<i", 1),
        "load_mode": (24, "<i", -1),
        "lazy_mode": (28, "<i", 1),
        "kv_overrides": (64, "<q", 0),
        "vocab_only": (72, "<b", 0),
        "check_tensors": (73, "<b", 0),
        "use_extra_bufts": (74, "<b", 1),
        "no_host": (75, "<b", 0),
    },
    "context": {
        "n_ctx": (0, "<I", 512),
        "n_batch": (4, "<I", 2048),
        "n_ubatch": (8, "<I", 512),
        "n_seq_max": (12, "<I", 1),
        "n_outputs_max": (20, "<I", 0),
        "n_outputs_max_per_seq": (24, "<I", 1),
        "n_threads": (28, "<i", 4),
        "n_threads_batch": (32, "<i", 4),
        "rope_scaling_type": (40, "<i", -1),
        "pooling_type": (44, "<i", -1),
        "attention_type": (48, "<i", -1),
        "flash_attn_type": (52, "<i", -1),
        "rope_freq_base": (56, "<f", 0),
        "yarn_ext_factor": (64, "<f", -1),
        "yarn_beta_fast": (72, "<f", -1),
        "yarn_beta_slow": (76, "<f", -1),
        "yarn_orig_ctx": (80, "<I", 0),
        "defrag_thold": (84, "<f", -1),
        "cb_eval": (88, "<q", 0),
        "type_k": (104, "<i", 1),
        "type_v": (108, "<i", 1),
    },
}
"""Offset, format and default of fields of `llama_model_params` and `llama_context_params` (llama.h)."""

_FEATURES = (
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512",
    "avx512_vnni",
    "avx_vnni",
    "neon",
    "dotprod",
    "matmul_int8",
)


class LibraryError(Exception):
    """The library cannot be used, or refused a call; the message says which."""


@dataclass(frozen=True)
class Options:
    """How a model is loaded and run.

    Attributes
    ----------
    library, model
        Paths.
    n_ctx
        Positions.
    n_batch
        Tokens that are computed at a time.
    threads
        Threads.
    flash_attn
        Whether attention is one fused operation.
    kv_type
        What keys and values are stored as: a name in `KV_TYPES`.
    repack
        Whether weights may be rearranged for the processor at hand, which changes the order of sums.
    rope
        Fields of the context's parameters about rotary positions, by name.
    """

    library: str
    model: str
    n_ctx: int
    n_batch: int
    threads: int
    flash_attn: bool
    kv_type: str
    repack: bool
    rope: dict[str, float]


class _Opaque(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_uint8 * _OPAQUE),)


class _Batch(ctypes.Structure):
    """The structure `llama_batch` (llama.h)."""

    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.c_void_p),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.c_void_p),
        ("n_seq_id", ctypes.c_void_p),
        ("seq_id", ctypes.c_void_p),
        ("logits", ctypes.c_void_p),
    )


_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_backend_init": (None, ()),
    "llama_model_default_params": (_Opaque, ()),
    "llama_context_default_params": (_Opaque, ()),
    "llama_model_load_from_file": (ctypes.c_void_p, (ctypes.c_char_p, _Opaque)),
    "llama_model_get_vocab": (ctypes.c_void_p, (ctypes.c_void_p,)),
    "llama_init_from_model": (ctypes.c_void_p, (ctypes.c_void_p, _Opaque)),
    "llama_vocab_n_tokens": (ctypes.c_int32, (ctypes.c_void_p,)),
    "llama_n_ctx": (ctypes.c_uint32, (ctypes.c_void_p,)),
    "llama_get_memory": (ctypes.c_void_p, (ctypes.c_void_p,)),
    "llama_memory_clear": (None, (ctypes.c_void_p, ctypes.c_bool)),
    "llama_tokenize": (
        ctypes.c_int32,
        (
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_int32,
            ctypes.c_void_p,
            ctypes.c_int32,
            ctypes.c_bool,
            ctypes.c_bool,
        ),
    ),
    "llama_token_to_piece": (
        ctypes.c_int32,
        (
            ctypes.c_void_p,
            ctypes.c_int32,
            ctypes.c_char_p,
            ctypes.c_int32,
            ctypes.c_int32,
            ctypes.c_bool,
        ),
    ),
    "llama_batch_get_one": (_Batch, (ctypes.c_void_p, ctypes.c_int32)),
    "llama_decode": (ctypes.c_int32, (ctypes.c_void_p, _Batch)),
    "llama_get_logits_ith": (ctypes.POINTER(ctypes.c_float), (ctypes.c_void_p, ctypes.c_int32)),
    "ggml_version": (ctypes.c_char_p, ()),
}


def _set(params: _Opaque, kind: str, **values: float) -> None:
    """Set fields of a structure that was filled with defaults, once they are the known ones.

    Raises
    ------
    LibraryError
        where they are not: this release lays the structure out in another way.
    """
    for name, (offset, form, known) in DEFAULTS[kind].items():
        found = struct.unpack_from(form, params, offset)[0]
        if found != known:
            raise LibraryError(
                f"llama_{kind}_params: {name} is {found} at byte {offset}, where {known} is known: "
                "this release of llama.cpp has another layout"
            )
    for name, value in values.items():
        offset, form, _ = DEFAULTS[kind][name]
        struct.pack_into(form, params, offset, value)


class Session:
    """One model in one context."""

    def __init__(self, options: Options) -> None:
        try:
            self._library = ctypes.CDLL(options.library)
            for name, (result, arguments) in _SIGNATURES.items():
                function = getattr(self._library, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            raise LibraryError(f"{options.library}: {error}") from error
        call: Any = self._library
        call.llama_backend_init()
        params = call.llama_model_default_params()
        _set(params, "model", n_gpu_layers=0, use_extra_bufts=options.repack)
        self._model = call.llama_model_load_from_file(os.fsencode(options.model), params)
        if not self._model:
            raise LibraryError(f"{options.model}: llama.cpp cannot load it")
        params = call.llama_context_default_params()
        _set(
            params,
            "context",
            n_ctx=options.n_ctx,
            n_batch=options.n_batch,
            n_ubatch=options.n_batch,
            n_outputs_max=0,
            n_outputs_max_per_seq=0,
            n_threads=options.threads,
            n_threads_batch=options.threads,
            flash_attn_type=options.flash_attn,
            type_k=KV_TYPES[options.kv_type],
            type_v=KV_TYPES[options.kv_type],
            **options.rope,
        )
        self._context = call.llama_init_from_model(self._model, params)
        if not self._context:
            raise LibraryError(f"{options.model}: llama.cpp makes no context of {options.n_ctx} positions")
        self._call = call
        self._vocab = call.llama_model_get_vocab(self._model)
        self._n_batch = options.n_batch
        self.n_vocab: int = call.llama_vocab_n_tokens(self._vocab)
        self.n_ctx: int = call.llama_n_ctx(self._context)
        self._check_batch()
        self._used = 0

    def hello(self) -> dict[str, Any]:
        """Describe what was loaded."""
        return {
            "n_vocab": self.n_vocab,
            "n_ctx": self.n_ctx,
            "ggml": self._call.ggml_version().decode(),
            "features": [name for name in _FEATURES if getattr(self._library, f"ggml_cpu_has_{name}")()],
        }

    def _check_batch(self) -> None:
        """Refuse a release with another `llama_batch`: the library fills one, and each field is looked at."""
        tokens = (ctypes.c_int32 * 3)()
        batch = self._call.llama_batch_get_one(tokens, 3)
        fields = [getattr(batch, name) for name, _ in _Batch._fields_]
        if fields != [3, ctypes.addressof(tokens), None, None, None, None, None]:
            raise LibraryError(f"llama_batch: {fields}: this release of llama.cpp has another layout")

    def tokenize(self, text: bytes, *, bos: bool, special: bool) -> list[int]:
        """Turn text into tokens."""
        # Every token but a beginning takes at least one byte of text.
        room = len(text) + 2
        tokens = (ctypes.c_int32 * room)()
        count = self._call.llama_tokenize(self._vocab, text, len(text), tokens, room, bos, special)
        if count < 0:
            raise LibraryError(f"llama_tokenize gives {count}")
        return tokens[:count]

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token, the name of a control token."""
        buffer = ctypes.create_string_buffer(4096)
        count = self._call.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, True)
        if count < 0:
            raise LibraryError(f"llama_token_to_piece gives {count}")
        return buffer.raw[:count]

    def logits(self, tokens: Sequence[int], *, first: int, fresh: bool) -> NDArray[np.float32]:
        """Compute the logits that follow each token from the one at `first` on."""
        if fresh:
            self._call.llama_memory_clear(self._call.llama_get_memory(self._context), True)
            self._used = 0
        if self._used + len(tokens) > self.n_ctx:
            raise LibraryError(f"{self._used} + {len(tokens)} positions, there are {self.n_ctx}")
        out = np.empty((len(tokens) - first, self.n_vocab), np.float32)
        for start in range(0, len(tokens), self._n_batch):
            part = np.asarray(tokens[start : start + self._n_batch], np.int32)
            wanted = (np.arange(start, start + len(part)) >= first).astype(np.int8)
            batch = _Batch(len(part), part.ctypes.data, None, None, None, None, wanted.ctypes.data)
            status = self._call.llama_decode(self._context, batch)
            if status:
                raise LibraryError(f"llama_decode gives {status}")
            for i in np.flatnonzero(wanted):
                row = self._call.llama_get_logits_ith(self._context, int(i))
                out[start + i - first] = np.ctypeslib.as_array(row, (self.n_vocab,))
        self._used += len(tokens)
        return out

    def generate(self, tokens: Sequence[int], n: int) -> list[int]:
        """Generate the most probable token n times."""
        made: list[int] = []
        fresh = True
        for _ in range(n):
            logits = self.logits(tokens, first=len(tokens) - 1, fresh=fresh)
            tokens, fresh = [int(np.argmax(logits))], False
            made += tokens
        return made


def answer(
    session: Session, request: dict[str, Any], body: bytes
) -> tuple[dict[str, Any], bytes | memoryview]:
    """Do what a request asks.

    Raises
    ------
    LibraryError
        where it cannot be done.
    """
    op = request["op"]
    if op == "tokenize":
        return {"tokens": session.tokenize(body, bos=request["bos"], special=request["special"])}, b""
    if op == "piece":
        return {}, session.piece(request["token"])
    if op == "generate":
        return {"tokens": session.generate(request["tokens"], request["n"])}, b""
    logits = session.logits(request["tokens"], first=request["first"], fresh=request["fresh"])
    return {"shape": logits.shape}, logits.data.cast("B")


def start(
    options: dict[str, Any],
) -> tuple[dict[str, Any], Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes | memoryview]]]:
    """Load the model that the options name, and return what was loaded and what answers requests."""
    session = Session(Options(**options))
    return session.hello(), lambda request, body: answer(session, request, body)


if __name__ == "__main__":
    serve(start, LibraryError)
