"""Facts about quantizers and dequantization: what is found is the mutation, and explains the failed calls."""

from __future__ import annotations

import itertools
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8_conformance.diagnosis.dequantizers.facts import dequantizer_facts
from q8a8_conformance.diagnosis.quantizers.facts import quantizer_facts
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults import catalogue
from q8a8_conformance.faults import steps as plain
from q8a8_conformance.faults.catalogue import FAMILIES, LEGAL, MUTANTS, RECIPES
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.faults.kernel import Kernel, Steps
from q8a8_conformance.inputs import blocks, calls, dot_rows
from q8a8_conformance.inputs.calls import ACTIVATION, DEQUANTIZE, QUANTIZERS
from q8a8_conformance.results.observations import Failure

from .dot_calls import Replayed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call

ROW = QUANTIZERS[1]
FUNCTIONS = (ROW, ACTIVATION, DEQUANTIZE, QUANTIZERS[0])

UNSEEN = {mutant.slug for mutant in FAMILIES["Memory, environment and state"]} | {
    "nan-spoils-next",  # outside the domain no value is a failure
    "half-through-subnormal-float",  # right where the caller does not flush subnormals
    "huge-scale-table-entry",  # the one wrong entry is in none of these calls
    "tail-after-odd-tile-lost",  # these calls have no row of a whole tile
    "dequantize-one-at-least",  # writes where there is no output
}
"""Mutants that no result of a call of its own shows."""

EQUAL = {
    "ref-rounds-even": "round-half-even",  # of one of two functions
    "scale-of-six-up": "scale-of-one-amax",  # measured by its value, which has no name
    "half-flushed-in-dequantize": "half-flushed-on-read",  # the same in one of two functions
    "half-bit-lost-in-dequantize": "half-bit-lost",
}
"""Mutants whose effect has another name."""

KINDS = {
    ROW: {
        "rounding": ("round-half-even", "product-in-double", "round-floor"),
        "inverse": ("inverse-ulp-low", "division-by-d", "inverse-in-double"),
        "zero": ("zero-block-scale-one", "zero-scale-signed", "zero-test-on-d"),
        "scale": ("scale-through-bf16", "scale-reciprocal", "scale-of-128"),
        "half": ("half-truncated", "half-flushed-on-write", "half-ties-up"),
        "amax": ("amax-last-skipped", "amax-whole-row", "amax-one-late"),
        "layout": ("elements-reversed", "scale-big-endian", "scales-first"),
        "places": ("quantize-odd-block-lost", "quantize-tile-tail-lost"),
    },
    ACTIVATION: {
        "places": ("activation-tail-unseen", "activation-tail-unwritten", "activation-first-8192"),
        "rounding": ("round-truncate", "round-half-up"),
        "inverse": ("inverse-of-half", "inverse-truncated"),
        "half": ("half-rounded-up", "half-saturates-early"),
    },
    DEQUANTIZE: {
        "scales": ("half-bit-lost", "half-subnormals-misread", "half-infinite-on-read"),
        "values": ("dequantize-scale-magnitude", "dequantize-unsigned", "dequantize-zero-unsigned"),
        "layout": ("elements-read-interleaved", "scale-read-big-endian", "scale-read-last"),
        "places": ("dequantize-tail-lost", "dequantize-count-of-sixteen-bits"),
    },
}
"""Mutants by function and by the kind of step that they change."""

