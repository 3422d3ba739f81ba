"""The commands that the pages print: each exists, and its options do."""

from __future__ import annotations

import argparse
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from q8a8_conformance.cli import COMMANDS, build_parser

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[3]
PAGES = [
    "README.md",
    "README.ko.md",
    "CONTRIBUTING.md",
    "native_check/README.md",
    "conformance/q8a8_conformance/commands/templates/README.md",
    *sorted(
        str(path.relative_to(ROOT))
        for folder in ("docs", "docs-ko")
        for path in (ROOT / folder).rglob("*.md")
    ),
]
SHELL = ("sh", "console", "bash", "")
COMMAND = re.compile(r"(time )?(q8a8|make|(\.venv/bin/)?python3? -m q8a8\w*|\.venv/bin/q8a8)(\.| )")
# What stands for something else: SUT, MODEL.gguf, [--json FILE], NAME..., lib:PATH.
PLACEHOLDER = re.compile(r"(\w+:)?[A-Z][A-Z0-9_]*(\.\w+)?$|…|\.\.\.|[\[|\]]")


class Printed(NamedTuple):
    """One command of a page: the line it stands on, and its words.

    Attributes
    ----------
    whole
        Whether it is to be typed as it is: it stands in a block of its own, without placeholders.
    """

    line: int
    words: list[str]
    whole: bool


def printed(text: str) -> Iterator[Printed]:
    """Yield a page's commands of ours: those of code blocks, continued lines joined, and of code spans."""
    language: str | None = None
    lines: list[tuple[int, str, bool]] = []
    for number, line in enumerate(text.splitlines(), 1):
        fence = re.match(r"\s*```(\S*)", line)
        if fence:
            language = fence[1] if language is None else None
        elif language is None:
            lines += [(number, span, False) for span in re.findall(r"`([^`]+)`", line)]
        elif language in SHELL and line.startswith(" ") and lines:
            before, start, block = lines.pop()
            lines.append((before, f"{start.removesuffix(chr(92))} {line.strip()}", block))
        elif language in SHELL:
            lines.append((number, line.removeprefix("$ "), True))
    for number, line, block in lines:
        for command in re.split(r" && | > ", line):
            if COMMAND.match(f"{command} "):
                words = shlex.split(command.removeprefix("time "), comments=True)
                yield Printed(number, words, block and not any(map(PLACEHOLDER.search, words)))


@pytest.fixture(scope="module")
def parsers() -> Mapping[str, argparse.ArgumentParser]:
    """Return each command's parser, by name."""
    found: Mapping[str, argparse.ArgumentParser] = build_parser(None, whole=True).get_default("parsers")
    return found


def options(parser: argparse.ArgumentParser) -> set[str]:
    """Return the options of a command, and of those below it (``vectors check``)."""
    names = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            names |= set().union(*map(options, action.choices.values()))
    return names


def why_not(command: Printed, parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    """Return what is wrong with a printed command; nothing where it can be typed."""
    program, *words = command.words
    if program == "make" and "-C" not in words:
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        return "".join(f"no target {word}" for word in words if "=" not in word and word not in targets)
    if words[:1] == ["-m"] and words[1] != "q8a8":
        return "" if find_spec(words[1]) else f"no module {words[1]}"
    words = words[2:] if words[:1] == ["-m"] else words
    if program == "make" or not words or words[0] in ("--help", "help"):
        return ""
    if words[0] not in COMMANDS:
        return f"no command {words[0]}"
    parser = parsers[words[0]]
    if command.whole:
        try:
            parser.parse_args(words[1:])
        except SystemExit:
            return "it does not parse"
    named = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", " ".join(w for w in words if " " not in w)))
    return "".join(f"no option {name}" for name in sorted(named - options(parser)))


@pytest.mark.parametrize("name", PAGES)
def test_printed_commands_parse(name: str, parsers: Mapping[str, argparse.ArgumentParser]) -> None:
    """Each command that a page prints exists, its options do, and it parses where it is whole."""
    commands = printed((ROOT / name).read_text(encoding="utf-8"))
    wrong = [(c.line, shlex.join(c.words), reason) for c in commands if (reason := why_not(c, parsers))]
    assert wrong == []


def test_what_is_found(parsers: Mapping[str, argparse.ArgumentParser]) -> None:
    """Commands are found in blocks and spans; unknown ones, options and targets are not passed over."""
    page = (
        "`q8a8 tset ref`\n"
        "```console\n$ q8a8 test ref --profil\n$ q8a8 quantize a && make al \\\n    lint\n```\n"
        "```sh\n$ q8a8 bench --quik [--json FILE]\n```\n"
        "`.venv/bin/python -m q8a8_lab.no`"
    )
    found = list(printed(page))
    assert [command.line for command in found] == [1, 3, 4, 4, 8, 10]
    assert [why_not(command, parsers) for command in found] == [
        "no command tset",
        "it does not parse",
        "it does not parse",
        "no target al",
        "no option --quik",
        "no module q8a8_lab.no",
    ]
