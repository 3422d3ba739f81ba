"""The page with the hash of the fixed product on every device."""

from __future__ import annotations

from pathlib import Path

from q8a8_conformance.inputs import fixed_product
from q8a8_conformance.inputs.calls import MUL_MAT
from q8a8_lab.devices import LEGS, RVV_BITS
from q8a8_lab.pages import fingerprint

PAGE = Path(__file__).parents[4] / "docs" / "one-result.md"


def test_the_page_is_up_to_date() -> None:
    """The page has the text of the module, and rows of legs alone, each with the same result."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith(fingerprint.HEAD), f"run: {fingerprint.COMMAND}"
    assert text.endswith(fingerprint.TAIL), f"run: {fingerprint.COMMAND}"
    table, _, note = text.removeprefix(fingerprint.HEAD).removesuffix(fingerprint.TAIL).partition("\n\n")
    rows = table.splitlines()
    same = f"`{fixed_product.DIGESTS[MUL_MAT][:16]}…` same"
    known = [f"| {leg.kernel} | {leg.where} | {same} | yes (4) |" for leg in LEGS]
    assert rows == [row for row in known if row in rows]
    assert len(rows) > 10
    if note.strip():
        version = note.split()[1].rstrip(",")
        assert (
            note.strip()
            == fingerprint.QEMU_FAULT.format(version=version, lengths=", ".join(map(str, RVV_BITS))).strip()
        )


def test_a_row() -> None:
    """A row is what the leg's kernel computes."""
    assert fingerprint.row(LEGS[0]) in PAGE.read_text(encoding="utf-8").splitlines()
