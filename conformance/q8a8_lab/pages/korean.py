"""The Korean pages beside the English ones: which lag, and where the two say different things.

A Korean page's first line names the page that it translates and the digest of the text that was translated::

    <!-- translates docs/spec/layout.md c1cceb7f45b7785a -->

A page whose English page has changed since *lags*. It may say so to its readers: ``--lags PAGE`` puts a note
below its title; ``--accept PAGE`` removes the note and writes the new digest, once the translation has been
renewed.

What needs no knowledge of Korean is compared on every page that does not lag
(`q8a8_lab.pages.translation`).

::

    python -m q8a8_lab.pages.korean                          say what lags or differs: exit status 1
    python -m q8a8_lab.pages.korean --write                  renew links and the table of all rules
    python -m q8a8_lab.pages.korean --accept docs-ko/X.md    the translation is up to date
    python -m q8a8_lab.pages.korean --lags docs-ko/X.md      it is not, and the page says so
"""

from __future__ import annotations

import argparse
import hashlib
import posixpath
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from q8a8_lab.pages import rules_index
from q8a8_lab.pages.translation import FOLDER, LINK, README, differences

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "COMMAND",
    "Pair",
    "accept",
    "differences",
    "digest",
    "lags",
    "main",
    "mark",
    "pairs",
    "rules_page",
]

COMMAND: Final = "python -m q8a8_lab.pages.korean"
RULES_PAGE: Final = "docs-ko/spec/rules.md"
NOTE: Final = (
    '!!! warning "영어판이 더 새롭습니다"\n'
    "    이 쪽을 번역한 뒤에 영어판이 바뀌었습니다. 서로 다르면 영어판이 맞습니다."
)
"""What a page that lags says below its title."""

_FIRST: Final = re.compile(r"^<!-- translates (?P<source>\S+) (?P<digest>[0-9a-f]{16}) -->$", re.MULTILINE)
_MADE: Final = "<!-- Made by `"


@dataclass(frozen=True)
class Pair:
    """A Korean page and the English page that it translates.

    Attributes
    ----------
    root
        The checkout.
    korean, english
        Their paths below it, with slashes.
    """

    root: Path
    korean: str
    english: str

    def text(self, name: str) -> str:
        """Return the text of a page, by its path below the checkout."""
        return (self.root / name).read_text(encoding="utf-8")

    @property
    def made(self) -> bool:
        """Whether the Korean page is made from data: it cannot lag."""
        return self.korean == RULES_PAGE or self.text(self.korean).startswith(_MADE)


def pairs(root: Path) -> list[Pair]:
    """Return every Korean page with its English one; the README first."""
    found = [Pair(root, README, "README.md")] if (root / README).is_file() else []
    for path in sorted((root / FOLDER).rglob("*.md")):
        name = path.relative_to(root / FOLDER).as_posix()
        found.append(Pair(root, f"{FOLDER}/{name}", f"docs/{name}"))
    return found


