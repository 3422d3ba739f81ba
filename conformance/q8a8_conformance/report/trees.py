"""A tree of additions as SVG: terms on the left, from top to bottom, sums to the right of what they add."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8.order import Additions

ROW, STEP, LEFT, TOP = 16, 14, 46, 14
"""Pixels between terms, between a sum and the next, before the terms' lines begin, and above them."""

WIDEST = 1000
"""Pixels; where there are more additions one after the other, they are closer together."""


def tree_svg(
    terms: int, additions: Additions, title: str, label: Callable[[int], str] = str, *, alone: bool = False
) -> str:
    """Draw a tree.

    Parameters
    ----------
    terms, additions
        The tree, of one term at least.
    title
        For readers that do not see it.
    label
        Returns a term's label.
    alone
        Whether it is a file of its own, which has no style of a page.
    """
    children = dict(enumerate(additions, start=terms))
    root = terms + len(additions) - 1
    places = {term: TOP + ROW * row for row, term in enumerate(_leaves(root, terms, children))}
    deep = [0] * terms
    for left, right in additions:
        deep.append(1 + max(deep[left], deep[right]))
    step = min(STEP, (WIDEST - 2 * LEFT) / max(deep[root], 1))
    y: list[float] = [places[term] for term in range(terms)]
    for left, right in additions:
        y.append((y[left] + y[right]) / 2)

    def x(number: int) -> float:
        return LEFT + step * deep[number]

    width, height = LEFT + step * deep[root] + 2 * STEP, TOP + ROW * terms
    lines = [
        f"M{x(child):.1f} {y[child]:.1f}H{x(number):.1f}V{y[number]:.1f}"
        for number, pair in children.items()
        for child in pair
    ]
    lines.append(f"M{x(root):.1f} {y[root]:.1f}h{STEP}")
    labels = [
        f'<text x="{LEFT - 6}" y="{y[term] + 4:.1f}" text-anchor="end">{escape(label(term))}</text>'
        for term in range(terms)
    ]
    dots = [f'<circle cx="{x(n):.1f}" cy="{y[n]:.1f}" r="2"/>' for n in children]
    size = f'viewBox="0 0 {width:.0f} {height:.0f}"'
    if alone:
        size += f' xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
    style = (
        "<style>svg{background:#fff}text{font:11px sans-serif;fill:#1f2328}path{stroke:#59636e;fill:none}"
        "circle{fill:#0969da}</style>"
        if alone
        else ""
    )
    return (
        f'<svg class="tree" {size} style="max-width:{width:.0f}px" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{style}"
        f'<path d="{"".join(lines)}"/>{"".join(dots)}{"".join(labels)}</svg>'
    )


def nested_svg(tree: Any, title: str) -> str:  # noqa: ANN401 (arrays in arrays)
    """Draw a tree of nested arrays of block numbers, 0 to n - 1."""
    additions: list[tuple[int, int]] = []

    def count(part: Any) -> int:  # noqa: ANN401 (arrays in arrays)
        return 1 if isinstance(part, int) else sum(count(inner) for inner in part)

    def number(part: Any) -> int:  # noqa: ANN401 (arrays in arrays)
        if isinstance(part, int):
            return part
        left, right = part
        additions.append((number(left), number(right)))
        return terms + len(additions) - 1

    terms = count(tree)
    number(tree)
    return tree_svg(terms, tuple(additions), title, lambda term: f"b{term}")


def _leaves(root: int, terms: int, children: dict[int, tuple[int, int]]) -> list[int]:
    """Return the terms from top to bottom: of two parts, the one with the first term above."""
    least = list(range(terms))
    for left, right in children.values():
        least.append(min(least[left], least[right]))
    found, open_ = [], [root]
    while open_:
        number = open_.pop()
        if number < terms:
            found.append(number)
        else:
            open_ += sorted(children[number], key=lambda child: -least[child])
    return found
