"""Experiments name every mistake in a dot product, and explain the calls that it spoils."""

from __future__ import annotations

import itertools
import json
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8 import layout
from q8a8_conformance.diagnosis.dots import dot_facts
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults import steps as plain
from q8a8_conformance.faults.kernel import DOT, DOT_REAL, DOTS, Kernel, Steps
from q8a8_conformance.inputs import calls, dot_rows, every_value
from q8a8_conformance.mutants import MUTANTS, make
from q8a8_conformance.results.observations import Failure

from .dot_calls import SECONDS, facts_about, failed, one, probe_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call

    Probe = Callable[[Call], tuple[bytes, ...] | None]

MAPPED = frozenset({"lane-lost", "upper-half-lost", "quarters-exchanged", "neighbours-exchanged"})
"""Mistakes that change which codes of a block meet."""

SHOWN_ELSEWHERE = frozenset(
    {"float-products", "truncating-accumulator", "count-of-sixteen-bits", "short-tail-after-tile-lost"}
    | {"same-pointer-symmetric", "single-stored-far", "half-table-entry", "product-table-entry"}
    | {
        "half-through-subnormal-float",
        "half-table-entry-of-y1",
        "hangs-on-1023-blocks",
        "strides-in-sixteen-bits",
        "bs-in-eight-bits",
        "s-added-if-finite",
    }
)
"""Mistakes that these calls do not show: tests of their own make the calls that do."""


_FUNCTIONS = {
    mutant.slug: functions
    for mutant in MUTANTS.values()
    if (functions := [function for function in DOTS if function in mutant.functions])
    and mutant.slug not in SHOWN_ELSEWHERE
}
MISTAKES = [
    (slug, functions[number % len(functions)]) for number, (slug, functions) in enumerate(_FUNCTIONS.items())
]
"""Every mistake, in one of its functions: the first one in one, the next one in the other."""


@pytest.mark.parametrize(("slug", "function"), MISTAKES)
def test_a_mistake_is_measured(slug: str, function: str) -> None:
    """The one fact is the mistake: its slug and rule, with evidence; it explains nearly every failed call."""
    facts, failures = facts_about(function, make(slug))
    assert [fact.cause for fact in facts] == [slug]
    assert facts[0].rule == MUTANTS[slug].rule
    assert facts[0].fix == MUTANTS[slug].fix
    assert 0 < len(facts[0].evidence) <= 3
    assert all(shown.actual != shown.expected for shown in facts[0].evidence)
    assert ("map" in facts[0].where) == (slug in MAPPED)
    assert len(facts[0].explained(failures)) >= 0.85 * len(failures) > 0


def _with_every_value(function: str, kernel: object) -> list[Fact]:
    probe = probe_of(kernel)
    pairs = itertools.chain(
        itertools.islice(every_value.pairs_at_every_place(), 60),
        ((dot_rows.blocks(h, q), dot_rows.blocks(1.0, q)) for h, q in [_under(0x2E66), _under(0x3C01)]),
    )
    failures = failed((one(function, x, y) for x, y in pairs), probe)
    return dot_facts(function, {1: failures}, probe, SECONDS)


def _under(bits: int) -> tuple[float, Array]:
    codes = np.zeros((1, 32), np.int64)
    codes[0, 5] = 1
    return float(np.uint16(bits).view(np.float16)), codes


@pytest.mark.parametrize("slug", ["product-table-entry", "half-table-entry"])
def test_a_wrong_entry_of_a_table(slug: str) -> None:
    """One wrong product of two codes, or one wrong half, is found among all of them."""
    facts = _with_every_value(DOT, make(slug))
    assert [fact.cause for fact in facts] == [slug]


def _drops_the_seventh(nb: int) -> Array:
    return np.delete(np.arange(nb), 6) if nb > 20 else np.arange(nb)


def _drops_one(nb: int) -> Array:
    return np.delete(np.arange(nb), nb * nb % 7) if nb > 9 else np.arange(nb)


def _twice(qx: Array, qy: Array) -> Array:
    return np.asarray(qx.astype(int) * qy * (1 + (np.arange(32) == 3)))