PAIRS = [
    (function, kinds[one][number % len(kinds[one])], kinds[other][number // 2 % len(kinds[other])])
    for function, kinds in KINDS.items()
    for number, (one, other) in enumerate(itertools.combinations(kinds, 2))
]
"""A pair of mutants for every pair of kinds."""


@cache
def made(function: str) -> tuple[tuple[Call, tuple[bytes, ...]], ...]:
    """Return calls with their right results."""
    right = catalogue.make()
    return tuple((call, replay(right, call)) for call in inputs(function))


def inputs(function: str) -> Iterator[Call]:
    """Yield calls on which most mistakes show."""
    if function == DEQUANTIZE:
        yield from dequantizations()
        return
    sets = [make() for make, _ in blocks.SETS.values()]
    sets.append(np.tile(np.linspace(-6, 6, 32, dtype=np.float32), (64, 1)))
    if function == ACTIVATION:
        vectors = [rows[i] for rows in sets for i in range(0, len(rows), max(1, len(rows) // 12))]
        vectors += [np.resize(sets[0].reshape(-1)[::-1], n) for n in (1, 9, 37, 1000, 9001)]
        vectors.append(np.append(vectors[-1], np.float32(2.0**20)))
        vectors += [np.zeros(1), np.array([1.0, 2.0, 0.5, 1.5, -3.0])]
        yield from (calls.activation(np.ascontiguousarray(x, np.float32)) for x in vectors)
    else:
        yield from (calls.quantize(function, rows[:n].reshape(-1)) for rows in sets for n in (1, 7, 33, 64))
        yield calls.quantize(function, np.resize(sets[0], (129, 32)).reshape(-1))
        yield calls.quantize(function, np.eye(32, dtype=np.float32).reshape(-1))


def dequantizations() -> Iterator[Call]:
    """Yield rows with all halves, all codes, and of many lengths."""
    codes = np.tile(np.r_[dot_rows.EDGES, np.arange(-12, 13)], (1024, 1))
    for start in range(0, 0x10000, 1024):
        if start & 0x7C00 != 0x7C00:
            halves = np.arange(start, start + 1024).astype(np.uint16).view(np.float16)
            yield calls.dequantize(dot_rows.blocks(halves, codes))
    every = np.arange(-128, 128).reshape(8, 32)
    yield from (calls.dequantize(dot_rows.blocks(scale, every)) for scale in (0.0, -0.0, 1.0, -1.0))
    alike = [1.0, -1.0, 1.0, 0.0, 2.0, 0.0, -2.0, -0.0]
    yield calls.dequantize(dot_rows.blocks(np.array(alike), every))
    lengths = (*range(1, 12), 129, 2049)
    yield from (calls.dequantize(dot_rows.random_pair(nb, seed=nb)[0]) for nb in lengths)


def facts_of(function: str, *slugs: str) -> tuple[list[Fact], list[Failure]]:
    """Return the facts found about a mutant, and its failed calls."""
    return facts_about(function, lambda: catalogue.make(*slugs))


def facts_about(function: str, make: Callable[[], Kernel]) -> tuple[list[Fact], list[Failure]]:
    """Return the facts found about a kernel, and its failed calls."""
    kernel = make()
    results = [(call, replay(kernel, call), right) for call, right in made(function)]
    failed = [Failure(*result) for result in results if result[1] != result[2]]
    session = Replayed(make)
    if function == DEQUANTIZE:
        return dequantizer_facts(session, failed), failed
    return quantizer_facts(session, function, failed), failed


def function_of(slug: str) -> str | None:
    """Return a function of a mutant's that is measured here."""
    return next((f for f in FUNCTIONS if f in MUTANTS[slug].functions), None)


@pytest.mark.parametrize("slug", [slug for slug in MUTANTS if function_of(slug) and slug not in UNSEEN])
def test_the_only_fact_is_the_mutation(slug: str) -> None:
    """A mutation is found under its name and its rule, explains every failed call, and has evidence."""
    (fact,), failed = facts_of(function_of(slug) or "", slug)
    assert fact.slug == EQUAL.get(slug, slug)
    if slug not in EQUAL:
        assert (fact.rule, fact.fix) == (MUTANTS[slug].rule, MUTANTS[slug].fix)
    assert len(fact.explained(failed)) == len(failed) > 0
    assert all(evidence.actual != evidence.expected for evidence in fact.evidence)
    assert fact.to_json()["where"]


def _times_128(amax: Array, _d: Array, h: Array) -> Array:
    return np.where(h == 0, np.float32(0), np.float32(128) / np.where(h == 0, np.float32(1), amax))


OTHERS = {
    "rounding": (
        Steps(to_integer=lambda v: np.trunc(v + np.float32(0.5))),
        {"step": "rounding", "value": "truncate-add-half"},
    ),
    "multiplier": (
        Steps(inverse=_times_128, to_int8=lambda v: v.astype(np.int64).astype(np.int8)),
        {"step": "multiplier", "value": "128.0"},
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_step_that_is_in_no_catalogue(name: str) -> None:
    """Where the catalogue has no name for a step, it is measured all the same, and nothing else is."""
    steps, where = OTHERS[name]
    (fact,), failed = facts_about(ROW, lambda: Kernel({ROW: steps}))
    assert (fact.fact, fact.where) == ("step", where)
    assert len(fact.explained(failed)) == len(failed)


def _in_some_lanes(lanes: slice, rounding: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Return a rounding that is another one in some elements of a block."""

    def rounded(v: Array) -> Array:
        codes = plain.to_integer(v)
        codes[:, lanes] = rounding(v[:, lanes])
        return codes

    return rounded


def _with_codes(change: Callable[[Array], Array]) -> Steps:
    return Steps(finish=lambda _x, h, q: (h, change(q)))


def _clip(least: int, greatest: int) -> Steps:
    return Steps(to_int8=lambda v: np.clip(v, least, greatest).astype(np.int8))


def _most(limit: float) -> Steps:
    return Steps(inverse=lambda amax, _d, _h: np.minimum(np.float32(127) / amax, np.float32(limit)))


PARTS: dict[str, tuple[str, Steps, str, dict[str, object]]] = {
    "limited-inverse": (ROW, _most(1e5), "step", {"step": "inverse_limit", "value": "100000.0"}),
    "limited-inverse-of-vector": (
        ACTIVATION, _most(2.0**20), "step", {"step": "inverse_limit", "value": "1048576.0"},
    ),
    "clipped": (ROW, _clip(-126, 126), "step", {"step": "code_limits", "value": "(-126, 126)"}),
    "clipped-below": (ROW, _clip(0, 127), "step", {"step": "code_limits", "value": "(0, 127)"}),
    "clipped-above": (ROW, _clip(-127, 120), "step", {"step": "code_limits", "value": "(-127, 120)"}),
    "last-to-even": (
        ROW, Steps(to_integer=_in_some_lanes(np.s_[31:], np.rint)), "place-recipe", {"elements": [31]},
    ),
    "upper-half-truncated": (
        ROW, Steps(to_integer=_in_some_lanes(np.s_[16:], np.trunc)), "place-recipe",
        {"elements": list(range(16, 32)), "steps": {"rounding": "truncate"}},
    ),
    "last-zero": (
        ROW, _with_codes(lambda q: np.where(np.arange(32) == 31, np.int8(0), q)), "place-zero",
        {"elements": [31]},
    ),
    "first-is-second": (
        ROW, _with_codes(lambda q: q[:, [1, *range(1, 32)]]), "place-code-of", {"elements": [0], "offset": 1},
    ),
    "first-again": (
        ACTIVATION, _with_codes(lambda q: q[:, np.arange(q.shape[1]) % 4096]), "place-wraps",
        {"offset": 4096},
    ),
}  # fmt: skip
"""What a quantizer does wrong in a part of its elements, or of its range: the fact, and where."""


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_the_elements(name: str) -> None:
    """What is wrong in some elements of a block, or beyond a limit, is the only fact, and explains all."""
    function, steps, slug, where = PARTS[name]
    (fact,), failed = facts_about(function, lambda: Kernel({function: steps}))
    assert fact.fact == slug
    assert where.items() <= fact.where.items()
    assert len(fact.explained(failed)) == len(failed) > 0
    assert len(fact.evidence) == 1


def _newton(amax: Array) -> Array:
    """Return 1 / amax by an estimate of seven bits and a step of Newton's."""
    fraction, exponent = np.frexp(amax)
    estimate = np.rint(np.float32(128) / fraction) / np.float32(128)
    estimate *= np.float32(2) - fraction * estimate
    return np.ldexp(estimate, -exponent)


def _units(inverse: Callable[[Array], Array]) -> dict[str, int]:
    """Return the least and the greatest error of an inverse, in units in the last place."""
    amax = (1 + np.arange(4096) / 4096).astype(np.float32)
    units = inverse(amax).view(np.int32) - (np.float32(127) / amax).view(np.int32)
    return {"least": int(units.min()), "greatest": int(units.max())}


FACTORS: dict[str, tuple[str, Steps, dict[str, Any], str]] = {
    "estimate": (
        ROW, Steps(inverse=lambda amax, _d, _h: np.float32(126.9999) * _newton(amax)),
        {"units": _units(lambda amax: np.float32(126.9999) * _newton(amax))}, "as an estimate gives.",
    ),
    "constant": (
        ROW, Steps(inverse=lambda amax, _d, _h: np.float32(126.9) / amax),
        {"multiplier": 126.9}, "multiplied by 126.9 / amax",
    ),
    "added": (
        ACTIVATION, Steps(inverse=lambda amax, _d, _h: np.float32(127) / (amax + np.float32(3.3e-6))),
        {"added": 3.3e-6}, "multiplied by 127 / (amax + 3.3e-06)",
    ),
}  # fmt: skip
"""Factors of elements that are no step with a name, what is measured of them, and a part of the sentence."""


@pytest.mark.parametrize("name", FACTORS)
def test_a_factor_without_a_name(name: str) -> None:
    """What elements are multiplied by is measured whatever computed it, and explains every failed call."""
    function, steps, where, sentence = FACTORS[name]
    (fact,), failed = facts_about(function, lambda: Kernel({function: steps}))
    assert fact.fact == "factor"
    # (Units are measured of some values of amax, and in steps.)
    rel, at_least = (0.04, 1) if "units" in where else (1e-3, 2e-7)
    for bound, value in where.items():
        assert fact.where[bound] == pytest.approx(value, rel=rel, abs=at_least)
    assert sentence in fact.sentence
    assert len(fact.explained(failed)) == len(failed) > 0
    assert len(fact.evidence) == 1


class _InLanes(Kernel):
    """Packs codes within 128-bit lanes, and does not put the lanes in order."""

    def quantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Quantize, and exchange groups of four codes."""
        super().quantize_row_q8_a8(x, y, k)
        codes = y[: k // 32 * 34].reshape(-1, 34)[:, 2:].reshape(-1, 8, 4)
        codes[:] = codes[:, [0, 2, 4, 6, 1, 3, 5, 7]]


def test_an_order_of_codes() -> None:
    """An order of the codes of every block is found, whatever it is, and explains rows of any length."""
    (fact,), failed = facts_about(ROW, _InLanes)
    assert fact.where["codes"][:8] == [0, 1, 2, 3, 8, 9, 10, 11]
    assert "0-3, 8-11, 16-19, 24-27, 4-7, 12-15, 20-23, 28-31" in fact.sentence
    assert len(fact.explained(failed)) == len(failed)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.5])
def test_one_value_whatever_is_read(value: float) -> None:
    """A dequantizer that writes one value everywhere has that fact alone, which explains all failed calls."""

    def constant(_d: Array, q: Array) -> Array:
        return np.full(q.shape, value, np.float32)

    (fact,), failed = facts_about(DEQUANTIZE, lambda: Kernel({DEQUANTIZE: Steps(value=constant)}))
    assert (fact.fact, fact.rule) == ("output-constant", "Q8A8-DEQ-1")
    assert fact.sentence == f"{value or f'{value:+g}'} is written."
    assert fact.explained(failed) == failed


class _LowerHalf(Kernel):
    """Writes the codes of each block's first sixteen elements alone."""

    def quantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Quantize, and put back what stood in the upper halves."""
        before = y.copy()
        super().quantize_row_q8_a8(x, y, k)
        rows, held = (side[: k // 32 * 34].reshape(-1, 34) for side in (y, before))
        rows[:, 18:] = held[:, 18:]


class _Confused(Kernel):
    """In whole groups of four, gives the third block some bytes of the second one, on both ways."""

    def __init__(self, part: slice) -> None:
        super().__init__()
        self._part = part

    def _copy(self, blocks: Array, k: int) -> None:
        groups = blocks[: k // 128 * 136].reshape(-1, 4, 34)
        groups[:, 2, self._part] = groups[:, 1, self._part]

    def quantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Quantize, and copy."""
        super().quantize_row_q8_a8(x, y, k)
        self._copy(y, k)

    def dequantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Copy, and dequantize."""
        x = x.copy()
        self._copy(x, k)
        super().dequantize_row_q8_a8(x, y, k)


@pytest.mark.parametrize("function", [ROW, DEQUANTIZE])
@pytest.mark.parametrize(
    ("part", "effect"),
    [(slice(0, 2), "scale-of"), (slice(2, 34), "codes-of"), (slice(0, 34), "block-of")],
)
def test_a_slip_in_an_unrolled_loop(function: str, part: slice, effect: str) -> None:
    """One block of every whole group has another one's scale, codes or both: the place, and nothing else."""
    (fact,), failed = facts_about(function, lambda: _Confused(part))
    assert fact.fact == f"place-{effect}"
    assert fact.where["position"] == {"kind": "modulo-whole", "modulus": 4, "remainder": 2}
    assert fact.where["offset"] == -1 if function == ROW else "block before it" in fact.sentence
    assert len(fact.explained(failed)) == len(failed)


def test_codes_that_are_never_written() -> None:
    """Half of all codes keep their bytes: one fact, and the arithmetic is that of the others."""
    (fact,), failed = facts_about(ROW, _LowerHalf)
    assert (fact.fact, fact.rule) == ("place-unwritten-bytes", "Q8A8-LAY-2")
    assert fact.where["bytes"] == list(range(18, 34))
    assert fact.sentence == "Every block has bytes that are not written: 18 to 33."
    assert len(fact.explained(failed)) == len(failed)


def test_a_count_modulo_any_number() -> None:
    """Elements beyond the size modulo a number that is no power of two are neither looked at nor written."""
    steps = Steps(reach=lambda size: (size % 700, size % 700))
    facts, failed = facts_about(ACTIVATION, lambda: Kernel({ACTIVATION: steps}))
    assert {fact.fact for fact in facts} == {"place-not-counted", "place-unwritten"}
    assert all(fact.where["position"] == {"kind": "beyond-wrap", "modulus": 700} for fact in facts)
    assert all(any(fact.explains(failure) for fact in facts) for failure in failed)


@pytest.mark.parametrize(("function", "one", "other"), PAIRS)
def test_two_mutations_at_once(function: str, one: str, other: str) -> None:
    """Of two mutations of different kinds both are found by one measurement, and nothing else."""
    facts, failed = facts_of(function, one, other)
    assert {fact.slug for fact in facts} == {one, other}
    assert all(any(fact.explains(failure) for fact in facts) for failure in failed)


@pytest.mark.parametrize("slug", RECIPES)
def test_a_recipe_is_one_fact(slug: str) -> None:
    """A recipe of ggml's is named as a whole; where the profile accepts it, there is none."""
    (fact,), failed = facts_of(ROW, slug)
    assert fact.slug == slug
    assert len(fact.explained(failed)) == len(failed)
    session = InProcessSession(lambda: catalogue.make(slug), FUNCTIONS)
    assert quantizer_facts(session, ROW, [], [slug.removeprefix("recipe:")]) == []


@pytest.mark.parametrize("function", FUNCTIONS[:3])
def test_a_legal_kernel_has_no_facts(function: str) -> None:
    """What conforms differs in nothing from what is specified."""
    for legal in (None, *(slug for slug, kernel in LEGAL.items() if function in kernel.functions)):
        session = InProcessSession(partial(catalogue.make, *filter(None, [legal])), FUNCTIONS)
        assert (
            dequantizer_facts(session, [])
            if function == DEQUANTIZE
            else quantizer_facts(session, function, [])
        ) == []


def test_the_scale_of_no_elements() -> None:
    """A call with size = 0 that leaves the scale as it was is a fact of its own, beside none other."""
    call = calls.activation(np.empty(0, np.float32))
    kept = tuple(bytes(call.buffers[i].data) for i in call.spec.outputs)
    failed = Failure(call, kept, (kept[0], bytes(2)))
    (fact,) = quantizer_facts(InProcessSession(Kernel, FUNCTIONS), ACTIVATION, [failed])
    assert (fact.fact, fact.rule) == ("empty-scale", "Q8A8-QNT-9")
    assert fact.sentence == "With size = 0 the scale is not written."
    assert fact.explained([failed]) == [failed]
