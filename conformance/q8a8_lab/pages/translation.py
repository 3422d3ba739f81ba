"""What can be compared of a page and its translation without reading them.

Headings and their anchors, rules with their levels, code blocks without their comments, the numerals
and names of every cell of a table, and the numerals, names and links of every section.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from q8a8_lab.pages import rules_index

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["FOLDER", "LINK", "README", "differences"]

FOLDER: Final = "docs-ko"
"""The Korean pages."""

README: Final = "README.ko.md"
"""The Korean README, beside the English one."""

LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
"""The target of a link."""

_FENCE: Final = re.compile(
    r"^(?P<mark>```+)(?P<info>[^\n]*)\n(?P<code>.*?)^(?P=mark)$", re.MULTILINE | re.DOTALL
)
_HEADING: Final = re.compile(r"^(?P<level>#+) +(?P<title>.+?)(?: +\{ *#(?P<anchor>\S+) *\})?$")
_SPAN: Final = re.compile(r"`([^`\n]+)`")
# 0x7E, 10,000, 0.5, 2⁻²⁴; not the digits of names such as int8.
_NUMERAL: Final = re.compile(r"(?<![\w.])0x[0-9A-Fa-f]+|(?<![A-Za-z_\d.])\d+(?:[.,]\d+)*|[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_WORDS: Final = re.compile("2의 (?:보수|거듭제곱)")
# Comments: of Python, the shell and TOML if a language is not listed.
_COMMENTS: Final = {
    "c": re.compile(r"[ \t]*(?:/\*.*?\*/|//[^\n]*)", re.DOTALL),
    "text": None,
}
_HASH_COMMENT: Final = re.compile(r"(?:^|[ \t]+)#(?:[ \t][^\n]*)?$", re.MULTILINE)


def differences(
    english: str, korean: str, names: tuple[str, str], translated: Iterable[str] = ()
) -> list[str]:
    """Say where a translation says something else, as far as can be seen without reading it.

    Parameters
    ----------
    english, korean
        The texts of the two pages.
    names
        Their paths below the checkout: links are compared by where they lead.
    translated
        Paths of the English pages that have a Korean one: a Korean page links to that.

    Returns
    -------
    list of str
        One sentence for each difference; none if there is none.
    """
    found = list(_rule_differences(english, korean))
    known = set(translated) - {names[0]}
    # A README's headings have no anchors of their own: they are compared by their places.
    numbered = names[1] == README
    one, two = _Page(english, numbered=numbered), _Page(korean, numbered=numbered)
    if one.code != two.code:
        changed = [i + 1 for i, (a, b) in enumerate(zip(one.code, two.code, strict=False)) if a != b]
        found.append(f"code blocks differ: {len(one.code)} and {len(two.code)}; numbers {changed}")
    anchors = [[section.anchor for section in page.sections] for page in (one, two)]
    if anchors[0] != anchors[1]:
        missing = [anchor for anchor in anchors[0] if anchor not in anchors[1]]
        return [
            *found,
            f"headings differ: {len(anchors[0])} and {len(anchors[1])}; without a Korean one: {missing}",
        ]
    for a, b in zip(one.sections, two.sections, strict=True):
        for kind, left, right in (
            ("numerals", a.numerals, b.numerals),
            ("names in code", a.spans, b.spans),
            ("links", a.links(names, names[0], known), b.links(names, names[1], known)),
            ("cells of tables", a.cells, b.cells),
        ):
            if left != right:
                only = (sorted((left - right).elements()), sorted((right - left).elements()))
                found.append(
                    f"section #{a.anchor}: {kind} differ: English only {only[0]}, Korean only {only[1]}"
                )
    return found


def _rule_differences(english: str, korean: str) -> Iterator[str]:
    """Compare what the rules of two pages declare."""
    declared, translated = (
        [
            (
                rule.id,
                rule.level,
                rule.kind,
                rule.subject,
                rule.derived_from,
                [each.name for each in rule.outcomes],
            )
            for rule in rules_index.parse_page("", text)
        ]
        for text in (english, korean)
    )
    if declared != translated:
        missing = [rule for rule in declared if rule not in translated]
        yield f"rules differ: {missing} have no equal Korean rule"


@dataclass(frozen=True)
class _Section:
    """A heading and the text below it, without code blocks."""

    anchor: str
    text: str

    @property
    def prose(self) -> str:
        """The text without tables, targets of links and names in code."""
        lines = (line for line in self.text.splitlines() if not line.startswith("| "))
        return _SPAN.sub(" ", LINK.sub("]", "\n".join(lines)))

    @property
    def numerals(self) -> Counter[str]:
        """The numerals of the prose."""
        return _numerals(self.prose)

    @property
    def spans(self) -> Counter[str]:
        """The names in code."""
        return Counter(_SPAN.findall(self.text.replace("\n", " ")))

    def links(self, names: tuple[str, str], page: str, translated: set[str]) -> Counter[str]:
        """Return where the links lead, as English pages, without those between the two pages themselves.

        A link to an English page that has a Korean one stands out.
        """
        targets = (_target(link, page, translated) for link in LINK.findall(self.text))
        return Counter(target for target in targets if target.partition("#")[0] not in names)

    @property
    def cells(self) -> Counter[str]:
        """Each cell of the section's tables: its place, and the numerals and names in it."""
        rows = [line for line in self.text.splitlines() if line.startswith("| ")]
        found: Counter[str] = Counter()
        for number, row in enumerate(rows):
            for column, cell in enumerate(re.split(r"(?<!\\)\|", row)):
                numerals = _numerals(LINK.sub("]", _SPAN.sub(" ", cell)))
                held = sorted(_SPAN.findall(cell)) + sorted(numerals.elements())
                found[f"row {number}, column {column}: {' '.join(held)}"] += 1
        return found


