"""Measure schemes on one model and one text: what `q8a8 perplexity` and `make evaluate` have in common.

The float model is measured first, then scheme after scheme, each over all windows; a scheme whose windows
are all known (`q8a8_evaluation.store`) is not even built. Calibration happens when the first scheme
that needs it is built (`q8a8_evaluation.calibration_data`).
"""

from __future__ import annotations

import hashlib
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.arithmetic import own_order
from q8a8.errors import ArgumentError, Q8A8Error
from q8a8.schemes.scheme import Scheme, build
from q8a8.schemes.table import SCHEMES
from q8a8_evaluation.calibration_data import CalibrationData
from q8a8_evaluation.divergence import divergences
from q8a8_evaluation.fingerprint import fingerprint
from q8a8_evaluation.likelihood import Count, first_counted, predicted_likelihoods, window_logits
from q8a8_evaluation.machine import machine
from q8a8_evaluation.store import Store, key_of, tokens_key
from q8a8_evaluation.text import read_text, windows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from q8a8.llama.load import LoadedModel
    from q8a8.schemes.scheme import Built

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]
    Tokens = NDArray[np.int64]

__all__ = ["BASE", "Outcome", "Protocol", "Subject", "read_windows"]

BASE = "float"
"""The scheme that the others are compared with."""

KEPT = 1 << 30
"""Bytes of the float model's logits that are kept for comparisons; others are computed again."""

_PACKAGE = "q8a8_evaluation"


@dataclass(frozen=True)
class Protocol:
    """How perplexity is measured.

    Attributes
    ----------
    window
        Tokens of a window, each run by itself.
    windows
        How many, at most.
    spread
        Whether they are spread evenly over the whole text; otherwise they are its first ones.
    bos
        Whether each begins with the model's token for the beginning of a text.
    count
        Which predictions count.
    head
        Whether the head is quantized as well.
    divergence
        Whether predictions are compared with the float model's as well (`q8a8_evaluation.divergence`).
    own_order
        Whether the float parts are computed in an order of our own, the same on every machine
        (`q8a8.arithmetic`); otherwise as the machine's BLAS and functions do.
    """

    window: int = 512
    windows: int = 12
    spread: bool = False
    bos: bool = False
    count: Count = "all"
    head: bool = False
    divergence: bool = False
    own_order: bool = False


