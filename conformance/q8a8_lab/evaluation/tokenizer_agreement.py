"""Compare our tokens with llama.cpp's on millions of characters, for every type of vocabulary.

::

    python -m q8a8_lab.evaluation.tokenizer_agreement [--characters N]

prints the table of docs/model/llama.md. The vocabularies are real ones, out of other people's packages: two
GGUF files, two lists of the package tiktoken (whose merges follow from the ranks), a SentencePiece model.
Each is put into a model of one narrow layer that llama.cpp loads.
"""

from __future__ import annotations

import argparse
import base64
import bz2
import random
import struct
import sys
import tempfile
import time
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from q8a8.ggufio import open_model
from q8a8.llama.tokenizer import Tokenizer, byte_characters
from q8a8_evaluation.llamacpp import LlamaCpp
from q8a8_lab.evaluation import assets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Metadata = dict[str, Any]

__all__ = ["VOCABULARIES", "documents", "first_difference", "main", "write_vocabulary"]

KEYS = ("model", "pre", "tokens", "scores", "token_type", "merges", "add_space_prefix", "add_bos_token")
IDS = ("bos_token_id", "eos_token_id", "unknown_token_id")

PIECES = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "<unk>", "<bos>", "<start_of_turn>"),
    *("<|begin_of_text|>", "<|eot_id|>", "[INST]", "<0x0A>", "<|", "|>", "<", ">", "▁", "\u2581\u2581"),
    *(" ", "  ", " " * 7, "\n", "\n\n", "\n\n\n", "\t", "\t\t", "\r\n", "\r", "\u00a0", "\u3000", "\u200b"),
    *("\ufeff", "\u0085", "\u2028", "\x00", "\x04", "\x7f", "\v", "\f"),
    *("a", "Bc", "the", " the", "é", "e\u0301", "\u0301", "o\u0308\u0323", "ﬁ", "中", "文字", "ß", "Ж", "ع"),
    *("한국어", "\u1112\u1161\u11ab", "ไทย", "नमस्ते", "1", "23", "4567", "½", "٣", "Ⅷ", "²"),
    *("😀", "👩\u200d👩\u200d👧", "🇰🇷", "👍🏽", "❤️", "\U0001f9ff", "\U00020000", "\U0010ffff"),
    *("'s", "'LL", "\u2019s", "'", "!", "...", "_", "==", "://", "{", "}\n", "#" * 9, "a" * 40, "ha" * 30),
)
"""What random texts are put together from: names of control tokens, white space, marks, emoji, runs."""


def _ranked(text: str) -> tuple[list[str], list[str]]:
    """Read a list of tiktoken: tokens in byte characters, and the merges that make them.

    A token's merge is of the last two parts that the tokens of lower rank leave of it.
    """
    lines = (line.split() for line in text.splitlines())
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    names = byte_characters()

    def name(token: bytes) -> str:
        return "".join(names[byte] for byte in token)

    merges = []
    for token, rank in ranks.items():
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            found = [ranks.get(a + b, rank) for a, b in pairwise(parts)]
            lowest = min(found)
            if lowest >= rank:
                break
            i = found.index(lowest)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        if len(parts) == 2:
            merges.append(f"{name(parts[0])} {name(parts[1])}")
    return [name(token) for token in ranks], merges


def _byte_level(text: str, pre: str, controls: Sequence[str], first: int | None = None) -> Metadata:
    """Make the metadata of a byte-level vocabulary, or of its first tokens."""
    tokens, merges = _ranked("\n".join(text.splitlines()[:first]))
    return {
        "model": "gpt2",
        "pre": pre,
        "tokens": [*tokens, *controls],
        "token_type": [1] * len(tokens) + [3] * len(controls),
        "merges": merges,
        "bos_token_id": len(tokens),
        "eos_token_id": len(tokens) + 1,
        "add_bos_token": False,
    }


def llama_3(first: int | None = None) -> Metadata:
    """Return the vocabulary of Llama 3, or its first tokens."""
    controls = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")
    return _byte_level(assets.llama_3_ranks(), "llama-bpe", controls, first)


def qwen_2(first: int | None = None) -> Metadata:
    """Return the vocabulary of Qwen 1 to 2.5, or its first tokens."""
    controls = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    return _byte_level(assets.qwen_ranks(), "qwen2", controls, first)