def _shifted(qx: Array, qy: Array) -> Array:
    return np.asarray(qx.astype(int) * np.roll(qy, 1, axis=0))


def _two_entries(qx: Array, qy: Array) -> Array:
    return np.asarray(qx.astype(int) * qy + (qx == -128) * ((qy == 127) | (qy == 1)))


def _minus_two(_of: Array, sums: Array, d: Array) -> np.float32:
    return np.float32((sums * d).sum()) if len(d) else np.float32(-2)


def _in_lanes_of_16_bits(of: Array) -> Array:
    lanes = np.zeros((*of.shape[:-1], 8), int)
    for k in range(0, 32, 8):
        lanes = np.clip(lanes + of[..., k : k + 8], -32768, 32767)
    return np.asarray(lanes.sum(axis=-1))


def _pairs_in_halves(of: Array) -> Array:
    pairs = of.reshape(*of.shape[:-1], 2, 2, 8).sum(axis=-2)
    return np.asarray(pairs.astype(np.int16).sum(axis=(-1, -2)))


def _as_bfloat16(value: float) -> np.float32:
    bits = np.array([value], np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return np.float32(bits.view(np.float32)[0])


def _unsigned_but_every_fourth(qx: Array, qy: Array) -> Array:
    return np.asarray(np.where(np.arange(32) % 4 == 3, qx.astype(int), qx.view(np.uint8)) * qy.astype(int))


def _sign_that_saturates(qx: Array, qy: Array) -> Array:
    return np.asarray(np.abs(qx.astype(int)) * np.minimum(qy.astype(int) * np.where(qx < 0, -1, 1), 127))


def _kept_while_x_is_the_same(dx: Array, dy: Array) -> Array:
    for b in range(1, dy.size):
        dy[b] = dy[b - 1] if dx[b] == dx[b - 1] else dy[b]
    return dx * dy


def _kept_while_the_key_is_the_same(of: Callable[[Array, Array], Array], dx: Array, dy: Array) -> Array:
    key = of(*(np.asarray(d, np.float16).view(np.uint16).astype(int) for d in (dx, dy)))
    d = dx * dy
    for b in range(1, d.size):
        d[b] = d[b - 1] if key[b] == key[b - 1] else d[b]
    return d


def _in_64_bits(terms: Array) -> float:
    whole = np.rint(terms * 2.0**32)
    whole = np.where(np.abs(whole) < 2.0**63, whole, -(2.0**63))
    return sum(map(int, whole)) / 2**32


def _exchanged_in_odd_blocks(xw: Array, xa: Array, yw: Array, ya: Array) -> tuple[Array, Array]:
    odd = np.arange(xw.size) % 2 == 1
    return np.where(odd, xa, xw), np.where(odd, yw, ya)


def _halves_of(size: int, of: Array, sums: Array, d: Array) -> np.float32:
    if len(d) <= size:
        return np.float32(plain.total(of, sums, d))
    with np.errstate(over="ignore"):
        parts = np.add.reduceat(sums * d.astype(float), range(0, len(d), size)).astype(np.float16)
    return np.float32(parts.astype(float).sum())


def _loses_the_first_left_over(nb: int) -> Array:
    return np.delete(np.arange(nb), nb - nb % 4) if nb % 4 > 1 else np.arange(nb)


OTHERS: dict[str, tuple[Steps, str, dict[str, object]]] = {
    "unwritten": (Steps(store=lambda *_: None), "result-not-written", {"n": "any"}),
    "reversed": (Steps(products=lambda qx, qy: qx.astype(int) * qy[:, ::-1]), "block-map", {"lost": []}),
    "twice": (Steps(products=_twice), "block-map", {"twice": [3]}),
    "lower-half-twice": (
        Steps(products=lambda qx, qy: qx.astype(int) * qy * np.repeat([2, 0], 16)),
        "block-map",
        {"lost": [*range(16, 32)], "twice": [*range(16)]},
    ),
    "magnitudes": (
        Steps(products=lambda qx, qy: np.abs(qx.astype(int)) * np.abs(qy.astype(int))),
        "products",
        {"read": dict.fromkeys("xy", "codes are read without their sign")},
    ),
    "unsigned-y": (
        Steps(products=lambda qx, qy: qx.astype(int) * qy.view(np.uint8)),
        "products",
        {"read": {"y": "codes are read as unsigned"}},
    ),
    "unsigned-in-swar": (
        Steps(products=_unsigned_but_every_fourth),
        "products",
        {"elements": [place for place in range(32) if place % 4 != 3]},
    ),
    "sign-saturates": (
        Steps(products=_sign_that_saturates),
        "products",
        {"read": {"y": "code -128 is taken for -127 beside negative ones of x"}},
    ),
    "left-over-lost": (Steps(visited=_loses_the_first_left_over), "block-not-counted", {"at": 2}),
    "first-20": (Steps(visited=lambda nb: np.arange(min(nb, 20))), "block-not-counted", {"at": 21}),
    "seventh": (Steps(visited=_drops_the_seventh), "block-not-counted", {"at": 21}),
    "irregular": (Steps(visited=_drops_one), "block-not-counted", {"at": 10}),
    "shifted": (Steps(products=_shifted), "block-meets-another", {"at": 2}),
    "one-length": (Steps(visited=lambda nb: np.arange(nb - (nb == 33))), "block-not-counted", {"at": 33}),
    "saturating-lanes": (
        Steps(block_sum=_in_lanes_of_16_bits),
        "block-sum",
        {"bits": 16, "ends": "saturates", "parts": {"within": 32, "together": 1, "lanes": 8}},
    ),
    "fixed-point": (
        Steps(scale_product=lambda dx, dy: (dx * dy * np.float32(65536)).astype(int) / np.float32(65536)),
        "scale-product",
        {"of": "product", "unit": -16, "by": "cut"},
    ),
    "scales-added": (
        Steps(scale_product=lambda dx, dy: dx + dy),
        "scale-product",
        {"as": "scales-added"},
    ),
    "scale-kept": (
        Steps(scale_product=_kept_while_x_is_the_same),
        "scale-product",
        {"kept": "product", "kept_under": "x's scale"},
    ),
    "small-products-skipped": (
        Steps(scale_product=lambda dx, dy: np.where(dx * dy < 2.0**-33, 0, dx * dy)),
        "scale-product",
        {
            "as": [
                {"sign": "+", "exponents": [-36, -34], "read": "zero", "value": 0},
                {"sign": "-", "exponents": [-36, 29], "read": "zero", "value": 0},
            ]
        },
    ),
    "fixed-point-sum": (
        Steps(total=lambda _of, sums, d: np.float32(np.rint(sums * d.astype(float) * 2**20).sum() / 2**20)),
        "term-rounded",
        {"unit": -20, "by": "rounded"},
    ),
    "fixed-point-64": (
        Steps(total=lambda _of, sums, d: np.float32(_in_64_bits(sums * d.astype(float)))),
        "term-rounded",
        {"unit": -32, "by": "rounded", "limit": 31, "overflow": "least"},
    ),
    "fixed-point-at-the-end": (
        Steps(
            total=lambda _of, sums, d: np.float32(np.trunc((sums * d.astype(float)).sum() * 2**16) / 2**16)
        ),
        "result-changed",
        {"unit": -16, "by": "cut"},
    ),
    "sign-of-y-lost": (
        Steps(scale_product=lambda dx, dy: dx * np.abs(dy)),
        "scale-read",
        {"as": "magnitude", "operand": "y"},
    ),
    "signed-length": (
        Steps(visited=lambda nb: np.arange(max((32 * nb + 32768) % 65536 - 32768, 0) // 32)),
        "offset-wraps",
        {"unit": "elements", "bits": 16, "from": 1023},
    ),
    "rounded-at-the-end": (
        Steps(total=lambda _of, sums, d: _as_bfloat16((sums * d).sum())),
        "result-changed",
        {"bits": 8},
    ),
    "clamped": (
        Steps(total=lambda _of, sums, d: np.clip(np.float32((sums * d).sum()), -65504, 65504)),
        "result-changed",
        {"limit": 65504.0},
    ),
    "negative-lost": (
        Steps(total=lambda *parts: max(plain.total(*parts), np.float32(0))),
        "result-changed",
        {"as": "zero-for-negative"},
    ),
    "zero-clears": (
        Steps(scale_product=lambda dx, dy: dx * dy * float(not (dx * dy == 0).any())),
        "zero-scale-affects-others",
        {"ends": False},
    ),
    "half-a-warp": (
        Steps(visited=lambda nb: np.flatnonzero(np.arange(nb) % 32 < 16)),
        "block-not-counted",
        {"at": 17},
    ),
    "pairs-in-halves": (
        Steps(block_sum=_pairs_in_halves),
        "block-sum",
        {"bits": 16, "ends": "wraps", "parts": {"within": 16, "together": 1, "lanes": 8}},
    ),
    "two-entries": (Steps(products=_two_entries), "product-wrong", {"x": -128}),
    "halves-of-eight": (
        Steps(total=partial(_halves_of, 8)),
        "chunk-sums",
        {"size": 8, "lanes": False, "bits": 11, "once": True},
    ),
    "halves-of-512": (
        Steps(total=partial(_halves_of, 512)),
        "chunk-sums",
        {"size": 512, "lanes": False, "bits": 11, "once": True},
    ),
    "minus-two": (Steps(total=_minus_two), "empty-row-value", {"value": -2.0}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_fault_that_is_in_no_catalogue(name: str) -> None:
    """Where the catalogue has no name for it, the fact is measured all the same."""
    steps, fact, where = OTHERS[name]
    facts, failures = facts_about(DOT, Kernel({DOT: steps}))
    assert facts[0].fact == fact
    assert {key: facts[0].where[key] for key in where} == where
    assert facts[0].explained(failures)
    json.dumps(facts[0].to_json())


KEYS: dict[str, Callable[[Array, Array], Array]] = {
    "xor": np.bitwise_xor,
    "sum": np.add,
    "difference": np.subtract,
}
UNDER = {
    "xor": "the exclusive or of x's bits and y's",
    "sum": "the sum of their bits",
    "difference": "the difference of their bits",
}


@pytest.mark.parametrize("name", KEYS)
def test_scales_that_are_kept_while_a_key_of_both_is_the_same(name: str) -> None:
    """Two pairs of scales that are not equal may share what they are told apart by."""
    probe = probe_of(Kernel({DOT: Steps(scale_product=partial(_kept_while_the_key_is_the_same, KEYS[name]))}))
    scales = np.array([0.5, 0.75, 1, 1.5, 2])
    rng = dot_rows.generator("keys")
    rows = (
        [dot_rows.blocks(rng.choice(scales, 40), rng.integers(1, 5, (40, 32))) for _ in "xy"]
        for _ in range(8)
    )
    failures = failed((calls.dot(*pair) for pair in rows), probe)
    (fact,) = dot_facts(DOT, {1: failures}, probe, SECONDS)
    assert fact.fact == "scale-product"
    assert fact.where == {"kept": "product", "kept_under": UNDER[name], "across_calls": False}
    assert len(fact.explained(failures)) == len(failures) > 0


def test_the_scale_of_the_other_role_in_odd_blocks() -> None:
    """The fact is which blocks take it, not that an unused scale has an influence."""
    facts, failures = facts_about(DOT_REAL, Kernel({DOT_REAL: Steps(pick=_exchanged_in_odd_blocks)}))
    assert [fact.fact for fact in facts] == ["version-2-field"]
    assert facts[0].where["blocks"]["position"] == {"kind": "last-of-tile", "tile": 2}
    assert len(facts[0].explained(failures)) == len(failures)


def _sign_of_the_other(xw: Array, xa: Array, _yw: Array, ya: Array) -> tuple[Array, Array]:
    return np.copysign(xw, xa), ya


def test_the_sign_of_the_other_scale() -> None:
    """One fact explains scales that lose their sign, and unused ones that have an influence."""
    facts, failures = facts_about(DOT_REAL, Kernel({DOT_REAL: Steps(pick=_sign_of_the_other)}))
    assert [fact.sentence for fact in facts] == [
        "Of x its own scale with the sign of that of the other role is used."
    ]
    assert facts[0].explained(failures) == failures


class _KeptSum(Kernel):
    """Adds the sum of the last block of every 4 to that of the next block, too."""

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Compute the usual results, and add what is kept."""
        super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, vx, bx, vy, by, nrc)
        if nrc == 1 and n:
            x, y = (layout.as_blocks(rows[: n // 32 * 34].tobytes(), layout.BLOCK_Q8_A8) for rows in (vx, vy))
            d = x["weight_scale"].astype(float) * y["weight_scale"].astype(float)
            sums = (x["weight_qs"].astype(int) * y["weight_qs"]).sum(axis=1)
            s[0] += np.float32((sums[3:-1:4] * d[4::4]).sum())


def test_a_sum_that_is_not_reset() -> None:
    """The sum of a block that is added again comes under the scales of the block that it is added to."""
    facts, failures = facts_about(DOT, _KeptSum())
    assert [fact.fact for fact in facts] == ["sum-added-again"]
    assert facts[0].sentence == (
        "The first block of every 4 but the first adds the sum of block b - 1 as well, under its own scales."
    )
    assert facts[0].explained(failures) == failures


def _beside_a_large_term(nb: int) -> Call:
    """Return 2^24 and many products of 1, of which each is lost alone beside it."""
    codes, scales = np.ones((nb, 32), np.int64), np.ones(nb)
    codes[0], scales[0] = 0, 64
    codes[0, 0] = 64
    rng = np.random.default_rng(nb)
    x = dot_rows.blocks(scales, codes)
    codes[1:, :3] = rng.integers(1, 4, (nb - 1, 3))
    return calls.dot(x, dot_rows.blocks(scales, codes))


@pytest.mark.parametrize("slug", ["truncating-accumulator", "float-products"])
def test_roundings(slug: str) -> None:
    """Sums that are cut off, and blocks that are added in parts, are found by single roundings."""
    probe = probe_of(make(slug))
    made = [_beside_a_large_term(nb) for nb in (500, 2000)]
    failures = [Failure(call, (probe(call) or (b"",)), replay(make(), call)) for call in made]
    facts = dot_facts(DOT, {1: failures}, probe, SECONDS)
    assert [fact.cause for fact in facts] == [slug]


PAIRED = (
    *("half-flushed-on-read", "scale-read-big-endian", "minus-128-sign", "block-in-int16"),
    *("fp16-scale-product", "last-block-twice", "results-exchanged", "bx-ignored"),
)
"""A mistake in each kind of step."""
APART = [(i, (i + apart) % len(PAIRED)) for i in range(len(PAIRED)) for apart in (1, 3)]
PAIRS = [(PAIRED[min(pair)], PAIRED[max(pair)]) for pair in APART]
"""Each mistake with four others: a pair takes ten seconds."""


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_two_mistakes(pair: tuple[str, str]) -> None:
    """Two mistakes in different steps are both found, in an order of additions that is not the scalar one."""
    facts, _ = facts_about(DOT, make("order-neon-dotprod", *pair))
    assert {fact.cause for fact in facts} == set(pair)


@pytest.mark.parametrize("slug", ["lane-lost", "half-bit-lost", "odd-block-lost"])
def test_a_mistake_that_another_one_hides(slug: str) -> None:
    """What is added to what s held hides the rest: the second mistake is found all the same."""
    facts, _ = facts_about(DOT, make("s-added", slug))
    assert {fact.cause for fact in facts} == {"s-added", slug}


def test_a_kernel_that_does_not_return() -> None:
    """Where no call returns there is no fact."""
    call = calls.dot(*dot_rows.exact_pair(1))
    assert dot_facts(DOT, {1: [Failure(call, (bytes(4),), (bytes(4),))]}, lambda _: None) == []
