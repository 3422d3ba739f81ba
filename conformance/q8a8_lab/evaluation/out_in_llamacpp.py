"""Run the file that `q8a8 quantize` writes in a real llama.cpp, and explain each bit of difference.

::

    python -m q8a8_lab.evaluation.out_in_llamacpp

prints the tables of docs/model/in-llama-cpp.md. The file's linear weights are blocks of Q8_A8, and so is its
embedding, which is the head too: llama.cpp quantizes the input of every product, the head's included, and so
does the reference here. llama.cpp is given the text token by token unless said otherwise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8 import quantize_row
from q8a8.ggufio import open_model, quantize_model
from q8a8.layout import BLOCK_Q8_A8
from q8a8.llama import HEAD, Q8A8Linear, linear_names, load
from q8a8.llama.config import EMBEDDING
from q8a8_evaluation.likelihood import negative_log_likelihoods
from q8a8_evaluation.llamacpp import LlamaCpp
from q8a8_evaluation.measure import Protocol, read_windows
from q8a8_lab.evaluation import assets
from q8a8_lab.evaluation.ggml_arithmetic import PARTS, GgmlModel, OrderedLinear

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from q8a8.layout import Blocks
    from q8a8.llama import Linear, LoadedModel

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]

__all__ = [
    "FEATURES",
    "Difference",
    "Subject",
    "codes_that_differ",
    "difference",
    "main",
    "parting",
    "within",
]

FEATURES = ("avx", "avx2", "fma", "f16c")
"""The instruction sets of the build of ggml whose arithmetic `ggml_arithmetic` has."""

PROMPT = "The capital of France is"

WAYS: dict[str, dict[str, Any]] = {
    "all tokens at once": {},
    "four at a time": {"n_batch": 4},
    "all at once, two threads": {"threads": 2},
    "all at once, weights repacked": {"repack": True},
    "all at once, flash attention": {"flash_attn": True},
    "all at once, keys and values in float16": {"kv_type": "f16"},
}
"""Other ways to run llama.cpp."""


@dataclass(frozen=True)
class Difference:
    """How two evaluations of one text lie to each other.

    Attributes
    ----------
    tokens, identical
        Tokens; and those whose logits are the same bits, all of them.
    logits, logits_rms
        Largest difference of a logit, and the root mean square.
    nll, nll_rms
        The same of ln p of the token that came next.
    mean
        Mean difference of −ln p: ln of the quotient of the perplexities.
    """

    tokens: int
    identical: int
    logits: float
    logits_rms: float
    nll: float
    nll_rms: float
    mean: float

    @property
    def same(self) -> bool:
        """Whether they are one evaluation: every bit of every logit."""
        return self.identical == self.tokens

    @property
    def error(self) -> float:
        """The standard error of `mean`, where the differences are independent and have mean zero."""
        return self.nll_rms / float(np.sqrt(self.tokens - 1))


def difference(ours: F32, theirs: F32, tokens: Sequence[int]) -> Difference:
    """Compare the logits `[t, n_vocab]` of a text of at least two tokens."""
    bits = (ours.view(np.uint32) == theirs.view(np.uint32)).all(axis=-1)
    apart = (ours - theirs).astype(np.float64)
    targets = np.asarray(tokens[1:])
    nll = negative_log_likelihoods(ours[:-1], targets) - negative_log_likelihoods(theirs[:-1], targets)
    return Difference(
        tokens=len(ours),
        identical=int(bits.sum()),
        logits=float(np.abs(apart).max()),
        logits_rms=float(np.sqrt(np.mean(np.square(apart)))),
        nll=float(np.abs(nll).max()),
        nll_rms=float(np.sqrt(np.mean(np.square(nll)))),
        mean=float(nll.mean()),
    )


def within(found: Difference, noise: float) -> bool:
    """Tell whether two evaluations lie within what rounding activations differently can do.

    Each is the float model plus an error of root mean square `noise`. Two errors that have nothing in common
    make a difference of sqrt(2) times that; errors that share something, a smaller one.

    Parameters
    ----------
    found
        How they differ.
    noise
        Root mean square of what quantized activations do to the logits.
    """
    # NaN lies in no bound: the comparison is false then.
    return found.logits_rms <= float(np.sqrt(2)) * noise


class Subject:
    """A file that `q8a8 quantize` wrote, and the ways to evaluate it here.

    Parameters
    ----------
    path
        A GGUF file whose linear weights and head are of type 8.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loaded: LoadedModel = load(path)
        names = linear_names(self.loaded.config)
        with open_model(path) as file:
            head = HEAD if HEAD in file.tensors else EMBEDDING
            self.blocks: dict[str, Blocks] = {
                name: _blocks(file.raw(stored), file.tensors[stored].shape[0])
                for name, stored in [*zip(names, names, strict=True), (HEAD, head)]
            }

    def linears(self, kind: Callable[[Blocks], Linear]) -> dict[str, Linear]:
        """Make a linear operator of each weight's blocks."""
        return {name: kind(blocks) for name, blocks in self.blocks.items()}

    def model(
        self,
        linears: Mapping[str, Linear] | None = None,
        *,
        parts: Sequence[str] = PARTS,
        batch: bool = False,
    ) -> GgmlModel:
        """Make a model with these parts, and by default the linear operators, in ggml's arithmetic."""
        if linears is None:
            linears = self.linears(OrderedLinear)
        return GgmlModel(self.loaded.config, self.loaded.weights, linears=linears, parts=parts, batch=batch)

    def specified(self) -> GgmlModel:
        """Make the model of the specification: recipe design, order scalar, the layers of `q8a8.llama`."""
        return self.model(self.linears(Q8A8Linear), parts=())


