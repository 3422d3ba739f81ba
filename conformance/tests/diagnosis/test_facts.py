"""The facts that experiments find, as data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from q8a8_conformance import reveal
from q8a8_conformance.diagnosis import dots
from q8a8_conformance.diagnosis.facts import FACTS, HEX_LIMIT, OTHER_FACTS, Evidence, Fact
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.results import side_effects
from q8a8_conformance.results.observations import Failure


def _fact(**changes: object) -> Fact:
    given = {"function": calls.DOT, "fact": "lost", "where": {"place": 31}, "rule": "Q8A8-DOT-1", "cause": ""}
    return Fact(**{**given, "sentence": "s", "fix": "f", **changes})  # type: ignore[arg-type]


def test_a_fact_is_json_data() -> None:
    """Buffers of evidence are shown by length and hex, a long one by its start; no output, none shown."""
    call = calls.dot(*dot_rows.exact_pair(200))
    fact = _fact(
        evidence=(Evidence(call, (bytes(4),), (b"\1\0\0\0",), "one"), Evidence(call, (bytes(4),), None, ""))
    )
    shown = json.loads(json.dumps(fact.to_json()))
    assert shown["cause"] == shown["fact"] == "lost"
    assert shown["where"] == {"place": 31}
    first, second = shown["evidence"]
    assert first["args"]["n"] == 6400
    assert first["inputs"]["vx"]["length"] == 6800
    assert len(first["inputs"]["vx"]["hex"]) == 2 * HEX_LIMIT
    assert (first["actual"]["s"]["hex"], first["expected"]["s"]["hex"]) == ("01000000", "00000000")
    assert second["actual"] == {}


@pytest.mark.parametrize("right", [True, False])
def test_a_fact_explains_what_its_model_gives(right: bool) -> None:
    """A fact is attached to the failures that its model predicts; without a model to none."""
    call = calls.dot(*dot_rows.exact_pair(1))
    failure = Failure(call, (b"\1\0\0\0",), (bytes(4),))
    fact = _fact(explains=lambda result: (result.outputs == (b"\1\0\0\0",)) is right, cause="lane-lost")
    assert fact.explained([failure]) == [failure] * right
    assert fact.slug == "lane-lost"
    assert _fact().explained([failure]) == []


def test_every_fact_has_a_sentence() -> None:
    """What the experiments call a fact is in the table of facts, and nothing else is."""
    here = Path(dots.__file__).parent
    kinds = [path for path in here.parent.glob("*/*.py") if path.parent != here]
    rest = [*kinds, *Path(reveal.__file__).parent.rglob("*.py")]
    rest += [Path(side_effects.__file__), here.parent / "deaths.py"]
    rest += [here / "side_effects.py", here / "turns.py"]
    other = "\n".join(path.read_text(encoding="utf-8") for path in rest)
    assert set(re.findall(r'Difference\(\s*"([a-z-]+)"', other)) <= {*OTHER_FACTS, *FACTS}
    assert [slug for slug in OTHER_FACTS if f'"{re.sub("^(place|value)-", "", slug)}' not in other] == []
    sources = [path.read_text(encoding="utf-8") for path in here.glob("*.py")]
    text = "\n".join(sources)
    named = set(re.findall(r'(?:measured|Candidate)\(\s*"([a-z-]+)"', text))
    assert named <= FACTS.keys()
    assert [slug for slug in FACTS if f'"{slug}"' not in text] == []