def digest(text: str) -> str:
    """Return the digest of an English page: 16 hexadecimal digits of SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def lags(pair: Pair) -> str | None:
    """Return why a page lags, or None: its first line is missing or holds another digest."""
    if pair.made:
        return None
    first = _FIRST.match(pair.text(pair.korean))
    want = f"<!-- translates {pair.english} {digest(pair.text(pair.english))} -->"
    if first is None:
        return f"{pair.korean}: no first line {want}"
    if first[0] != want:
        return f"{pair.korean} lags: {pair.english} has changed; renewed, its first line is {want}"
    return None


def is_marked(pair: Pair) -> bool:
    """Return whether a page tells its readers that it lags."""
    return NOTE in pair.text(pair.korean)


def accept(text: str, english: str, source: str) -> str:
    """Return a Korean page with the digest of its English page, and without the note that it lags.

    Parameters
    ----------
    text
        The Korean page.
    english
        The English page's text.
    source
        The English page's path, for the first line.
    """
    body = _FIRST.sub("", text, count=1).lstrip("\n").replace(f"{NOTE}\n\n", "")
    return f"<!-- translates {source} {digest(english)} -->\n\n{body}"


def mark(text: str) -> str:
    """Return a Korean page with the note that it lags below its title."""
    if NOTE in text:
        return text
    return re.sub(
        r"^(# [^\n]*\n\n)", lambda title: f"{title[1]}{NOTE}\n\n", text, count=1, flags=re.MULTILINE
    )


def rules_page(page: str, docs: Path) -> str:
    """Return the Korean page of all rules with its table renewed from the Korean pages of the specification.

    Parameters
    ----------
    page
        The page as it is: the text around the table is kept.
    docs
        The folder of the Korean pages.
    """
    heads = ("규칙", "수준", "결과", "적용 대상", "내용", "따라 나오는 근거")
    return rules_index.with_table(page, rules_index.to_table(rules_index.parse_pages(docs), heads))


def relinked(pair: Pair) -> str:
    """Return a Korean page whose links lead to Korean pages where there are such, else to English ones."""

    def turn(match: re.Match[str]) -> str:
        path, hash_sign, anchor = match[1].partition("#")
        if not path.endswith((".md", ".html")) or ":" in path:
            return match[0]
        here = posixpath.dirname(pair.korean)
        name = re.sub(
            rf"^(?:{FOLDER}/)?(\S+)\.(?:md|html)$", r"\1", posixpath.normpath(posixpath.join(here, path))
        )
        target = f"{FOLDER}/{name}.md" if (pair.root / FOLDER / f"{name}.md").is_file() else f"{name}.html"
        return f"]({posixpath.relpath(target, here)}{hash_sign}{anchor})"

    text = pair.text(pair.korean)
    return text if pair.korean == README else LINK.sub(turn, text)


def report(root: Path) -> list[str]:
    """Say which pages lag without telling their readers, and what differs on the others."""
    all_pairs = pairs(root)
    translated = {pair.english for pair in all_pairs}
    found = []
    for pair in all_pairs:
        late = lags(pair)
        if late is not None:
            found += [] if is_marked(pair) else [late]
            continue
        if is_marked(pair):
            found.append(f"{pair.korean} says that it lags, and does not: {COMMAND} --accept {pair.korean}")
        if pair.korean == RULES_PAGE:
            continue  # its table is made of the rules that are compared, and its text names another command
        names = (pair.english, pair.korean)
        found += [
            f"{pair.korean}: {sentence}"
            for sentence in differences(pair.text(pair.english), pair.text(pair.korean), names, translated)
        ]
    return found + [f"{path} is not up to date; run: {COMMAND} --write" for path in stale(root)]


def written(root: Path) -> dict[str, str]:
    """Return the text of each page that has a part made from other files: links, the table of all rules."""
    texts = {pair.korean: relinked(pair) for pair in pairs(root)}
    if RULES_PAGE in texts:
        texts[RULES_PAGE] = rules_page(texts[RULES_PAGE], root / FOLDER)
    return texts


def stale(root: Path) -> list[str]:
    """Return the pages that `written` would change."""
    return [name for name, text in written(root).items() if (root / name).read_text("utf-8") != text]


def main(argv: Sequence[str] | None = None) -> int:
    """Say what lags or differs, or write; return the exit status (1: something lags or differs)."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="The Korean pages beside the English ones.")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="renew links and the table of all rules")
    action.add_argument("--accept", nargs="+", metavar="PAGE", help="these translations are up to date")
    action.add_argument(
        "--lags", nargs="+", metavar="PAGE", help="these are not, and say so to their readers"
    )
    options = parser.parse_args(argv)
    root = Path.cwd()
    known = {pair.korean: pair for pair in pairs(root)}
    for name in [*(options.accept or ()), *(options.lags or ())]:
        if name not in known:
            parser.error(f"{name} is no Korean page: {', '.join(known)}")
        pair, text = known[name], (root / name).read_text(encoding="utf-8")
        new = mark(text) if options.lags else accept(text, pair.text(pair.english), pair.english)
        (root / name).write_text(new, encoding="utf-8")
    if options.write:
        for name, text in written(root).items():
            (root / name).write_text(text, encoding="utf-8")
    found = report(root)
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