def _blocks(raw: NDArray[np.uint8], rows: int) -> Blocks:
    """Copy a tensor's bytes out of a mapped file."""
    blocks: Blocks = raw.copy().view(BLOCK_Q8_A8).reshape(rows, -1)
    return blocks


def steps(subject: Subject) -> Iterator[tuple[str, GgmlModel]]:
    """Go from the specification's arithmetic to ggml's, thing by thing; then all things but one."""
    yield "as specified", subject.specified()
    recipe = subject.linears(lambda blocks: Q8A8Linear(blocks, recipe="ggml-avx2"))
    yield "+ recipe ggml-avx2 for activations", subject.model(recipe, parts=())
    for count in range(len(PARTS) + 1):
        added = PARTS[count - 1] if count else "order avx2 in all products"
        yield f"+ {added}", subject.model(parts=PARTS[:count])
    design = subject.linears(lambda blocks: OrderedLinear(blocks, "design"))
    yield "all but the recipe", subject.model(design)
    yield "all but the order", subject.model(recipe)
    for part in PARTS:
        yield f"all but {part}", subject.model(parts=[other for other in PARTS if other != part])


def codes_that_differ(ours: GgmlModel, theirs: GgmlModel, tokens: Sequence[int]) -> F64:
    """Give the share of activations whose int8 differs, layer by layer, the head last: `[n_layers + 1]`.

    Both are quantized by recipe design, so that what is counted is what reached the quantizer.
    """
    seen: list[dict[str, NDArray[np.int8]]] = []
    for model in (ours, theirs):
        codes: dict[str, NDArray[np.int8]] = {}

        def observe(name: str, x: F32, codes: dict[str, NDArray[np.int8]] = codes) -> None:
            codes[name] = quantize_row(np.ascontiguousarray(x))["weight_qs"]

        model.forward_text(tokens, observe)
        seen.append(codes)
    layers = ours.config.n_layers
    counts = np.zeros((layers + 1, 2))
    for name, one in seen[0].items():
        place = layers if name == HEAD else int(name.split(".")[1])
        counts[place] += np.count_nonzero(one != seen[1][name]), one.size
    shares: F64 = counts[:, 0] / counts[:, 1]
    return shares


def parting(logits: F32, prompt: int, tokens: Sequence[int]) -> tuple[int, float] | None:
    """Find where greedy generation leaves a text, and by which margin: the logit chosen minus the text's.

    Parameters
    ----------
    logits
        Of all tokens of the text but the last, `[t − 1, n_vocab]`.
    prompt
        How many tokens of the text were given.
    tokens
        The text, `[t]`.

    Returns
    -------
    The place in the text, counted from the first generated token, and the margin; None where all are equal.
    """
    for place in range(prompt, len(tokens)):
        row = logits[place - 1]
        if int(row.argmax()) != tokens[place]:
            return place - prompt, float(row.max() - row[tokens[place]])
    return None


def _row(name: str, found: Difference) -> str:
    return (
        f"| {name} | {found.identical} of {found.tokens} | {found.logits:.2g} | {found.logits_rms:.2g} "
        f"| {found.nll:.2g} | {found.nll_rms:.2g} |\n"
    )


_HEAD = (
    "| tokens, bit for bit | logits: largest | RMS | ln p of the next token: largest | RMS |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: |\n"
)