def sentencepiece(data: bytes) -> Metadata:
    """Read a SentencePiece model: its protocol buffer's field 1 has text, score and type (fields 1 to 3)."""
    pieces: list[tuple[str, float, int]] = []
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            piece = dict(_fields(value))
            score = struct.unpack("<f", piece.get(2, bytes(4)))[0]
            pieces.append((piece[1].decode(), score, piece.get(3, 1)))
    return {
        "model": "llama",
        "pre": "default",
        "tokens": [text for text, _, _ in pieces],
        "scores": [score for _, score, _ in pieces],
        "token_type": [kind for _, _, kind in pieces],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Read the fields of a protocol buffer: varints as integers, the others as bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(tag & 7)
        size = varint() if size is None else size
        yield tag >> 3, data[at : at + size]
        at += size


def _of_file(path: Path) -> Metadata:
    """Take the vocabulary of a GGUF file."""
    with open_model(path) as file:
        found = {key: file.metadata.get(f"tokenizer.ggml.{key}") for key in (*KEYS, *IDS)}
    return {key: value for key, value in found.items() if value is not None}


VOCABULARIES: dict[str, Callable[[], Metadata]] = {
    "SmolLM2 (`smollm`)": lambda: _of_file(assets.model()),
    "Llama 3 (`llama-bpe`)": llama_3,
    "Qwen 2 (`qwen2`)": qwen_2,
    "Mistral 7B v0.1 (`llama`)": lambda: sentencepiece(assets.mistral_pieces()),
    "Gemma 3 (`llama`)": lambda: _of_file(assets.gemma()),
}
"""Vocabularies by name: the values of `tokenizer.ggml.*`."""


def write_vocabulary(path: Path, vocabulary: Metadata, *, name: str = "") -> dict[str, Any]:
    """Write a model of one layer of 32 channels with a vocabulary; return its metadata."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    for add, value in (
        (writer.add_block_count, 1),
        (writer.add_context_length, 256),
        (writer.add_embedding_length, 32),
        (writer.add_feed_forward_length, 32),
        (writer.add_head_count, 1),
    ):
        add(value)
    writer.add_layer_norm_rms_eps(1e-5)
    for key, value in vocabulary.items():
        full = f"tokenizer.ggml.{key}"
        if isinstance(value, str):
            writer.add_string(full, value)
        elif isinstance(value, bool):
            writer.add_bool(full, value)
        elif isinstance(value, int):
            writer.add_uint32(full, value)
        else:
            kind = np.asarray(value).dtype.kind
            writer.add_array(full, list(value) if kind == "U" else [v.item() for v in np.asarray(value)])
    count = len(vocabulary["tokens"])
    writer.add_tensor("token_embd.weight", np.zeros((count, 32), np.float16))
    writer.add_tensor("output_norm.weight", np.ones(32, np.float32))
    for tensor in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{tensor}.weight", np.ones(32, np.float32))
    for tensor in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{tensor}.weight", np.zeros((32, 32), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open_model(path) as file:
        return dict(file.metadata)


def documents(characters: int, seed: int = 7) -> Iterator[str]:
    """Make texts of this many characters together.

    A third is an encyclopedia with its markup, a third random sequences of `PIECES`, a sixth assigned
    characters of all scripts among letters, signs and white space, and a sixth runs of one piece.
    """
    rng = random.Random(seed)  # noqa: S311 -- texts, no secrets
    with bz2.open(assets.wikipedia(), "rt", encoding="utf-8") as file:
        article = file.read(characters // 3)
    for start in range(0, len(article), 20_000):
        yield article[start : start + 20_000]
    done = 0
    while done < characters // 3:
        text = "".join(rng.choices(PIECES, k=rng.randrange(200)))
        done += len(text)
        yield text
    assigned = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in {"Cn", "Cs", "Co"}]
    done = 0
    while done < characters // 6:
        text = "".join(f"a{c}{c} {c}1{c}!{c}! \n{c}\n" for c in rng.choices(assigned, k=100))
        done += len(text)
        yield text
    done = 0
    while done < characters // 6:
        text = rng.choice(PIECES) * rng.randrange(1, 400) + rng.choice(PIECES)
        done += len(text)
        yield text


def first_difference(tokenizer: Tokenizer, llama: LlamaCpp, texts: Iterator[str]) -> tuple[int, int, str]:
    """Compare both on texts, control tokens in every other one.

    Returns
    -------
    characters, tokens, text
        How many were equal, and the first text where the two differ, or "".
    """
    characters = tokens = 0
    for number, text in enumerate(texts):
        special = number % 2 == 1
        ours = tokenizer.encode(text, special=special)
        if ours != llama.tokenize(text, special=special):
            return characters, tokens, text
        characters, tokens = characters + len(text), tokens + len(ours)
    return characters, tokens, ""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--characters", type=int, default=2_000_000, metavar="N", help="[2000000]")
    options = parser.parse_args(argv)
    out = sys.stdout.write
    out("| vocabulary | tokens in it | characters | tokens of them | differences | seconds, ours |\n")
    out("| --- | ---: | ---: | ---: | ---: | ---: |\n")
    failed = False
    for name, make in VOCABULARIES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "vocabulary.gguf"
            tokenizer = Tokenizer(write_vocabulary(path, make()))
            start = time.process_time()
            with LlamaCpp(path, n_ctx=256) as llama:
                characters, tokens, text = first_difference(tokenizer, llama, documents(options.characters))
            took = time.process_time() - start
        failed |= bool(text)
        found = f"first in {text[:60]!r}" if text else "0"
        out(f"| {name} | {len(tokenizer)} | {characters} | {tokens} | {found} | {took:.0f} |\n")
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
