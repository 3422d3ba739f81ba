"""Dot products that no order can round, at the extremes: -128, the largest sums, every kind of scale."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

from q8a8_golden.generate.draft import Draft, dot, rules
from q8a8_golden.generate.numbers import block, half

__all__ = ["TOPIC", "drafts"]

TOPIC: Final = "dot/values"

_ONE: Final = half(1)
_ABOUT: Final = rules("DOT-1")


def drafts() -> list[Draft]:
    """Give rows of one value, sums that are too large for some, scales of every kind, and the empty row."""
    return [
        *_full(),
        *_minus_128_in_each_lane(),
        *_sums(),
        *_scales(),
        *_scale_products(),
        *_empty(),
        *_held(),
    ]


def _full() -> list[Draft]:
    made = []
    for name, (x, y, why) in {
        "minus-128-by-minus-128": (
            -128,
            -128,
            "Negating -128 in int8 gives -128 again: |x| times y's sign is wrong",
        ),
        "minus-128-by-127": (
            -128,
            127,
            "The most negative sum of a block: two products already fill an int16",
        ),
        "127-by-minus-128": (
            127,
            -128,
            "The same with x and y exchanged: only one of the two may be handled as unsigned",
        ),
        "minus-1-by-minus-128": (
            -1,
            -128,
            "-(-128) is 128, which no int8 holds: sign(y, x) gives -128",
        ),
        "minus-128-by-1": (-128, 1, "|-128| read back as an int8 is -128 again"),
        "127-by-127": (127, 127, "Three products overflow an int16 accumulator"),
        "127-by-minus-127": (127, -127, "The same with a negative sum"),
    }.items():
        vx, vy = block(_ONE, [x] * 32), block(_ONE, [y] * 32)
        made += [dot(f"{TOPIC}/{name}-{nb}", f"{why}.", _ABOUT, vx * nb, vy * nb) for nb in (1, 2, 5)]
    return made


def _minus_128_in_each_lane() -> list[Draft]:
    """Put -128 into one lane of x, of y, of both, among ordinary codes of both signs."""
    made = []
    for lane in range(32):
        x = [(-1) ** j * (3 + j) for j in range(32)]
        y = [(-1) ** (j // 2) * (97 - 2 * j) for j in range(32)]
        for name in ("x", "y", "both"):
            codes_x = [-128 if j == lane and name != "y" else q for j, q in enumerate(x)]
            codes_y = [-128 if j == lane and name != "x" else q for j, q in enumerate(y)]
            if name == "y":
                codes_x[lane] = -abs(codes_x[lane])
            why = "-128 in one lane only: a vector that negates, or takes |x|, in int8 is wrong just there."
            made.append(
                dot(
                    f"{TOPIC}/minus-128-in-{name}-lane-{lane}",
                    why,
                    _ABOUT,
                    block(_ONE, codes_x),
                    block(_ONE, codes_y),
                )
            )
    return made


def _sums() -> list[Draft]:
    made = []
    for name, total in {
        "2-to-15": 1 << 15,
        "2-to-15-minus-1": (1 << 15) - 1,
        "minus-2-to-15-minus-1": -(1 << 15) - 1,
        "2-to-16": 1 << 16,
        "2-to-16-plus-1": (1 << 16) + 1,
        "2049": 2049,
        "65505": 65505,
        "2-to-18-plus-1": (1 << 18) + 1,
    }.items():
        x, y = _factors(total)
        why = f"The block's sum is {total}: an int16 overflows, an f16 rounds or overflows, f32 holds it."
        made.append(dot(f"{TOPIC}/sum-{name}", why, _ABOUT, block(_ONE, x), block(_ONE, y)))
    for nb in (9, 40):
        vx, vy = block(_ONE, [64] * 32) * nb, block(_ONE, [64] * 31 + [1]) * nb
        why = "The running sum passes 65504 in odd steps: an f16 accumulator overflows, a bf16 one rounds."
        made.append(dot(f"{TOPIC}/running-sum-{nb}-blocks", why, rules("DOT-4"), vx, vy))
    zero = [block(_ONE, [5 * (-1) ** j for j in range(32)]), block(_ONE, [9] * 32)]
    why = "The codes cancel to zero within the block: the result is +0, with nothing left in any lane."
    made.append(dot(f"{TOPIC}/sum-zero", why, _ABOUT, *zero))
    return made


def _factors(total: int) -> tuple[list[int], list[int]]:
    """Give codes whose products add up to a total: 127 * 127 as often as it goes, then what is left."""
    size = abs(total)
    many, rest = divmod(size, 127 * 127)
    tens, ones = divmod(rest, 127)
    x = [127] * many + [tens, ones]
    y = [127] * many + [127, 1]
    sign = -1 if total < 0 else 1
    spare = [0] * (32 - len(x))
    return [sign * q for q in x] + spare, y + spare


def _scales() -> list[Draft]:
    codes_x, codes_y = [j - 9 for j in range(32)], [2 * j - 17 for j in range(32)]
    made = []
    for name, about, dx, dy, why in (
        (
            "both-negative",
            ("DOT-8",),
            0xBC00,
            0xC000,
            "Both scales are negative: a kernel that takes them for unsigned is wrong",
        ),
        (
            "one-negative",
            ("DOT-8",),
            0x3C00,
            0xC400,
            "One scale is negative, as in a block that no quantizer of ours writes",
        ),
        (
            "smallest-by-smallest",
            ("DOT-8", "HLF-2"),
            0x0001,
            0x0001,
            "The product is 2^-48: a flushed f16 subnormal, or an f16 product, is 0",
        ),
        (
            "smallest-by-largest-power",
            ("DOT-8", "HLF-2"),
            0x0001,
            0x7800,
            "2^-24 times 2^15: a flushed f16 subnormal gives 0",
        ),
        (
            "subnormal-negative",
            ("DOT-8", "HLF-2"),
            0x8004,
            0x3800,
            "A negative subnormal half times one half",
        ),
        (
            "largest-powers",
            ("DOT-2",),
            0x7800,
            0x7800,
            "The product is 2^30, beyond every half: formed in f16 it is infinite",
        ),
        (
            "underflow-in-half",
            ("DOT-2",),
            0x0400,
            0x0400,
            "The product is 2^-28, below every half: formed in f16 it is zero",
        ),
        ("smallest-normal", ("DOT-8",), 0x0400, 0x3C00, "The scale is the smallest normal half"),
    ):
        vx, vy = block(dx, codes_x), block(dy, codes_y)
        made.append(dot(f"{TOPIC}/scale-{name}", f"{why}.", rules(*about), vx, vy))
    zeros = {"plus-zero": 0x0000, "minus-zero": 0x8000}
    for name, zero in zeros.items():
        vx = block(_ONE, codes_x) + block(zero, [127] * 32) + block(_ONE, codes_y)
        vy = block(_ONE, codes_y) + block(_ONE, [-127] * 32) + block(zero, codes_x)
        why = "Blocks with a zero scale add nothing: a kernel that divides the scale out again gives a NaN."
        made.append(dot(f"{TOPIC}/scale-{name}-among-others", why, rules("DOT-8"), vx, vy))
    for name, zero in zeros.items():
        for side in "xy":
            first = block(zero, codes_x), block(_ONE, codes_y)
            then = block(_ONE, codes_x), block(_ONE, [q + 3 for q in codes_y])
            vx = (first[0] if side == "x" else first[1]) + then[0] * 2
            vy = (first[1] if side == "x" else first[0]) + then[1] * 2
            why = "A block with a zero scale comes first: taken for the end of the row, it ends the sum at 0."
            made.append(dot(f"{TOPIC}/scale-{name}-first-in-{side}", why, rules("DOT-8"), vx, vy))
    # With no other block the sign of the zero depends on whether a sum starts from +0 or from its first term.
    for name, dx, dy in (("one", 0x8000, 0x3C00), ("both", 0x8000, 0x8000)):
        why = "All scales are zero, some negative: the sum starts from +0 and ends so."
        vx, vy = block(dx, [7] * 32) * 3, block(dy, [5] * 32) * 3
        kind: Literal["bound", "exact"] = "bound" if dx ^ dy else "exact"
        made.append(dot(f"{TOPIC}/scale-minus-zero-in-{name}", why, rules("DOT-8"), vx, vy, kind=kind))
    return made


def _scale_products() -> list[Draft]:
    """Products of scales with more bits than an f16 has, times so small a sum that f32 holds the result."""
    about = rules("DOT-2")
    made = []
    for name, dx, dy in (
        ("long-by-long", 0x3C01, 0x3C01),
        ("longest-by-longest", 0x3FFF, 0x3FFF),
        ("thirds", 0x3555, 0x3555),
        ("long-by-small", 0x3C03, 0x1403),
        ("beyond-half", 0x7BFF, 0x7BFF),
        ("below-half", 0x07FF, 0x0401),
    ):
        for total in (1, 3):
            vx, vy = block(dx, [total, *[0] * 31]), block(dy, [1] * 32)
            why = "dx * dy has up to 22 bits, which f32 holds: rounded to f16 it is another number."
            made.append(dot(f"{TOPIC}/product-{name}-by-{total}", why, about, vx, vy))
    why = "Five blocks with products that a half rounds: the error adds up, block by block."
    made.append(
        dot(
            f"{TOPIC}/product-many-blocks",
            why,
            about,
            block(0x3C07, [1, *[0] * 31]) * 5,
            block(0x3C05, [1] * 32) * 5,
        )
    )
    return made


def _empty() -> list[Draft]:
    why = "With n = 0 the result is +0, written over what s held: nothing is read and nothing is added."
    return [dot(f"{TOPIC}/no-elements", why, rules("DOT-5", "DOT-7"), b"", b"")]


def _held() -> list[Draft]:
    """Let s hold a number before the call: poison, a NaN, would hide who adds to finite numbers only."""
    codes = [3 * j + 1 for j in range(32)]
    made = []
    for name, held, nb in (("one", 0x3F800000, 1), ("minus-five", 0xC0A00000, 2), ("large", 0x4B000000, 4)):
        why = "s holds a number before the call: what is added to it, and not written over it, shows."
        row = block(_ONE, codes) * nb
        draft = dot(f"{TOPIC}/held-{name}", why, rules("DOT-7"), row, block(_ONE, [2] * 32) * nb)
        made.append(replace(draft, before={"s": held.to_bytes(4, "little")}))
    draft = dot(f"{TOPIC}/held-no-elements", made[0].why, rules("DOT-5", "DOT-7"), b"", b"")
    return [*made, replace(draft, before={"s": bytes.fromhex("0000c03f")})]
