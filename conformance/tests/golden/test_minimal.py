"""The set of cases is minimal: without any one of them some requirement lacks a case."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from q8a8_golden.cases import Exact
from q8a8_golden.document import from_json
from q8a8_golden.generate.coverage import features, points, recipes_apart
from q8a8_golden.generate.coverage_classes import half_class, size_class
from q8a8_golden.generate.draft import Draft, activation, dequantize, dot, dot_pairs, quantize_row, rules
from q8a8_golden.generate.minimal import KILLERS, Entry, entry_of, minimal_subset, redundant
from q8a8_golden.generate.numbers import block, f32, minus
from q8a8_golden.generate.store import render
from q8a8_golden.load import DATA, load_cases


@functools.cache
def shipped() -> list[Entry]:
    """Return every entry of the shipped files, with the kills on record."""
    found = []
    for path in sorted(DATA.rglob("*/*.json")):
        for document in json.loads(path.read_text())["cases"]:
            case = replace(from_json(document)[0], id=document["id"])
            found.append(entry_of(case, document["kills"], 0))
    return found


def test_no_shipped_case_is_redundant() -> None:
    """No entry of the shipped files is redundant."""
    entries = shipped()
    assert len(entries) > 500
    assert redundant(entries) == []


def test_copies_are_redundant() -> None:
    """Copies of an entry, and an entry without requirements, are redundant."""
    entries = shipped()
    for one in entries[::40]:
        copies = [replace(one, id=f"copy/{number}") for number in range(KILLERS)]
        assert redundant([*entries, *copies]) == [one.id, *(copy.id for copy in copies)]
    assert redundant([*entries, Entry("silent", 1, {})]) == ["silent"]


def entry(name: str, cost: int, *requirements: str, required: int = 1) -> Entry:
    """Return an entry with these requirements."""
    return Entry(name, cost, dict.fromkeys(requirements, required))


def test_longest_is_dropped_first() -> None:
    """Of two entries with the same requirements the shorter is kept; of equal ones the earlier."""
    assert minimal_subset([entry("long", 9, "p"), entry("short", 1, "p")]) == {"short"}
    assert minimal_subset([entry("first", 5, "p"), entry("second", 5, "p")]) == {"first"}


def test_entry_covered_by_two_others_is_dropped() -> None:
    """An entry whose requirements are covered by two others is dropped."""
    assert minimal_subset([entry("both", 9, "p", "q"), entry("p", 1, "p"), entry("q", 1, "q")]) == {"p", "q"}


def test_mutant_keeps_enough_killers() -> None:
    """Of five killers the three shortest are kept; of two killers both."""
    five = [entry(str(cost), cost, "m", required=KILLERS) for cost in range(5)]
    assert minimal_subset(five) == {"0", "1", "2"}
    assert minimal_subset(five[:2]) == {"0", "1"}
    assert redundant(five[:2]) == []
    assert redundant(five) == ["0", "1", "2", "3", "4"]


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sets(st.sampled_from("abcdefgh")), st.sets(st.sampled_from("mno"))),
        max_size=20,
    )
)
def test_minimal_subset(generated: list[tuple[int, set[str], set[str]]]) -> None:
    """No kept entry is redundant, and each requirement keeps enough cases, or all that it had."""
    entries = [
        Entry(str(number), cost, dict.fromkeys(covered, 1) | dict.fromkeys(killed, KILLERS))
        for number, (cost, covered, killed) in enumerate(generated)
    ]
    ids = minimal_subset(entries)
    kept = [each for each in entries if each.id in ids]
    assert redundant(kept) == []
    for requirement, enough in {
        requirement: n for each in entries for requirement, n in each.required.items()
    }.items():
        before, after = (sum(requirement in each.required for each in group) for group in (entries, kept))
        assert after >= min(enough, before)


def features_of(draft: Draft, implementations: object) -> frozenset[str]:
    """Return the features of a draft's case."""
    from q8a8_golden.generate.agree import agreed_case  # noqa: PLC0415 - a name of this helper alone

    return features(agreed_case(draft, implementations))  # type: ignore[arg-type]  # the fixture's implementations


WHY = "A reason that is long enough."
ONE, ABOUT = f32(1), rules("QNT-1")


