"""A revealed order in the reports: JSON within its schema, and its trees in the HTML report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jsonschema

from q8a8.order import ORDERS
from q8a8_conformance.report import htmlpage, jsondoc, schema
from q8a8_conformance.results.run import Finding
from q8a8_conformance.reveal.candidates import Candidate
from q8a8_conformance.reveal.dots import Piece, Revealed

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.results.run import Run


def test_revealed_order(make_run: Callable[..., Run]) -> None:
    """One tree for each range of lengths; those of long rows are described alone."""
    pieces = [
        Piece(1, 16, Candidate(ORDERS["scalar"])),
        Piece(17, 899, Candidate(ORDERS["neon"])),
        Piece(900, None, Candidate(ORDERS["scalar"])),
    ]
    revealed = Revealed("ggml_vec_dot_q8_a8_q8_a8", 1, 24, "to nearest", pieces).to_json()
    found = Finding("ggml_vec_dot_q8_a8_q8_a8", "order:revealed", 9, 9, revealed=revealed)
    run = make_run([], diagnosis=(found,))
    jsonschema.Draft202012Validator(schema.load_schema("report")).validate(jsondoc.document(run))
    page = htmlpage.render(run)
    assert page.count('<svg class="tree"') == 2
    assert "from 900 blocks on: the additions of 900 blocks" in page
