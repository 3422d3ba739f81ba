"""``q8a8 generate``: let a model write, in any scheme, and see its tokens as they come.

::

    q8a8 generate MODEL.gguf "The capital of France is"
    q8a8 generate MODEL.gguf "Why is the sky blue?" --chat --scheme q8_a8 --temperature 0.7 --seed 1

With ``--chat`` the prompt is put into the conversation that the file's own template describes
(`q8a8_evaluation.chat_template`).
"""

from __future__ import annotations

import codecs
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8.errors import Q8A8Error
from q8a8.llama import ModelError, generate, load
from q8a8.methods.calibration import Calibration
from q8a8.schemes.scheme import InputStatistics, build, get_scheme
from q8a8.schemes.table import SCHEMES
from q8a8_conformance.commands.options import OK, refuse
from q8a8_evaluation.chat_template import chat
from q8a8_evaluation.native import NO_KERNEL, add_kernel_options, takes_kernel, with_kernel

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from q8a8.llama import LoadedModel, Tokenizer
    from q8a8.schemes.scheme import Built, Scheme
    from q8a8_conformance.commands.options import Subparsers

__all__ = ["add_parser", "stream"]

FLOAT = "float"


def add_parser(subparsers: Subparsers) -> None:
    """Add ``generate`` to the command line."""
    parser = subparsers.add_parser(
        "generate",
        help="let a model write",
        description="Print what a model writes after a prompt, token by token, to standard output. Without "
        "--temperature always the most probable token.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a GGUF file of the Llama architecture")
    parser.add_argument("prompt", metavar="PROMPT", help="what comes before")
    parser.add_argument("--tokens", type=int, default=128, metavar="N", help="at most so many [128]")
    parser.add_argument("--scheme", default=FLOAT, metavar="NAME", help="how the model is quantized [float]")
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE", help="of q8a8 calibrate, for schemes that need one"
    )
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="sample the tokens [0: no]"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="sample from the K most probable ones")
    parser.add_argument(
        "--top-p", type=float, metavar="P", help="sample from the fewest that together have probability P"
    )
    parser.add_argument("--seed", type=int, metavar="S", help="of the sampling: one seed, one text")
    parser.add_argument("--chat", action="store_true", help="the prompt is a user's turn in a conversation")
    parser.add_argument("--system", metavar="TEXT", help="with --chat: what the system's turn says")
    parser.add_argument(
        "--allow-id-39", action="store_true", help="the file is of the design's fork: type 39 is Q8_A8"
    )
    add_kernel_options(parser)
    parser.set_defaults(func=command)


def command(options: argparse.Namespace) -> int:
    """Print what the model writes, and return the exit status."""
    try:
        for text in _texts(options):
            sys.stdout.write(text)
            sys.stdout.flush()
    except Q8A8Error as error:
        return refuse(error)
    sys.stdout.write("\n")
    return OK


def _texts(options: argparse.Namespace) -> Iterator[str]:
    """Load the model and yield what it writes, piece by piece."""
    if options.temperature == 0 and not (options.top_k is None and options.top_p is None):
        raise ModelError("--top-k and --top-p limit sampling: give a --temperature above 0")
    if options.system is not None and not options.chat:
        raise ModelError("--system: there is no system's turn without --chat")
    if options.tokens < 1:
        raise ModelError(f"--tokens: expected at least 1, got {options.tokens}")
    scheme = get_scheme(options.scheme, SCHEMES)
    if options.kernel != NO_KERNEL and not takes_kernel(scheme):
        raise ModelError(f"--kernel is for the scheme q8_a8, not for {options.scheme}")
    scheme = with_kernel(scheme, options.kernel, options.threads)
    loaded = load(options.model, allow_id_39=options.allow_id_39)
    tokenizer = loaded.tokenizer
    if options.chat:
        tokens = tokenizer.encode(chat(loaded.metadata, options.prompt, options.system), special=True)
    else:
        # Without a prompt, a text can still begin where the file says how.
        begin = tokenizer.add_bos or (not options.prompt and tokenizer.bos is not None)
        tokens = tokenizer.encode(options.prompt, bos=begin)
    built = _built(loaded.opened(len(tokens) + options.tokens), scheme, options.calibration)
    made = generate(
        built.model,
        tokens,
        options.tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
        cache=built.new_cache(len(tokens) + options.tokens),
    )
    yield from stream(tokenizer, made)


def _built(loaded: LoadedModel, scheme: Scheme, calibration: Path | None) -> Built:
    """Quantize the model."""
    found = None
    if calibration is not None:
        found = Calibration.load(calibration)
        if found.model_sha256 != loaded.sha256:
            raise ModelError(f"{calibration}: made for another model, with sha256 {found.model_sha256}")
    return build(scheme, loaded.config, loaded.weights, InputStatistics(found))


def stream(tokenizer: Tokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """Turn tokens into text as they come, up to the one that ends the text.

    A character whose bytes are spread over tokens comes when it is complete; bytes that are no UTF-8 become
    U+FFFD.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in tokens:
        if token == tokenizer.eos:
            break
        yield decoder.decode(tokenizer.decode_bytes([token]))
    yield decoder.decode(b"", final=True)
