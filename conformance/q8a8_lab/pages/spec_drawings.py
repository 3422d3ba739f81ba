"""Draw the pictures of the specification, whose words are the same in both languages."""

from __future__ import annotations

from q8a8.order import ORDERS
from q8a8_lab.pages.svg import arrow, box, card, cards, text

LANE_MAPS = {"whole": "scalar", "quads": "neon-dotprod", "pairs": "neon", "octets": "avx2"}
"""An order that uses each map of bytes to lanes."""


def row() -> str:
    """Return the bytes of a row: one block after the other, without a gap."""
    parts = []
    for i, (byte, elements) in enumerate((("0", "x[0]…x[31]"), ("34", "x[32]…x[63]"), ("68", "x[64]…x[95]"))):
        x = 10 + i * 94
        parts += [
            text(x + 9, 49, byte, "dim middle"),
            box(x, 56, 94, f"block {i}", "value"),
            box(x, 82, 94, elements, "value"),
        ]
    parts += [
        box(292, 56, 38, "…", "value"),
        box(292, 82, 38, "…", "value"),
        text(311, 49, "34·nb", "dim middle"),
    ]
    return cards(card("k = 32·nb", 122, *parts))


def block_v2() -> str:
    """Return the bytes of a version 2 block."""
    scales = ((10, "weight_scale", ("0", "1")), (108, "activation_scale", ("2", "3")))
    parts = []
    for x, name, places in scales:
        parts.append(box(x, 56, 98, name[:-6], "scale"))
        parts += [text(x + 25 + 48 * i, 49, place, "dim middle") for i, place in enumerate(places)]
    for i, (byte, content) in enumerate((("4", "q0"), ("5", "q1"), ("", "…"), ("35", "q31"))):
        x = 206 + i * 31
        parts += [text(x + 15, 49, byte, "dim middle"), box(x, 56, 31, content, "value")]
    parts += [text(108, 100, "binary16, binary16", "dim middle"), text(268, 100, "weight_qs", "dim middle")]
    return cards(card("block_q8_a8_v2: 36 B", 114, *parts))


def order() -> str:
    """Return the way from a block's bytes to a total (ORD-1)."""
    parts = [text(12, 49, "block b", "dim")]
    for y, name, last, style in ((34, "q", "31", "value"), (92, "s", "L-1", ""), (150, "r", "L-1", "scale")):
        cells = (f"{name}[0]", f"{name}[1]", "…", f"{name}[{last}]")
        parts += [box(70 + i * 50, y, 50, words, style) for i, words in enumerate(cells)]
    parts += [
        *(arrow(x, 60, to, 90) for x, to in ((95, 95), (145, 95), (195, 245), (245, 245))),
        text(280, 109, "lanes", "code"),
        *(arrow(x, 118, x, 148) for x in (95, 145, 245)),
        text(202, 139, "· d", "code"),
        text(280, 167, "body", "code"),
        *(arrow(x, 176, to, 206) for x, to in ((95, 150), (145, 165), (245, 190))),
        box(120, 208, 100, "fold"),
        arrow(170, 234, 170, 264),
        box(120, 266, 100, "+ tail", "value"),
        text(240, 284, "total", "code"),
    ]
    return cards(card("lanes · body · fold · tail", 304, *parts))


