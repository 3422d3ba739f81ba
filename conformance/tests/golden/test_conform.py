"""`conforms` accepts right and refuses wrong output buffers, for every kind of outcome."""

from __future__ import annotations

import pytest

from q8a8_golden.cases import Bound, Case, Exact, Unspecified
from q8a8_golden.conform import conforms
from q8a8_golden.load import load_cases

CASES = load_cases()


def of_kind(kind: type) -> list[Case]:
    """Return every fifth case with one kind of outcome."""
    return [case for case in CASES if isinstance(case.outcome, kind)][::5]


@pytest.mark.parametrize("case", of_kind(Exact), ids=lambda case: case.id)
def test_exact(case: Case) -> None:
    """The expected bytes conform; a flipped bit anywhere, another length, and other recipes do not."""
    right = case.expected()
    assert conforms(case, right)
    for name, data in right.items():
        for at in range(0, len(data), max(1, len(data) // 7)):
            wrong = data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :]
            assert not conforms(case, {**right, name: wrong})
        assert not conforms(case, {**right, name: data + b"x"})
    assert isinstance(case.outcome, Exact)
    for recipe in case.outcome.alternatives:
        assert not conforms(case, case.expected(recipe))


@pytest.mark.parametrize("case", of_kind(Bound), ids=lambda case: case.id)
def test_bound(case: Case) -> None:
    """The last floats inside the bound conform; the next ones and writes between the results do not."""
    assert isinstance(case.outcome, Bound)
    right = case.expected()[case.output]
    for result in case.outcome.results:
        before, after = right[: result.offset], right[result.offset + 4 :]
        for side in (0, 1):
            inside, outside = (
                before + patterns[side].to_bytes(4, "little") + after
                for patterns in (result.edges.inside, result.edges.outside)
            )
            assert conforms(case, {case.output: inside})
            assert not conforms(case, {case.output: outside})
    places = {at for result in case.outcome.results for at in range(result.offset, result.offset + 4)}
    for at in {*range(len(right))} - places:
        assert not conforms(case, {case.output: right[:at] + b"\x00" + right[at + 1 :]})


def test_unspecified() -> None:
    """Any bytes conform in buffers of the right length."""
    for case in of_kind(Unspecified):
        assert conforms(case, case.poisoned())
        assert conforms(case, {name: bytes(length) for name, length in case.outputs.items()})
        assert not conforms(case, {name: bytes(length + 1) for name, length in case.outputs.items()})
        assert not conforms(case, {})