@pytest.mark.parametrize(
    ("draft", "feature"),
    [
        (
            quantize_row("t/a", WHY, ABOUT, [0] * 7 + [f32(127)] + [0] * 24),
            "the largest magnitude is positive, in lane 7",
        ),
        (
            quantize_row("t/a", WHY, ABOUT, [f32(127), f32(3), minus(0x40200000), *[0] * 29]),
            "a tie exactly, negative, even, scale 2^0",
        ),
        (quantize_row("t/a", WHY, ABOUT, [f32(127), 0x3EFFFFFF, *[0] * 30]), "0.49999997"),
        (quantize_row("t/a", WHY, ABOUT, [ONE, minus(ONE)] * 16), "all of one magnitude"),
        (quantize_row("t/a", WHY, ABOUT, [ONE] * 32 + [0] * 32), "zeros after a block"),
        (quantize_row("t/a", WHY, ABOUT, [0, 1 << 31] * 16), "all zero, of both signs"),
        (quantize_row("t/a", WHY, ABOUT, [1] * 32), "the scale vanishes, d is zero, 127 / amax is infinite"),
        (
            activation("t/a", WHY, ABOUT, [f32(9), ONE, minus(f32(10))]),
            "the largest magnitude is negative, last",
        ),
        (
            activation("t/a", WHY, ABOUT, [f32(127 * 2049)]),
            "the scale is a tie that goes down, the first of 2^11",
        ),
        (activation("t/a", WHY, ABOUT, [0x7F800000], kind="unspecified"), "+infinity"),
        (activation("t/a", WHY, ABOUT, [ONE, 0xFFC00001], kind="unspecified"), "last"),
        (dequantize("t/a", WHY, ABOUT, block(0x8001, [-128] + [0] * 31)), "code -128, scale -the smallest"),
        (
            dot("t/a", WHY, ABOUT, block(0x3C00, [0] * 5 + [3] + [0] * 26), block(0x3C00, [1] * 32)),
            "x0 has one code, block 0 of 1, lane 5",
        ),
        (
            dot("t/a", WHY, ABOUT, block(0, [1] * 32) + block(0x3C00, [1] * 32), block(0x3C00, [1] * 32) * 2),
            "a block after a zero scale",
        ),
        (
            dot("t/a", WHY, ABOUT, block(0x3C00, [-128] * 32), block(0x3C00, [127] * 32)),
            "(-128, 127) in all lanes, 1 blocks",
        ),
        (
            dot("t/a", WHY, ABOUT, block(0x7800, [1] * 32), block(0x7800, [1] * 32)),
            "dx * dy is positive, beyond every half",
        ),
        (
            dot("t/a", WHY, ABOUT, block(0x0400, [1] * 32), block(0x0400, [1] * 32)),
            "dx * dy is positive, below every half",
        ),
        (
            dot_pairs(
                "t/a",
                WHY,
                ABOUT,
                (block(0x3C00, [1] * 32),) * 2,
                (block(0x3C00, [1] * 32),) * 2,
                bs=5,
                gaps=(b"", b"ab"),
            ),
            "bx is less than by",
        ),
    ],
)
def test_features(implementations: object, draft: Draft, feature: str) -> None:
    """A case's features are derived from its bytes."""
    assert feature in features_of(draft, implementations)


def test_points() -> None:
    """Every case has points, which start with its function and mark two rows at a time."""
    for case in load_cases()[::3]:
        covered = points(case)
        assert covered
        for point in covered:
            assert point.startswith(case.function)
            assert (", two rows, " in point) == (case.args.get("nrc") == 2)


def test_recipes_apart() -> None:
    """The recipes that a case distinguishes from the design are its alternatives."""
    for case in load_cases():
        apart = recipes_apart(case)
        named = case.outcome.alternatives if isinstance(case.outcome, Exact) else {}
        assert {pair for pair in apart if "design" in pair} == {
            f"design or {name.removeprefix('recipe:')}" for name in named
        }
        assert bool(apart) == bool(named)


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (0, "0 b"),
        (9, "9 b"),
        (10, "over 2^3 b, 2 beyond a multiple of four"),
        (15, "15 b"),
        (17, "17 b"),
        (18, "over 2^4 b, 2 beyond a multiple of four"),
        (1023, "1023 b"),
        (1026, "over 2^10 b, 2 beyond a multiple of four"),
    ],
)
def test_sizes(size: int, name: str) -> None:
    """Small sizes and those next to a power of two are classes of their own."""
    assert size_class(size, "b") == name


@pytest.mark.parametrize(
    ("bits", "name"),
    [
        (0x0000, "+0"),
        (0x8000, "-0"),
        (0x0001, "+the smallest"),
        (0x8002, "-subnormal"),
        (0x03FF, "+the largest subnormal"),
        (0x0400, "+the smallest normal"),
        (0x3C00, "+a power of two"),
        (0xC200, "-normal"),
        (0x7BFF, "+the largest"),
        (0xFC00, "-an infinity"),
        (0x7E00, "a NaN"),
        (0x7C01, "a NaN that signals"),
        (0xFFFF, "a NaN of all ones"),
        (0x3800, "+a power of two"),
    ],
)
def test_halves(bits: int, name: str) -> None:
    """The class of a half is its sign and kind."""
    assert half_class(bits) == name


def test_dropped_entries_are_not_written(small_files: dict[str, bytes], implementations: object) -> None:
    """Files rendered from recorded kills have exactly their entries."""
    entries = {
        case["id"]: {name: tuple(slugs) for name, slugs in case["kills"].items()}
        for name, data in small_files.items()
        if name.endswith("v2.json")
        for case in json.loads(data)["cases"][:3]
    }
    with pytest.MonkeyPatch.context() as patch:
        from q8a8_golden.generate import builders, store  # noqa: PLC0415 - patched here

        patch.setattr(store, "TOPICS", {"dot/v2": builders.TOPICS["dot/v2"]})
        files = render(implementations, entries)  # type: ignore[arg-type]  # the fixture's implementations
    assert [case["id"] for case in json.loads(files["dot/v2.json"])["cases"]] == list(entries)
    assert json.loads(files["manifest.json"])["cases"] == 3
