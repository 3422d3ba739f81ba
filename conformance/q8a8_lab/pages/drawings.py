"""Draw the pictures of home page, block and three methods, and write them with those of the specification."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import q8a8
from q8a8_conformance.spec.rules import load_rules
from q8a8_lab.pages import spec_drawings
from q8a8_lab.pages.svg import arrow, box, card, cards, text

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = "python -m q8a8_lab.pages.drawings --write docs/assets"
TIE = 2.5
"""An element times the inverse, between two integers: `roundf` and `rintf` differ."""


@dataclass(frozen=True)
class Words:
    """The words of the drawings in one language."""

    kernel: str
    verdict: str
    bits: str
    failed: str
    fact: str
    fix: str
    expected: str
    got: str
    block: str
    scale: str
    codes: str


WORDS = {
    "": Words(
        kernel="Two lines of a kernel",
        verdict="The verdict, and the fact behind it",
        bits="The bits",
        failed="does not conform: {rule}",
        fact="Halves are rounded to the even integer.",
        fix="Use roundf or vcvtaq_s32_f32.",
        expected="expected",
        got="got",
        block="32 numbers in 34 bytes: x_j ≈ scale · q_j",
        scale="scale, binary16",
        codes="32 signed bytes",
    ),
    ".ko": Words(
        kernel="커널의 두 줄",
        verdict="판정과 그 근거",
        bits="비트",
        failed="부적합: {rule}",
        fact="반은 짝수로 반올림된다.",
        fix="roundf나 vcvtaq_s32_f32를 쓴다.",
        expected="기대값",
        got="결과",
        block="34바이트에 담긴 수 32개: x_j ≈ scale · q_j",
        scale="스케일, binary16",
        codes="부호 있는 바이트 32개",
    ),
}


def codes() -> tuple[int, int]:
    """Return what the reference and `rintf` make of the tie."""
    x = np.zeros(32, np.float32)
    x[:2] = 127, TIE  # the inverse is 1
    return int(q8a8.quantize_row(x)["weight_qs"][0, 1]), int(np.rint(np.float32(TIE)))


def bits(words: Words) -> Iterator[str]:
    """Yield the bits of the code, expected and got; those that differ stand out."""
    want, got = codes()
    yield text(12, 48, f"x[j] * inverse = {TIE}", "code")
    for y, name, value in ((76, words.expected, want), (108, words.got, got)):
        yield text(12, y, f"{name}  {value}", "")
        for place in range(8):
            shift = 7 - place
            style = "bit differs" if (want ^ got) >> shift & 1 and value == got else "bit"
            x = 120 + place * 26
            yield f'<rect x="{x}" y="{y - 18}" width="24" height="24" class="{style}"/>'
            yield text(x + 12, y - 1, str(value >> shift & 1), f"code middle {style.removeprefix('bit')}")


def home(words: Words) -> str:
    """Return the home page's picture: a kernel's lines, the verdict with the fact, the bits."""
    rule = next(rule for rule in load_rules() if rule.id == "Q8A8-QNT-4")
    verdict = (
        '<rect x="1" y="26" width="6" height="99" class="bad"/>',
        text(18, 52, words.failed.format(rule=rule.id), "strong wrong"),
        text(18, 80, words.fact),
        text(18, 106, words.fix, "dim"),
    )
    kernel = (
        text(12, 64, "float v = x[j] * inverse;", "code"),
        text(12, 92, "block->qs[j] = (int8_t)rintf(v);", "code"),
    )
    cards = (
        card(words.kernel, 126, *kernel),
        card(words.verdict, 126, *verdict),
        card(words.bits, 126, *bits(words)),
    )
    return f'<div class="cards">{"".join(cards)}</div>\n'


def block(words: Words) -> str:
    """Return the bytes of a block."""
    cells = (("0", "low"), ("1", "high"), ("2", "q0"), ("3", "q1"), ("", "…"), ("33", "q31"))
    parts = []
    for i, (byte, content) in enumerate(cells):
        x = 10 + i * 54
        style = "scale" if i < 2 else "value"
        parts.append(f'<rect x="{x}" y="56" width="50" height="32" class="{style}"/>')
        parts += [text(x + 25, 49, byte, "dim middle"), text(x + 25, 77, content, "code middle")]
    parts += [text(62, 108, words.scale, "dim middle"), text(224, 108, words.codes, "dim middle")]
    return cards(card(words.block, 122, *parts))


def folding() -> str:
    """Return where SmoothQuant's factors go: into the norm before operators, and into W_up before W_down."""
    norm = (
        text(170, 46, "x · rsqrt(mean x² + ε)", "code middle"),
        arrow(170, 52, 170, 66),
        box(90, 68, 160, "· g / s", "scale"),
        text(256, 86, "the norm's", "dim"),
        text(256, 102, "weight", "dim"),
        *(arrow(170, 94, x, 122) for x in (62, 170, 278)),
        *(box(x, 124, 92, f"W_{name} · s", "scale") for x, name in ((16, "q"), (124, "k"), (232, "v"))),
        text(170, 170, "columns; the same for W_gate and W_up", "dim middle"),
    )
    product = (
        box(12, 40, 140, "silu(W_gate · m)"),
        text(170, 58, "·", "code middle"),
        box(188, 40, 140, "(W_up / s) · m", "scale"),
        text(258, 84, "rows", "dim middle"),
        arrow(82, 66, 166, 122),
        arrow(258, 90, 174, 122),
        box(115, 124, 110, "W_down · s", "scale"),
        text(170, 170, "columns", "dim middle"),
    )
    cards = card("Into the norm before", 184, *norm), card("Into the rows before, --fold-down", 184, *product)
    return f'<div class="cards">{"".join(cards)}</div>\n'


