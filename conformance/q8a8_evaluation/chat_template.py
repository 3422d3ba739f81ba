"""Put a turn into the conversation that a model's file describes (`tokenizer.chat_template`)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from q8a8.install import how_to_install
from q8a8.llama import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["chat"]

_KEY = "tokenizer.chat_template"

_SECONDS = 60.0
"""After this a process that renders counts as hung; it limits its processor time itself."""


def chat(metadata: Mapping[str, object], prompt: str, system: str | None = None) -> str:
    """Put a user's turn into a conversation, up to where the assistant's turn begins.

    The variables are those of Hugging Face's `apply_chat_template`. The template is a program in Jinja's
    language: it runs in Jinja's sandbox, in a process with limits (`q8a8_evaluation.template_child`).

    Parameters
    ----------
    metadata
        A file's metadata, values by key.
    prompt
        What the user says.
    system
        What the system says before; None leaves it to the template.

    Raises
    ------
    ModelError
        The file has no template, or it fails or takes too long or too much, or Jinja is not installed.
    """
    template = metadata.get(_KEY)
    if not isinstance(template, str):
        raise ModelError(f"{_KEY}: the file has no template for conversations")
    if find_spec("jinja2") is None:
        raise ModelError(f"a template for conversations needs the package jinja2: {how_to_install('model')}")
    turns = [{"role": "user", "content": prompt}]
    if system is not None:
        turns.insert(0, {"role": "system", "content": system})
    texts = {f"{name}_token": _token_text(metadata, name) for name in ("bos", "eos")}
    variables = {"messages": turns, "add_generation_prompt": True, **texts}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "q8a8_evaluation.template_child"],
            input=json.dumps({"template": template, "variables": variables}).encode(),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"{_KEY}: it takes more than {_SECONDS:g} s") from None
    if done.returncode:
        timed_out = done.returncode == -getattr(signal, "SIGPROF", 0)
        why = "it takes too long" if timed_out else "it takes too much memory, or crashes"
        raise ModelError(f"{_KEY}: {why} (exit status {done.returncode})")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise ModelError(f"{_KEY}: {answer['error']}")
    return str(answer["text"])


def _token_text(metadata: Mapping[str, object], name: str) -> str:
    """Return the text of a token that the metadata names, or nothing."""
    tokens, place = metadata.get("tokenizer.ggml.tokens"), metadata.get(f"tokenizer.ggml.{name}_token_id")
    if isinstance(tokens, Sequence) and isinstance(place, int) and 0 <= place < len(tokens):
        return str(tokens[place])
    return ""