def read_windows(loaded: LoadedModel, text: Path, protocol: Protocol) -> list[Tokens]:
    """Cut a text into the windows to measure on.

    Raises
    ------
    FileError
        The text cannot be used.
    ArgumentError
        It has not a single window, or the model has no token for the beginning of a text.
    """
    if protocol.window < 2 or first_counted(protocol.window, protocol.count) >= protocol.window - 1:
        raise ArgumentError(f"window: {protocol.window} tokens hold no prediction that counts")
    if protocol.windows < 1:
        raise ArgumentError(f"windows: expected at least 1, got {protocol.windows}")
    tokenizer = loaded.tokenizer
    if protocol.bos and tokenizer.bos is None:
        raise ArgumentError("bos: the model has no token for the beginning of a text")
    # A token of text has at most about 20 bytes; reading a dump to its end takes long.
    enough = None if protocol.spread else 24 * protocol.window * protocol.windows
    tokens = tokenizer.encode(read_text(text, at_least=enough))
    there = windows(tokens, protocol.window, None, tokenizer.bos if protocol.bos else None)
    if not there:
        words = f"{len(tokens)} tokens are less than one window of {protocol.window}"
        raise ArgumentError(f"{text}: {words}: give a longer text, or a smaller --window")
    count = min(protocol.windows, len(there))
    places = [index * len(there) // count for index in range(count)] if protocol.spread else range(count)
    return [there[place] for place in places]


@dataclass(frozen=True, eq=False)
class Outcome:
    """The measurements of a scheme.

    Attributes
    ----------
    scheme
        Which one.
    nlls
        Log-likelihoods in nats, float64 `[n]` for each window.
    weight_bytes, weight_bits
        What its operators' weights take, scales included: bytes in all, bits a weight.
    activation_bits
        Bits an activation, over the measured windows.
    cache_bytes
        Bytes of keys and values after a window.
    seconds
        For building and measuring, also where it was done earlier.
    divergences
        float64 `[3, n]` for each window, as `q8a8_evaluation.divergence.divergences`; empty where they were
        not asked for, and for the float model.
    """

    scheme: Scheme
    nlls: list[F64]
    weight_bytes: int
    weight_bits: float
    activation_bits: float
    cache_bytes: int
    seconds: float
    divergences: list[F64] = field(default_factory=list)


@dataclass
class Subject:
    """A model, the windows that it is measured on, and what it is calibrated with.

    Attributes
    ----------
    loaded
        The model.
    protocol
        How.
    windows
        Token ids `[W]` each.
    calibration
        For calibration.
    folder
        Where results are kept; None for nowhere.
    skipped
        Schemes that could not be measured, with the reason.
    """

    loaded: LoadedModel
    protocol: Protocol
    windows: Sequence[Tokens]
    calibration: CalibrationData = field(default_factory=CalibrationData)
    folder: Path | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    _base_logits: dict[str, F32] = field(default_factory=dict)
    _base: Built | None = None

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of the weights as they were dequantized, all names included."""
        digest = hashlib.sha256()
        for name in sorted(self.loaded.weights):
            digest.update(name.encode() + b"\0")
            digest.update(np.ascontiguousarray(self.loaded.weights[name]).view(np.uint8).data)
        return digest.hexdigest()

    def measure(self, names: Iterable[str], schemes: Mapping[str, Scheme] = SCHEMES) -> Iterator[Step]:
        """Measure schemes, window by window.

        Parameters
        ----------
        names
            Which; `BASE` is added in front.
        schemes
            The table that they are in.

        Yields
        ------
        Step
            After every window; the last of a scheme has its outcome, or the reason why it has none: it cannot
            be applied to this model, or its logits are not finite. The other schemes are measured then.

        Raises
        ------
        Q8A8Error
            The float model cannot be measured.
        """
        for name in dict.fromkeys((BASE, *names)):
            try:
                yield from self._scheme(schemes[name])
            except Q8A8Error as error:
                if name == BASE:
                    raise
                self.skipped[name] = str(error)
                yield Step(schemes[name], len(self.windows), len(self.windows), None)

    def _scheme(self, scheme: Scheme) -> Iterator[Step]:
        """Measure one scheme."""
        facts_key = key_of(self._facts(scheme))
        store = Store.open(self.folder, scheme.name, facts_key)
        compared = None
        if self.protocol.divergence and scheme.name != BASE:
            # It depends on the float model as well.
            code = fingerprint((), {f"{_PACKAGE}.divergence"})
            both = key_of({"scheme": facts_key, "float": self._facts(SCHEMES[BASE]), "code": code})
            compared = Store.open(self.folder, f"{scheme.name}-divergence", both)
        keys = [tokens_key(tokens) for tokens in self.windows]
        built: Built | None = None
        for done, (key, tokens) in enumerate(zip(keys, self.windows, strict=True), 1):
            if key not in store.windows or (compared is not None and key not in compared.windows):
                # Not around a yield: whoever takes the steps has an arithmetic too.
                with own_order() if self.protocol.own_order else nullcontext():
                    begun = time.perf_counter()
                    built = built or self._build(scheme)
                    predictions = list(window_logits(built, tokens, self.protocol.count))
                    nlls = predicted_likelihoods(built, tokens, predictions)
                    seconds = time.perf_counter() - begun + store.facts.get("seconds", 0.0)
                    store.add(key, nlls, {**_facts_of(built, len(tokens)), "seconds": seconds})
                    if self.protocol.divergence:
                        logits, targets = (np.concatenate(parts) for parts in zip(*predictions, strict=True))
                    if self.protocol.divergence and scheme.name == BASE:
                        self._keep_float_logits(key, logits)
                    if compared is not None:
                        found = divergences(logits, self._float_logits(key, tokens), targets)
                        compared.add(key, found.reshape(-1), {})
            if done < len(keys):
                yield Step(scheme, done, len(keys), None)
        facts = store.facts
        outcome = Outcome(
            scheme,
            [store.windows[key] for key in keys],
            int(facts["weight_bytes"]),
            facts["weight_bits"],
            facts["activation_bits"],
            int(facts["cache_bytes"]),
            facts["seconds"],
            [] if compared is None else [compared.windows[key].reshape(3, -1) for key in keys],
        )
        yield Step(scheme, len(keys), len(keys), outcome)

    def _build(self, scheme: Scheme) -> Built:
        """Build a scheme, calibrated as far as it needs it."""
        head, loaded = self.protocol.head, self.loaded
        statistics = self.calibration.statistics(loaded, scheme, head=head, folder=self.folder)
        return build(scheme, loaded.config, loaded.weights, statistics, head=head)

    def _float_logits(self, key: str, tokens: Tokens) -> F32:
        """Return the float model's logits of a window, kept as far as they take no more than `KEPT` bytes."""
        if key in self._base_logits:
            return self._base_logits[key]
        self._base = self._base or self._build(SCHEMES[BASE])
        logits = np.concatenate([part for part, _ in window_logits(self._base, tokens, self.protocol.count)])
        self._keep_float_logits(key, logits)
        return logits

    def _keep_float_logits(self, key: str, logits: F32) -> None:
        """Keep the float model's logits of a window, if there is room."""
        if sum(each.nbytes for each in self._base_logits.values()) + logits.nbytes <= KEPT:
            self._base_logits[key] = logits

    def arithmetic(self, scheme: Scheme) -> str:
        """Return what computes the float parts of a scheme: "own", or the machine, by name.

        GPTQ factorizes matrices with LAPACK, whatever the order of the rest is.
        """
        if self.protocol.own_order and "hessian" not in scheme.statistics.values():
            return "own"
        return machine()

    def _facts(self, scheme: Scheme) -> dict[str, Any]:
        """Return all that the log-likelihoods of a window and its bytes depend on, except its tokens."""
        modules = {"q8a8.llama.model", scheme.linear.__module__}
        if scheme.cache is not None:
            modules.add(scheme.cache.__module__)
        # `schemes` imports the methods of calibration, which a scheme without it does not use.
        alone = {"q8a8.schemes.scheme", "q8a8.schemes.statistics", f"{_PACKAGE}.likelihood"}
        calibrated = scheme.needs_calibration or scheme.needs_inputs
        if calibrated:
            modules |= {"q8a8.schemes.scheme"}
            alone |= {f"{_PACKAGE}.calibration", f"{_PACKAGE}.text"}
        return {
            "scheme": _plain(scheme),
            "weights": self.weights_sha256,
            # (Its cache takes bytes by it.)
            "window": self.protocol.window,
            "count": self.protocol.count,
            "head": self.protocol.head,
            "calibration": self.calibration.facts if calibrated else None,
            "code": fingerprint(modules, alone),
            "arithmetic": self.arithmetic(scheme),
        }


@dataclass(frozen=True)
class Step:
    """One more window is done.

    Attributes
    ----------
    scheme
        Of which scheme.
    done, total
        Windows of it.
    outcome
        What came of it, with the last one.
    """

    scheme: Scheme
    done: int
    total: int
    outcome: Outcome | None


def _facts_of(built: Built, window: int) -> dict[str, float]:
    """Return what is stored of a scheme beside its log-likelihoods."""
    config = built.model.config
    cache = built.new_cache(window)
    if cache is None:
        cache_bytes = window * config.n_layers * config.n_kv_heads * config.d_head * 2 * 4
    else:
        heads = np.zeros((window, config.n_kv_heads, config.d_head), np.float32)
        for layer in range(config.n_layers):
            cache.append(layer, heads, heads)
        cache_bytes = cache.nbytes
    return {
        "weight_bytes": built.weight_bytes,
        "weight_bits": built.weight_bits,
        "activation_bits": built.activation_bits,
        "cache_bytes": cache_bytes,
    }


def _plain(scheme: Scheme) -> dict[str, str]:
    """Return what the results of a scheme depend on, as text: classes by name, options by their values."""
    return {
        "linear": f"{scheme.linear.__module__}.{scheme.linear.__qualname__}",
        "options": repr(sorted(scheme.options.items())),
        "exceptions": repr(sorted(scheme.exceptions.items())),
        "statistics": repr(sorted(scheme.statistics.items())),
        "smoothing": repr(sorted(scheme.smoothing.items()) if scheme.smoothing is not None else None),
        "cache": f"{scheme.cache.__module__}.{scheme.cache.__qualname__}" if scheme.cache else "",
        "cache_options": repr(sorted(scheme.cache_options.items())),
    }