def outlier_columns() -> str:
    """Return how LLM.int8() splits X: columns with a large element are 0 in one product, alone in another."""
    columns, large, size = 10, (3, 7), 18
    parts = [text(12, 50, "X, int8", "dim"), text(236, 50, "O, float16", "dim")]
    for row in range(3):
        y = 60 + 24 * row
        for column in range(columns):
            style = "zero" if column in large else "value"
            parts.append(
                f'<rect x="{12 + column * size}" y="{y}" width="{size}" height="24" class="{style}"/>'
            )
            if column in large:
                parts.append(text(12 + (column + 0.5) * size, y + 17, "0", "code middle"))
        parts += [
            f'<rect x="{236 + i * size}" y="{y}" width="{size}" height="24" class="scale"/>'
            for i in range(len(large))
        ]
    parts += [
        text(211, 102, "+", "strong middle"),
        text(12, 156, "O: an element of 6 or more, in any row.", "dim"),
        text(12, 176, "0 in the int8 product, then added in float16.", "dim"),
    ]
    return cards(card("The columns of X", 190, *parts))


def groups() -> str:
    """Return how a row of int4 codes is stored: g codes share a scale and a zero point."""
    cells = ((12, 76, "g codes", "0"), (88, 76, "g codes", "1"), (164, 52, "…", ""), (216, 76, "rest", "l"))
    parts = []
    for y, name, letter, style in (
        (56, "codes, two in a byte", "", "value"),
        (116, "scales, binary16", "s", "scale"),
        (176, "zero points, two in a byte", "z", ""),
    ):
        parts.append(text(12, y - 7, name, "dim"))
        for x, width, codes_, index in cells:
            words = codes_ if not letter or not index else f"{letter}{index}"
            parts.append(box(x, y, width, words, style))
    return cards(card("A row of k weights in ⌈k/g⌉ groups", 216, *parts))


DRAWINGS = {
    **spec_drawings.DRAWINGS,
    "folding": folding,
    "outlier-columns": outlier_columns,
    "int4-groups": groups,
}
"""Drawings whose words are the same in both languages, by name."""


def main(arguments: list[str] | None = None) -> None:
    """Write the drawings."""
    parser = argparse.ArgumentParser(prog="python -m q8a8_lab.pages.drawings", description=__doc__)
    parser.add_argument("--write", type=Path, required=True, metavar="FOLDER")
    folder = parser.parse_args(arguments).write
    for suffix, words in WORDS.items():
        (folder / f"home{suffix}.svg").write_text(home(words), encoding="utf-8")
        (folder / f"block{suffix}.svg").write_text(block(words), encoding="utf-8")
    for name, draw in DRAWINGS.items():
        (folder / f"{name}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