class _Page:
    """The parts of a page that are compared."""

    def __init__(self, text: str, *, numbered: bool) -> None:
        self.code = [_without_comments(fence["info"], fence["code"]) for fence in _FENCE.finditer(text)]
        body = re.sub(r"<!--.*?-->", "", _FENCE.sub("", text), flags=re.DOTALL)
        self.sections: list[_Section] = []
        anchor, held = "", list[str]()
        seen: set[str] = set()
        for line in body.splitlines():
            heading = _HEADING.match(line)
            if heading is None:
                held.append(line)
                continue
            self.sections.append(_Section(anchor, "\n".join(held)))
            held = [heading["title"]]
            if heading["level"] == "#":
                anchor = ""
            elif numbered:
                anchor = f"{heading['level']}{len(self.sections)}"
            else:
                anchor = heading["anchor"] or _slug(heading["title"], seen)
        self.sections.append(_Section(anchor, "\n".join(held)))


def _numerals(text: str) -> Counter[str]:
    """Count the numerals, without 0 and the 2 of two's complement and powers: English has words for these."""
    found = Counter(_NUMERAL.findall(_WORDS.sub("", text)))
    del found["0"]
    return found


def _slug(title: str, seen: set[str]) -> str:
    """Return the anchor that Python-Markdown gives a heading."""
    plain = re.sub(r"[^\w\s-]", "", title.encode("ascii", "ignore").decode()).strip().lower()
    base = slug = re.sub(r"[-\s]+", "-", plain)
    count = 0
    while slug in seen:
        count += 1
        slug = f"{base}_{count}"
    seen.add(slug)
    return slug


def _without_comments(info: str, code: str) -> str:
    language = info.split(maxsplit=1)[0] if info.strip() else "text"
    pattern = _COMMENTS.get(language, _HASH_COMMENT)
    plain = code if pattern is None else pattern.sub("", code)
    return f"{info}\n" + "\n".join(line.rstrip() for line in plain.splitlines())


def _target(link: str, page: str, translated: set[str]) -> str:
    """Return where a link leads: the path of the English page, with the anchor."""
    if re.match(r"[a-z]+:", link):
        return link
    path, _, anchor = link.partition("#")
    if not path:
        return f"#{anchor}"
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
    if target.startswith(f"{FOLDER}/"):
        target = target.replace(FOLDER, "docs", 1)
    elif page.startswith((f"{FOLDER}/", README)):
        # From site/ko/ a page that is in English only is reached by its built name.
        target = re.sub(r"^(?!docs/)(\S+)\.html$", r"docs/\1.md", target)
        target = "README.md" if target == README else target
        if target in translated:
            target += " (has a Korean page)"
    return f"{target}#{anchor}"
