"""Tables on the pages agree with the reference's data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import q8a8

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from q8a8.order import Lanes, Order


def rows_of(page: str, head: str) -> list[list[str]]:
    """Return the cells of the table with this head line, without the head."""
    _, found, rest = page.partition(f"{head}\n")
    assert found, f"no table with the head {head}"
    lines = rest.splitlines()[1:]
    body = lines[: next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


def table(head: str, rows: Iterable[Iterable[str]]) -> str:
    """Return a table as Markdown."""
    dashes = "| " + " | ".join("---" for _ in head.strip("|").split("|")) + " |"
    return "\n".join([head, dashes, *(f"| {' | '.join(row)} |" for row in rows)])


def lane_maps(drawing: str) -> dict[str, Lanes]:
    """Parse the drawing of the lanes: a name, and the lane of each of 32 bytes."""
    found = {}
    for name, lanes, cells in re.findall(r">(\w+): L = (\d+)<(.*?)(?=>\w+: L =|$)", drawing, re.DOTALL):
        owners = [int(lane) for lane in re.findall(r'class="code middle">(\d+)<', cells)]
        assert (len(owners), max(owners) + 1) == (32, int(lanes))
        found[name] = tuple(
            tuple(byte for byte, owner in enumerate(owners) if owner == lane) for lane in range(int(lanes))
        )
    return found


def order_row(order: Order, names: dict[Lanes, str]) -> list[str]:
    """Return an order's row of the catalogue."""
    fused = " / ".join("fused" if flag else "no" for flag in (order.fused, order.tail_fused))
    if order.tail == "body" or len(order.body) == 1:
        fused = fused.partition(" / ")[0]  # there are no remaining blocks
    return [
        f"`{order.name}`",
        names[tuple(tuple(sorted(lane)) for lane in order.lanes)],
        str(order.accumulators),
        fused,
        str(order.nrc),
        order.source,
    ]


ORDERS_HEAD = "| order | lanes | accumulators | fused | rows | source |"


def test_catalogue_of_orders(docs: Path) -> None:
    """The catalogue has every order of the reference, with its data."""
    page = (docs / "spec/orders.md").read_text("utf-8")
    drawing = (docs / "assets/lane-maps.svg").read_text("utf-8")
    names = {lanes: name for name, lanes in lane_maps(drawing).items()}
    want = [order_row(order, names) for order in q8a8.ORDERS.values()]
    if rows_of(page, ORDERS_HEAD) != want:
        pytest.fail(f"the catalogue on spec/orders.md should be:\n\n{table(ORDERS_HEAD, want)}")


def test_folds(docs: Path) -> None:
    """The page has each order's fold as in the reference."""
    page = (docs / "spec/orders.md").read_text("utf-8")
    folds: dict[str, list[str]] = {}
    for order in q8a8.ORDERS.values():
        if order.registers > 1:
            folds.setdefault(str(order.fold).replace(" ", ""), []).append(order.name)
    want = "\n".join(f"{', '.join(names)}\n    {fold}" for fold, names in folds.items())
    assert f"```text\n{want}\n```" in page, f"the folds on spec/orders.md should be:\n\n{want}"


@pytest.mark.rule("Q8A8-QNT-13")
def test_table_of_recipes(docs: Path) -> None:
    """The table of recipes has every recipe of the reference, with its data."""
    page = (docs / "spec/quantization.md").read_text("utf-8")
    inverses = {"127/amax": "`f32(127 / amax)`", "1/d": "`f32(1 / d)`", "x/d": "none: `f32(x_j / d)`"}
    zeros = {"half": "h = 0, the half", "d": "d = 0, the float", "amax": "amax = 0"}
    roundings = {"half-away": "halves away", "half-even": "halves to even"}
    want = [
        [
            f"`{recipe.name}`",
            inverses[recipe.inverse],
            zeros.get(recipe.zero_test, "never: 0/0 if d = 0"),
            roundings[recipe.rounding],
        ]
        for recipe in q8a8.RECIPES.values()
    ]
    assert rows_of(page, "| recipe | `inv` | zero when | rounding |") == want


@pytest.mark.rule("Q8A8-TRT-2")
def test_table_of_metadata(docs: Path) -> None:
    """The table of GGUF metadata equals the reference's."""
    page = (docs / "spec/operations.md").read_text("utf-8")
    want = [[f"`{key}`", text] for key, text in q8a8.GGUF.metadata.items()]
    assert rows_of(page, "| metadata | holds |") == want
    assert f"type {q8a8.GGUF.tensor_type} ({q8a8.GGUF.tensor_type_name})" in page