def lane_maps() -> str:
    """Return which lane sums each byte of a block, bytes 0 to 15 above 16 to 31."""
    parts = []
    for i, (name, order_) in enumerate(LANE_MAPS.items()):
        lanes, y = ORDERS[order_].lanes, 54 + 66 * i
        parts.append(text(12, y - 8, f"{name}: L = {len(lanes)}", "code"))
        of_byte = {byte: lane for lane, own in enumerate(lanes) for byte in own}
        for byte, lane in sorted(of_byte.items()):
            x, line = 10 + 20 * (byte % 16), y + 20 * (byte // 16)
            style = "scale" if lane % 2 else "value"
            parts.append(f'<rect x="{x}" y="{line}" width="20" height="20" class="{style}"/>')
            parts.append(text(x + 10, line + 15, str(lane), "code middle"))
    return cards(card("q[0] … q[15], q[16] … q[31]", 46 + 66 * len(LANE_MAPS), *parts))


def matrix_product() -> str:
    """Return the way from activations and weights to outputs (MUL-1, MUL-2)."""
    parts = (
        box(12, 40, 150, "X [n, k] f32"),
        arrow(87, 66, 87, 100),
        text(96, 88, "quantize_row", "code"),
        box(12, 102, 150, "[n, k/32] blocks", "value"),
        box(178, 102, 150, "W [m, k/32] blocks", "scale"),
        arrow(87, 128, 140, 162),
        arrow(253, 128, 200, 162),
        box(120, 164, 100, "vec_dot"),
        arrow(170, 190, 170, 220),
        box(90, 222, 160, "out [n, m] f32"),
        text(170, 270, "out[i, j] = W[j] · X[i]", "code middle"),
    )
    return cards(card("mul_mat", 284, *parts))


def matrix_memory() -> str:
    """Return where the rows of a matrix product lie (MUL-6)."""
    rows = [text(12, 45, "w: m · k/32 · 34 bytes", "dim"), text(12, 105, "x: n · k floats", "dim")]
    for y, name, style in ((52, "w", "scale"), (112, "x", "value")):
        for i, (cell, last) in enumerate(
            (("0", ""), ("1", ""), ("…", ""), ("", "m-1" if name == "w" else "n-1"))
        ):
            words = cell if cell == "…" else f"{name}_{cell or last}"
            rows.append(box(12 + 78 * i, y, 78, words, style))
    rows.append(text(12, 165, "out: n · m floats", "dim"))
    for i, (at, x) in enumerate((("0", "x_0"), ("m", "x_1"))):
        rows += [text(12, 190 + 32 * i, f"[{at}]", "code")]
        rows += [box(50 + 68 * j, 172 + 32 * i, 68, f"{x}·w_{j}") for j in range(2)]
        rows += [box(186, 172 + 32 * i, 40, "…"), box(226, 172 + 32 * i, 102, f"{x}·w_m-1")]
    rows.append(text(170, 258, "out[i · m + j] = x_i · w_j", "code middle"))
    return cards(card("mul_mat_q8_a8", 274, *rows))


def two_rows() -> str:
    """Return where two rows of each factor and the four results lie (DOT-6)."""
    parts = []
    for x, name, style in ((12, "x", "scale"), (124, "y", "value")):
        parts += [
            text(x, 49, f"v{name}", "code"),
            box(x, 56, 100, f"{name}0, nb", style),
            arrow(x + 50, 84, x + 50, 116),
            text(x + 58, 104, f"b{name}", "code"),
            box(x, 118, 100, f"{name}1, nb", style),
        ]
    parts.append(text(236, 49, "s, floats", "code"))
    for y, places, results in (
        (56, ("s[0]", "s[1]"), ("x0·y0", "x1·y0")),
        (118, ("s[bs]", "s[bs+1]"), ("x0·y1", "x1·y1")),
    ):
        for x, place, result in zip((236, 284), places, results, strict=True):
            parts += [box(x, y, 48, result), text(x + 24, y + 42, place, "dim middle")]
    return cards(card("nrc = 2", 172, *parts))


def guard() -> str:
    """Return how a buffer lies before an inaccessible page, with known bytes around it."""
    cells = ("A5", "A5", "A5", "x0", "x1", "x2", "…")
    parts = [
        box(10 + 26 * i, 52, 26, words, "zero" if words == "A5" else "value") for i, words in enumerate(cells)
    ]
    parts += [
        box(192, 52, 58, "x[n-1]", "value"),
        '<rect x="250" y="40" width="82" height="50" class="bad"/>',
        text(291, 70, "PROT_NONE", "code middle differs"),
        text(49, 45, "canary", "dim middle"),
        text(169, 45, "n bytes", "dim middle"),
    ]
    return cards(card("mprotect", 104, *parts))


DRAWINGS = {
    "row": row,
    "block-v2": block_v2,
    "order": order,
    "lane-maps": lane_maps,
    "matrix-product": matrix_product,
    "matrix-memory": matrix_memory,
    "two-rows": two_rows,
    "guard": guard,
}
"""Drawings, by name."""
