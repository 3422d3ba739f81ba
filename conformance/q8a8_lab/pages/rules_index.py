"""The index of the rules: reads the specification's pages, writes ``rules.json`` and the table of all rules.

On a page a rule is a heading and a block quote::

    ### Q8A8-QNT-3: the inverse { #q8a8-qnt-3 }

    > **MUST** · exact · kernel
    >
    > `inv` is `f32(127 / amax)` if `h` is not zero, else +0.

The quote's first line holds the level, the kind of outcome and whom the rule binds. A rule that no kernel can
break alone also names the rules that it follows from, separated by commas: ``**MUST** · exact · kernel ·
follows from Q8A8-MEM-2``. The rest of the quote is the rule. A one-of rule ends in a list with one item for
each allowed outcome and its cause::

    > - `scalar`: the blocks are added one after the other.

Text outside the quotes explains and is not normative.

``python -m q8a8_lab.pages.rules_index --write [DOCS]`` writes both files; ``--check`` exits with 1 if one
of them is not up to date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from q8a8_conformance.spec import rules as shipped
from q8a8_conformance.spec.rules import CHAPTERS, JSON_NAME, Outcome, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COMMAND: Final = "python -m q8a8_lab.pages.rules_index"
JSON_PATH: Final = Path(shipped.__file__).with_name(JSON_NAME)

LEVELS: Final = ("MUST", "SHOULD", "MAY")
KINDS: Final = ("exact", "one-of", "bound", "unspecified")
SUBJECTS: Final = ("kernel", "reference")

TABLE_PAGE: Final = "spec/rules.md"
"""The page whose table of all rules is generated."""

TABLE_HEADS: Final = ("rule", "level", "outcome", "binds", "about", "follows from")

_TABLE_BEGIN: Final = "<!-- generated: rules -->"
_TABLE_END: Final = "<!-- end of generated: rules -->"

_HEADING: Final = re.compile(r"^#+ +(?P<id>Q8A8-\S+?): +(?P<title>.+?) +\{ *#(?P<anchor>\S+) *\}$")
_ANY_HEADING: Final = re.compile(r"^#+ .*Q8A8-")
_ID: Final = re.compile(r"^Q8A8-(?P<chapter>[A-Z]{3})-(?P<number>[1-9][0-9]*)$")
_TAGS: Final = re.compile(
    r"^\*\*(?P<level>[A-Z]+)\*\* · (?P<kind>[a-z-]+) · (?P<subject>[a-z]+)"
    r"(?: · follows from (?P<sources>Q8A8-[A-Z0-9-]+(?:, Q8A8-[A-Z0-9-]+)*))?$"
)
_OUTCOME: Final = re.compile(r"^- `(?P<name>[^`]+)`: +(?P<cause>.+)$", re.DOTALL)


class RuleSyntaxError(ValueError):
    """A page holds a malformed rule."""


def _order(rule_id: str) -> tuple[int, int]:
    match = _ID.match(rule_id)
    if match is None or match["chapter"] not in CHAPTERS:
        raise RuleSyntaxError(f"{rule_id!r} is not a rule id: Q8A8-, one of {', '.join(CHAPTERS)}, a number")
    return CHAPTERS.index(match["chapter"]), int(match["number"])


def _paragraphs(quote: Sequence[str]) -> list[str]:
    """Join the lines of a block quote into paragraphs and list items."""
    found: list[list[str]] = [[]]
    for line in quote:
        if not line:
            found.append([])
        elif line.startswith("- "):
            found.append([line])
        else:
            found[-1].append(line.strip())
    return [" ".join(lines) for lines in found if lines]


def _reason(lines: Sequence[str]) -> str:
    """Return the paragraphs and list items up to the next heading, without code, tables and drawings."""
    found: list[list[str]] = [[]]
    fenced = False
    for line in lines:
        fenced ^= line.lstrip().startswith("```")
        if line.startswith("#") and not fenced:
            break
        if fenced or not line or line.startswith(("```", "| ", ">", "<", "!!!", "???", "    ", "--8<--")):
            found.append([])
        elif line.startswith("- "):
            found.append([line])
        else:
            found[-1].append(line.strip())
    paragraphs = [" ".join(held) for held in found if held]
    # A paragraph that ends in a colon introduces something that was left out.
    following = [*paragraphs[1:], ""]
    kept = (
        words
        for words, after in zip(paragraphs, following, strict=False)
        if not words.endswith(":") or after.startswith("- ")
    )
    return "\n".join(kept)


def _rule(page: str, heading: re.Match[str], quote: Sequence[str], below: Sequence[str]) -> Rule:
    where = f"{page}: {heading['id']}"
    _order(heading["id"])
    if heading["anchor"] != heading["id"].lower():
        raise RuleSyntaxError(f"{where}: the anchor is #{heading['anchor']}, not #{heading['id'].lower()}")
    first, *body = _paragraphs(quote) or [""]
    tags = _TAGS.match(first)
    if tags is None:
        raise RuleSyntaxError(f"{where}: no quote that begins with '**LEVEL** · kind · subject': {first!r}")
    for name, allowed in (("level", LEVELS), ("kind", KINDS), ("subject", SUBJECTS)):
        if tags[name] not in allowed:
            raise RuleSyntaxError(f"{where}: {name} {tags[name]!r} is not one of {', '.join(allowed)}")
    outcomes: tuple[Outcome, ...] = ()
    if tags["kind"] == "one-of":
        listed = [_OUTCOME.match(part) for part in body if part.startswith("- ")]
        outcomes = tuple(Outcome(item["name"], item["cause"]) for item in listed if item)
        if len(outcomes) < 2 or len(outcomes) != len(listed):
            raise RuleSyntaxError(f"{where}: a one-of rule lists at least two outcomes: '- `name`: cause'")
        body = [part for part in body if not part.startswith("- ")]
    if not body:
        raise RuleSyntaxError(f"{where}: the quote has no text")
    return Rule(
        id=heading["id"],
        level=tags["level"],
        kind=tags["kind"],
        subject=tags["subject"],
        text="\n".join(body),
        page=page,
        anchor=heading["anchor"],
        outcomes=outcomes,
        title=heading["title"],
        derived_from=tuple((tags["sources"] or "").replace(",", "").split()),
        reason=_reason(below),
    )


def parse_page(page: str, markdown: str) -> list[Rule]:
    """Read the rules of one page.

    Parameters
    ----------
    page
        The page's name, copied into each rule.
    markdown
        The page's text.

    Returns
    -------
    list of Rule
        In the page's order.

    Raises
    ------
    RuleSyntaxError
        A heading with a rule's id is not followed by a rule's quote, or an id, an anchor or a tag is invalid.
    """
    rules = []
    lines = markdown.splitlines()
    fenced = False
    for number, line in enumerate(lines):
        fenced ^= line.lstrip().startswith("```")
        if fenced or not _ANY_HEADING.match(line):
            continue
        heading = _HEADING.match(line)
        if heading is None:
            raise RuleSyntaxError(f"{page}: line {number + 1}: no '### ID: title {{ #anchor }}': {line!r}")
        start = number + 1
        while start < len(lines) and not lines[start]:
            start += 1
        quote = []
        while start < len(lines) and lines[start].startswith(">"):
            quote.append(lines[start][1:].removeprefix(" "))
            start += 1
        rules.append(_rule(page, heading, quote, lines[start:]))
    return rules


def parse_pages(docs_dir: Path) -> tuple[Rule, ...]:
    """Read the rules of every page below a folder.

    Parameters
    ----------
    docs_dir
        The folder of the pages, ``docs`` in a checkout.

    Returns
    -------
    tuple of Rule
        Sorted by chapter (see `CHAPTERS`) and number.

    Raises
    ------
    RuleSyntaxError
        A page has a malformed rule, an id occurs twice, a chapter's numbers have a gap, a rule follows from
        one that does not exist or is derived itself, or there are no rules.
    """
    rules: list[Rule] = []
    for path in sorted(docs_dir.rglob("*.md")):
        rules += parse_page(path.relative_to(docs_dir).as_posix(), path.read_text(encoding="utf-8"))
    rules.sort(key=lambda rule: _order(rule.id))
    seen: dict[str, Rule] = {}
    previous = (-1, 0)
    for rule in rules:
        if rule.id in seen:
            raise RuleSyntaxError(f"{rule.id} is defined on {seen[rule.id].page} and on {rule.page}")
        seen[rule.id] = rule
        chapter, number = _order(rule.id)
        if number != (previous[1] + 1 if chapter == previous[0] else 1):
            raise RuleSyntaxError(f"{rule.page}: {rule.id} leaves a gap in its chapter's numbers")
        previous = (chapter, number)
    if not rules:
        raise RuleSyntaxError(f"{docs_dir}: no page with a rule")
    for rule in rules:
        for source in rule.derived_from:
            if source not in seen or seen[source].derived_from:
                raise RuleSyntaxError(
                    f"{rule.page}: {rule.id} follows from {source}: not an independent rule"
                )
    return tuple(rules)


def to_json(rules: Iterable[Rule]) -> str:
    """Return the text of ``rules.json``: a list of objects, empty optional fields omitted."""
    entries = [asdict(rule) for rule in rules]
    for entry in entries:
        for key in ("outcomes", "derived_from", "reason"):
            if not entry[key]:
                del entry[key]
    return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"


def to_table(rules: Iterable[Rule], heads: Sequence[str] = TABLE_HEADS) -> str:
    """Return the Markdown table of all rules for `TABLE_PAGE`, with the columns' names in any language."""
    lines = [f"| {' | '.join(heads)} |", "| --- | --- | --- | --- | --- | --- |"]
    for rule in rules:
        target = rule.url.removeprefix(TABLE_PAGE.rpartition("/")[0] + "/")
        sources = ", ".join(source.removeprefix("Q8A8-") for source in rule.derived_from)
        cells = (f"[{rule.id}]({target})", rule.level, rule.kind, rule.subject, rule.title, sources)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_table(page: str, table: str) -> str:
    """Return the page of all rules with another table."""
    before, begin, rest = page.partition(_TABLE_BEGIN)
    _, end, after = rest.partition(_TABLE_END)
    if not begin or not end:
        raise RuleSyntaxError(f"{TABLE_PAGE}: the comments around the table of rules are missing")
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def generated(docs_dir: Path) -> dict[Path, str]:
    """Return the text of ``rules.json`` and of the page with the table of all rules, by path."""
    rules = parse_pages(docs_dir)
    page = docs_dir / TABLE_PAGE
    return {JSON_PATH: to_json(rules), page: with_table(page.read_text(encoding="utf-8"), to_table(rules))}


def stale(docs_dir: Path) -> list[Path]:
    """Return the generated files that are not up to date."""
    return [
        path
        for path, text in generated(docs_dir).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the generated files, or check them; return the exit status (1: not up to date, 2: usage)."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="The index of the rules.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write rules.json and the table of all rules")
    action.add_argument("--check", action="store_true", help="exit with 1 if either is not up to date")
    parser.add_argument(
        "docs", nargs="?", type=Path, default=Path("docs"), help="the folder of the pages [docs]"
    )
    options = parser.parse_args(argv)
    try:
        if options.write:
            for path, text in generated(options.docs).items():
                path.write_text(text, encoding="utf-8")
            return 0
        old = stale(options.docs)
    except (RuleSyntaxError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for path in old:
        sys.stderr.write(f"{path.name} is not up to date; run: {COMMAND} --write docs\n")
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