def report(source: Path, subject: Subject, text: Sequence[int]) -> Iterator[str]:
    """Write the tables on one short text, line by line."""
    with LlamaCpp(subject.path, n_batch=1) as llama:
        theirs = llama.logits(text)
        yield f"ggml {llama.ggml}, {' '.join(llama.features)}; {len(text)} tokens\n\n"
    yield f"| here, against llama.cpp {_HEAD}"
    yield _row("float, the source's weights", difference(load(source).model().forward(text), theirs, text))
    yield _row("float, the file's weights", difference(subject.loaded.model().forward(text), theirs, text))
    for name, model in steps(subject):
        yield _row(name, difference(model.forward_text(text), theirs, text))
    yield f"\n| llama.cpp, against itself token by token {_HEAD}"
    batch = theirs
    for name, options in WAYS.items():
        with LlamaCpp(subject.path, **options) as llama:
            logits = llama.logits(text)
        batch = logits if not options else batch
        yield _row(name, difference(logits, theirs, text))
    yield f"\n| here, in batches, against llama.cpp {_HEAD}"
    yield _row("all tokens at once", difference(subject.model(batch=True).forward_text(text), batch, text))
    shares = codes_that_differ(subject.specified(), subject.model(), text)
    places = (0, 1, 2, 4, 9, 14, 19, 24, len(shares) - 2, len(shares) - 1)
    yield "\n| layer | " + " | ".join(str(place) for place in places[:-1]) + " | head |\n"
    yield "| --- |" + " ---: |" * len(places) + "\n"
    yield "| activations of another code | " + " | ".join(f"{shares[i]:.2%}" for i in places) + " |\n"


def generation(subject: Subject, count: int) -> Iterator[str]:
    """Say where greedy generation here leaves llama.cpp's."""
    prompt = subject.loaded.tokenizer.encode(PROMPT)
    with LlamaCpp(subject.path, n_batch=1) as llama:
        made = llama.generate(prompt, count)
    text = [*prompt, *made]
    yield f"\nllama.cpp after {PROMPT!r}: {subject.loaded.tokenizer.decode(made)!r}\n\n"
    for name, model in (("in ggml's arithmetic", subject.model()), ("as specified", subject.specified())):
        found = parting(model.forward_text(text[:-1]), len(prompt), text)
        where = "the same" if found is None else f"parts at {found[0]}, margin {found[1]:.2g}"
        yield f"- {name}: {count} tokens, {where}\n"


def perplexities(source: Path, subject: Subject, windows: Sequence[NDArray[np.int64]]) -> Iterator[str]:
    """Write the table of perplexities, all windows together."""
    size = len(windows[0])
    float_model, specified = load(source).model(), subject.specified()
    found: dict[str, list[F64]] = {}

    def add(name: str, tokens: NDArray[np.int64], logits: F32) -> None:
        found.setdefault(name, []).append(negative_log_likelihoods(logits[:-1], tokens[1:]))

    with (
        LlamaCpp(subject.path, n_ctx=size, n_batch=1) as single,
        LlamaCpp(subject.path, n_ctx=size) as batch,
    ):
        for tokens in windows:
            ids = tokens.tolist()
            add("llama.cpp, token by token", tokens, single.logits(ids))
            add("llama.cpp, all tokens at once", tokens, batch.logits(ids))
            add("here, as specified", tokens, specified.forward(ids))
            add("float, the source's weights", tokens, float_model.forward(ids))
    reference, *_ = (np.concatenate(parts) for parts in found.values())
    yield f"\n{len(windows)} windows of {size} tokens, {len(reference)} predictions\n\n"
    yield "| | perplexity | ln of the quotient to the first | its bound, 3 s/√N | RMS s of ln p |\n"
    yield "| --- | ---: | ---: | ---: | ---: |\n"
    for name, parts in found.items():
        nll = np.concatenate(parts)
        apart = nll - reference
        rms = float(np.sqrt(np.mean(np.square(apart))))
        yield (
            f"| {name} | {np.exp(nll.mean()):.4f} | {apart.mean():+.5f} | {3 * rms / np.sqrt(len(nll)):.5f} "
            f"| {rms:.4f} |\n"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=32, metavar="N", help="of the short text [32]")
    parser.add_argument("--windows", type=int, default=2, metavar="N", help="for perplexity [2]")
    parser.add_argument("--size", type=int, default=512, metavar="N", help="tokens of a window [512]")
    parser.add_argument("--generate", type=int, default=24, metavar="N", help="tokens [24]")
    options = parser.parse_args(argv)
    source = assets.model()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.gguf"
        quantize_model(source, path)
        subject = Subject(path)
        windows = read_windows(
            subject.loaded, assets.wikipedia(), Protocol(window=options.size, windows=options.windows)
        )
        for lines in (
            report(source, subject, windows[0][: options.tokens].tolist()),
            generation(subject, options.generate),
            perplexities(source, subject, windows),
        ):
            for line in lines:
                sys.stdout.write(line)
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
