"""Matrix products that no order rounds: shapes and their tiles, activations, and what outputs held."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from q8a8_golden.generate.draft import Draft, mul_mat, rules
from q8a8_golden.generate.numbers import block, f32, half, near, power
from q8a8_golden.generate.words import blocks, rows

__all__ = ["TOPIC", "drafts"]

TOPIC: Final = "mul-mat/exact"

_ONE: Final = half(1)


def drafts() -> list[Draft]:
    """Build shapes about tiles of eight, numbers of blocks, rounded activations, and old outputs."""
    return [*_shapes(), *_lengths(), *_activations(), *_sums(), *_outputs()]


def _row_of_w(j: int, nb: int) -> bytes:
    """Return a row of w: few codes that differ by row, under scales that differ by block."""
    row = b""
    for b in range(nb):
        codes = [0] * 32
        codes[(j + b) % 32], codes[(5 * j + 7) % 32] = j % 63 + 1, -(j % 31) - 2
        row += block(half(power((j + b) % 3 - 1)), codes)
    return row


def _row_of_x(i: int, nb: int) -> list[int]:
    """Return a row of x that quantization leaves as it is: in each block 127 and other codes, times 2^e."""
    row = []
    for b in range(nb):
        codes = [(11 * i + 3 * j + b) % 255 - 127 for j in range(32)]
        codes[(i + 9 * b) % 32] = 127
        row += [f32(code * power((i + b) % 3 - 1)) for code in codes]
    return row


def _shape(name: str, why: str, about: str, m: int, n: int, nb: int) -> Draft:
    ws, xs = [_row_of_w(j, nb) for j in range(m)], [_row_of_x(i, nb) for i in range(n)]
    return mul_mat(f"{TOPIC}/{name}", why, rules(about), ws, xs, k=32 * nb)


def _shapes() -> list[Draft]:
    """Build shapes on either side of a tile's edges."""
    return [
        _shape(
            f"shape-{m}-by-{n}",
            f"{rows(m)} of w by {n} of x: a tile's lost edge, or outputs that change places, shows.",
            "MUL-6",
            m,
            n,
            1,
        )
        for m, n in (
            *(
                (1, 1),
                (1, 2),
                (2, 1),
                (2, 3),
                (3, 2),
                (7, 9),
                (8, 8),
                (9, 7),
                (9, 9),
                (1, 9),
                (9, 1),
                (10, 12),
            ),
            *((15, 17), (17, 15), (5, 16), (16, 5), (33, 2), (2, 33)),
        )
    ]


def _lengths() -> list[Draft]:
    """Build numbers of blocks on either side of a step of the loop."""
    return [
        _shape(
            f"blocks-{nb}",
            f"{blocks(nb)}: one that is left out, or counted twice, shows.",
            "MUL-5",
            2,
            2,
            nb,
        )
        for nb in (2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17)
    ]


def _activations() -> list[Draft]:
    """Build activations that quantization changes: weights of a single 1 give them back."""
    identity = [block(_ONE, [int(j == e) for j in range(32)]) for e in range(32)]
    ties = [f32(127), *(f32(Fraction(2 * j + 1, 2) * (-1) ** j) for j in range(31))]
    beside = [f32(127), *(near(Fraction(2 * j + 1, 2)) + (-1) ** j for j in range(1, 32))]
    others = [f32(-127), *(near(Fraction(40 * j + 3, 10)) for j in range(31))]
    made = [
        mul_mat(
            f"{TOPIC}/activations-{name}",
            f"{why}: a float that is kept, or another rounding, shows.",
            rules("MUL-4"),
            identity,
            [xs, xs[::-1]],
            k=32,
        )
        for name, xs, why in (
            ("ties", ties, "Halves between two codes"),
            ("beside-ties", beside, "Floats beside the halves between two codes"),
            ("rounded", others, "Elements between two codes"),
        )
    ]
    two = [one + block(_ONE, [0] * 32) for one in identity[:8]]
    small = [f32(Fraction(code, 8)) for code in (127, *range(31))]
    large = [f32(4 * code) for code in (127, *range(31))]
    for name, xs in (("large-after", small + large), ("large-before", large + small)):
        both = two if name == "large-after" else [block(_ONE, [0] * 32) + one for one in identity[:8]]
        made.append(
            mul_mat(
                f"{TOPIC}/activations-{name}",
                "Blocks of two sizes: one scale for a row of x shows.",
                rules("MUL-4"),
                both,
                [xs, xs],
                k=64,
            )
        )
    return made


def _sums() -> list[Draft]:
    """Build sums and scales that a half does not hold."""
    full = [f32(code) for code in (127, *(100 + j % 28 for j in range(31)))]
    wide = [f32(code * power(14)) for code in (127, *range(31))]
    return [
        mul_mat(
            f"{TOPIC}/sum-past-half",
            "A sum of 19 bits, past 65504: half precision loses its last bits, or the number.",
            rules("MUL-5"),
            [block(_ONE, [127 - j for j in range(32)]), block(_ONE, [(-1) ** j * 101 for j in range(32)])],
            [full, full[::-1]],
            k=32,
        ),
        mul_mat(
            f"{TOPIC}/scales-past-half",
            "The product of the scales is 2^28 and 2^-2: no half holds the first.",
            rules("MUL-5"),
            [block(half(power(14)), [1] * 32), block(half(power(-16)), [3] * 32)],
            [wide],
            k=32,
        ),
    ]


def _outputs() -> list[Draft]:
    """Build outputs that hold numbers before the call, and products without elements."""
    made = []
    for m, n in ((1, 1), (3, 2), (9, 9)):
        ws, xs = [_row_of_w(j, 1) for j in range(m)], [_row_of_x(i, 1) for i in range(n)]
        ones = f32(1).to_bytes(4, "little")
        made.append(
            mul_mat(
                f"{TOPIC}/over-ones-{m}-by-{n}",
                "The outputs hold ones: a result that is added to them shows.",
                rules("MUL-7"),
                ws,
                xs,
                k=32,
                before=ones,
            )
        )
        made.append(
            mul_mat(
                f"{TOPIC}/empty-{m}-by-{n}",
                "k is 0 and the outputs hold ones: a product that returns early leaves them.",
                rules("MUL-7"),
                [b""] * m,
                [[]] * n,
                k=0,
                before=ones,
            )
        )
    return made
