"""The set of cases is minimal: each kills, tells apart or covers something that too few others do."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from q8a8_golden.cases import Exact
from q8a8_golden.document import from_json
from q8a8_golden.generate.coverage import phrases, points, recipes_apart
from q8a8_golden.generate.coverage_words import half_word, size_word
from q8a8_golden.generate.draft import Draft, activation, dequantize, dot, dot_pairs, quantize_row, rules
from q8a8_golden.generate.minimal import KILLERS, Claims, claims_of, minimized, redundant
from q8a8_golden.generate.numbers import block, f32, minus
from q8a8_golden.generate.store import render
from q8a8_golden.load import DATA, load_cases


@functools.cache
def shipped() -> list[Claims]:
    """Give the claims of every entry of the shipped files, by the kills on record."""
    found = []
    for path in sorted(DATA.rglob("*/*.json")):
        for document in json.loads(path.read_text())["cases"]:
            case = replace(from_json(document)[0], id=document["id"])
            found.append(claims_of(case, document["kills"], 0))
    return found


def test_no_shipped_case_is_redundant() -> None:
    """By the definition on the page of the vectors: without any one of them, some claim would lack a case."""
    entries = shipped()
    assert len(entries) > 500
    assert redundant(entries) == []


def test_copies_would_be_redundant() -> None:
    """The test above can fail: of a case that is there four times any could go; so could one of nothing."""
    entries = shipped()
    for one in entries[::40]:
        copies = [replace(one, id=f"copy/{number}") for number in range(KILLERS)]
        assert redundant([*entries, *copies]) == [one.id, *(copy.id for copy in copies)]
    assert redundant([*entries, Claims("silent", 1, {})]) == ["silent"]


def entry(name: str, cost: int, *claims: str, wanted: int = 1) -> Claims:
    """Give an entry with these claims."""
    return Claims(name, cost, dict.fromkeys(claims, wanted))


def test_the_longest_goes_first() -> None:
    """Of two entries that speak for the same, the shorter stays; of two as long, the earlier."""
    assert minimized([entry("long", 9, "p"), entry("short", 1, "p")]) == {"short"}
    assert minimized([entry("first", 5, "p"), entry("second", 5, "p")]) == {"first"}


def test_what_two_speak_for_together_frees_a_third() -> None:
    """An entry whose claims are each in another one goes, though no single one has them all."""
    assert minimized([entry("both", 9, "p", "q"), entry("p", 1, "p"), entry("q", 1, "q")]) == {"p", "q"}


def test_a_mutant_keeps_as_many_killers_as_are_wanted() -> None:
    """Five killers: the three shortest stay. Two killers: both stay, there are no more."""
    five = [entry(str(cost), cost, "m", wanted=KILLERS) for cost in range(5)]
    assert minimized(five) == {"0", "1", "2"}
    assert minimized(five[:2]) == {"0", "1"}
    assert redundant(five[:2]) == []
    assert redundant(five) == ["0", "1", "2", "3", "4"]


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sets(st.sampled_from("abcdefgh")), st.sets(st.sampled_from("mno"))),
        max_size=20,
    )
)
def test_what_is_minimized_is_minimal_and_lacks_nothing(drawn: list[tuple[int, set[str], set[str]]]) -> None:
    """None of those that stay is redundant, and each claim keeps as many cases as it wants, or has."""
    entries = [
        Claims(str(number), cost, dict.fromkeys(covered, 1) | dict.fromkeys(killed, KILLERS))
        for number, (cost, covered, killed) in enumerate(drawn)
    ]
    ids = minimized(entries)
    kept = [each for each in entries if each.id in ids]
    assert redundant(kept) == []
    for claim, enough in {claim: n for each in entries for claim, n in each.wanted.items()}.items():
        before, after = (sum(claim in each.wanted for each in group) for group in (entries, kept))
        assert after >= min(enough, before)


def said(draft: Draft, truths: object) -> frozenset[str]:
    """Give the phrases of a draft, once its outcome is settled."""
    from q8a8_golden.generate.agree import settle  # noqa: PLC0415 - a name of this helper alone

    return phrases(settle(draft, truths))  # type: ignore[arg-type]  # the fixture's witnesses


WHY = "A reason that is long enough."
ONE, ABOUT = f32(1), rules("QNT-1")


@pytest.mark.parametrize(
    ("draft", "phrase"),
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
def test_phrases_by_hand(truths: object, draft: Draft, phrase: str) -> None:
    """What a case is about is read off its bytes."""
    assert phrase in said(draft, truths)


def test_a_point_has_function_rule_and_phrase() -> None:
    """Two rows at a time are a function of their own; no case is without points."""
    for case in load_cases()[::3]:
        covered = points(case)
        assert covered
        for point in covered:
            assert point.startswith(case.function)
            assert (", two rows, " in point) == (case.args.get("nrc") == 2)


def test_recipes_are_apart_where_their_bytes_are() -> None:
    """A case with an alternative tells that recipe from the design; one without tells none apart."""
    for case in load_cases():
        apart = recipes_apart(case)
        named = case.outcome.alternatives if isinstance(case.outcome, Exact) else {}
        assert {pair for pair in apart if "design" in pair} == {
            f"design or {name.removeprefix('recipe:')}" for name in named
        }
        assert bool(apart) == bool(named)


@pytest.mark.parametrize(
    ("size", "word"),
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
def test_sizes(size: int, word: str) -> None:
    """Small ones and those beside a power of two stand by themselves."""
    assert size_word(size, "b") == word


@pytest.mark.parametrize(
    ("bits", "word"),
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
def test_halves(bits: int, word: str) -> None:
    """Zeros, subnormals, the ends of the range, powers of two, what is no number."""
    assert half_word(bits) == word


def test_what_is_dropped_is_not_written(small_files: dict[str, bytes], truths: object) -> None:
    """The files of a record hold its entries and no others, whatever the builders have besides."""
    entries = {
        case["id"]: {name: tuple(slugs) for name, slugs in case["kills"].items()}
        for name, data in small_files.items()
        if name.endswith("v2.json")
        for case in json.loads(data)["cases"][:3]
    }
    with pytest.MonkeyPatch.context() as patch:
        from q8a8_golden.generate import builders, store  # noqa: PLC0415 - patched here

        patch.setattr(store, "TOPICS", {"dot/v2": builders.TOPICS["dot/v2"]})
        files = render(truths, entries)  # type: ignore[arg-type]  # the fixture's witnesses
    assert [case["id"] for case in json.loads(files["dot/v2.json"])["cases"]] == list(entries)
    assert json.loads(files["manifest.json"])["cases"] == 3
