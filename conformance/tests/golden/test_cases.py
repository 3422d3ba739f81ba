"""The coverage of the cases: rules, boundaries, sizes, pairs of recipes."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from q8a8_golden import oracle
from q8a8_golden.cases import FUNCTIONS, POISON, Bound, Case, Exact, Unspecified
from q8a8_golden.generate.minimal import KILLERS
from q8a8_golden.load import load_cases

CASES = load_cases()
EXACT = [case for case in CASES if isinstance(case.outcome, Exact)]
QUANTIZERS = [case for case in EXACT if case.function.startswith("quantize")]

# Every kernel rule with level MUST that can be tested by result bytes. (MEM and ENV need more than bytes.)
TESTABLE = [
    *(f"LAY-{i}" for i in (1, 2, 3, 5)),
    *(f"HLF-{i}" for i in (1, 2, 3, 4)),
    *(f"QNT-{i}" for i in range(1, 12)),
    *(f"DEQ-{i}" for i in (1, 2, 3)),
    *(f"DOT-{i}" for i in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12)),
    "ORD-2",
]


def patterns(data: bytes) -> list[int]:
    """Return the f32 patterns of a buffer."""
    return [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]


def blocks_of(case: Case) -> list[list[int]]:
    """Return the groups of elements that share a scale in a quantizer's case."""
    if case.function == "quantize_activation_q8_a8":
        return [patterns(case.inputs["input"])]
    xs = patterns(case.inputs["x"])
    return [xs[at : at + 32] for at in range(0, len(xs), 32)]


@pytest.mark.parametrize("rule", TESTABLE)
def test_every_testable_rule_has_cases(rule: str) -> None:
    """Every testable rule has at least two cases; the rule of the empty row has one."""
    assert sum(f"Q8A8-{rule}" in case.rules for case in CASES) >= (1 if rule == "DEQ-3" else 2)


def test_ids_are_paths_and_unique() -> None:
    """Ids are unique lower-case paths, and rules are cited by full id."""
    assert len({case.id for case in CASES}) == len(CASES)
    for case in CASES:
        assert re.fullmatch(r"[a-z0-9-]+(/[a-z0-9-]+){2,3}", case.id)
        assert all(re.fullmatch(r"Q8A8-[A-Z]{3}-[1-9][0-9]?", rule) for rule in case.rules)


def test_every_reason_is_a_sentence() -> None:
    """Each `why` is one short sentence on one line."""
    for case in CASES:
        assert re.fullmatch(r"[^\n]{15,180}\.", case.why), case.why


def test_buffers_and_arguments_are_those_of_the_abi() -> None:
    """Each case has its function's buffers and integer arguments."""
    for case in CASES:
        function = FUNCTIONS[case.function]
        assert tuple(case.inputs) == function.inputs
        assert tuple(case.outputs) == function.outputs
        buffers = {*function.inputs, *function.outputs}
        assert {*case.args} == {*function.parameters} - buffers


def test_every_function_has_cases() -> None:
    """Each of the six functions has cases."""
    assert {case.function for case in CASES} == {*FUNCTIONS}


def test_expected_buffers_keep_the_poison() -> None:
    """Expected buffers keep the poison outside the written runs, and do not depend on it inside."""
    for case in EXACT:
        if case.before:
            continue
        a, b = case.expected(), case.expected(poison=b"\x11")
        for name, runs in case.written().items():
            inside = {at for run in runs for at in range(run.offset, run.offset + len(run.data))}
            before = case.poisoned()[name]
            for at, (one, other) in enumerate(zip(a[name], b[name], strict=True)):
                assert one == other if at in inside else (one, other) == (before[at], 0x11)


def test_contents_before_a_call_replace_the_poison() -> None:
    """Some cases have finite numbers in s before the call, whatever the poison."""
    held = [case for case in CASES if case.before]
    dots = {"ggml_vec_dot_q8_a8_q8_a8", "ggml_vec_dot_q8_a8_q8_a8_real"}
    assert {case.function for case in held} == {*dots, "mul_mat_q8_a8"}
    for case in held:
        assert case.poisoned() == case.poisoned(b"\x11") == dict(case.before)
        (name,) = case.outputs
        assert all(oracle.finite(bits, oracle.F32) for bits in patterns(case.before[name]))
        assert case.expected()[name] != case.before[name]


def test_poison_is_a_quiet_nan() -> None:
    """The poison is a quiet NaN, so that a kernel that adds to s gives a NaN."""
    bits = int.from_bytes(POISON, "little")
    assert bits & 0x7FC00000 == 0x7FC00000


def test_unspecified_cases_expect_nothing() -> None:
    """The expected bytes of an unspecified case raise an error with its id."""
    case = next(case for case in CASES if isinstance(case.outcome, Unspecified))
    with pytest.raises(ValueError, match=case.id):
        case.expected()


def test_bounds_exclude_zero() -> None:
    """The recorded bits are inside every bound; zero is not, except in the cases with small sums."""
    for case in CASES:
        if not isinstance(case.outcome, Bound):
            continue
        for result in case.outcome.results:
            assert oracle.within_bound(result.bits, result.exact, result.magnitude, result.m)
            if "cancelling" not in case.id and "swallowing" not in case.id and result.magnitude:
                assert not oracle.within_bound(0, result.exact, result.magnitude, result.m), case.id


@pytest.mark.parametrize(("one", "other"), list(combinations(oracle.RECIPES, 2)))
def test_every_pair_of_recipes_differs(one: str, other: str) -> None:
    """Every pair of recipes differs in at least `KILLERS` cases of the topics where all are defined."""
    topics = ("quantize/boundaries/", "quantize/ties/", "quantize/recipes/")
    cases = [case for case in QUANTIZERS if case.id.startswith(topics) and case.id.endswith("/row")]
    apart = [case.id for case in cases if case.expected(f"recipe:{one}") != case.expected(f"recipe:{other}")]
    assert len(apart) >= KILLERS


@pytest.mark.parametrize("recipe", [name for name in oracle.RECIPES if name != "design"])
def test_every_recipe_is_an_alternative_of_many_cases(recipe: str) -> None:
    """Every other recipe is an alternative in at least 30 cases, with different bytes."""
    named = [
        case
        for case in QUANTIZERS
        if isinstance(case.outcome, Exact) and f"recipe:{recipe}" in case.outcome.alternatives
    ]
    assert len(named) >= 30
    for case in named:
        assert case.expected(f"recipe:{recipe}") != case.expected()


def test_other_recipes_fail_only_cases_about_recipes() -> None:
    """Other recipes differ only in cases of the rounding rules, not of the maximum or the scale."""
    for case in QUANTIZERS:
        if isinstance(case.outcome, Exact) and case.outcome.alternatives:
            assert {"Q8A8-QNT-3", "Q8A8-QNT-4"} & {*case.rules}, case.id


def test_rounding_boundaries_from_both_sides() -> None:
    """For each amax and every k: the first element that reaches k + 0.5, and the f32 before it."""
    for case in QUANTIZERS:
        if not (case.id.startswith("quantize/boundaries/") and case.id.endswith("/row")):
            continue
        codes: dict[int, int] = {}
        for xs in blocks_of(case):
            result = oracle.quantize(xs)
            assert result is not None
            codes |= dict(zip(xs, result.codes, strict=True))
        for sign in (0, 1 << 31):
            steps = []
            for x, q in codes.items():
                if x & 1 << 31 == sign and abs(codes.get(x - 1, q)) == abs(q) - 1:
                    steps.append(abs(q))
            assert sorted(steps) == list(range(1, 128)), case.id


def test_ties_of_every_size_and_sign() -> None:
    """There are exact ties k + 0.5 for every k, both signs and ten scales."""
    exponents = set()
    for case in QUANTIZERS:
        if not (case.id.startswith(("quantize/ties/", "quantize/boundaries/")) and case.id.endswith("/row")):
            continue
        unit = oracle.value(oracle.amax(patterns(case.inputs["x"])), oracle.F32) / 127
        ties = {2 * oracle.value(x, oracle.F32) / unit for x in patterns(case.inputs["x"])}
        if {(2 * k + 1) * sign for k in range(127) for sign in (1, -1)} <= ties:
            exponents.add(unit.numerator.bit_length() - unit.denominator.bit_length())
    assert {-24, -20, -15, -14, -3, -1, 0, 1, 7, 15} <= exponents


@pytest.mark.parametrize(
    "scale",
    [0x0000, 0x0001, 0x0002, 0x03FF, 0x0400, 0x7BFF, *range(0x0400, 0x7C00, 0x0400)],
    ids="{:#06x}".format,
)
def test_scales_at_every_edge_of_half_are_produced(scale: int) -> None:
    """Some case has this scale: zero, the smallest, the largest subnormal, each power of two, the largest."""
    for case in QUANTIZERS:
        data = case.expected().get("y", b"")
        scales = {int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data) - 1, 34)}
        scales.add(int.from_bytes(case.expected().get("scale", b"\xff\xff"), "little"))
        if scale in scales:
            return
    pytest.fail(f"no case has the scale {scale:#06x}")


def test_activation_sizes() -> None:
    """The sizes include zero, one, the neighbours of 16, 32, 64 and 128, and long ones."""
    sizes = {case.args["size"] for case in CASES if case.function == "quantize_activation_q8_a8"}
    assert {0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 1000, 4096} <= sizes


@pytest.mark.parametrize(
    ("function", "size"), [("ggml_vec_dot_q8_a8_q8_a8", 34), ("ggml_vec_dot_q8_a8_q8_a8_real", 36)]
)
def test_block_counts(function: str, size: int) -> None:
    """The block counts include 0 to 9 and 255 to 257, and the buffers are long enough."""
    counts = {case.args["n"] // 32 for case in EXACT if case.function == function}
    assert {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255, 256, 257} <= counts
    for case in CASES:
        if case.function == function:
            assert len(case.inputs["vx"]) >= case.args["n"] // 32 * size


def test_strides_larger_than_necessary() -> None:
    """The strides of s, x and y vary separately, at odd multiples of two bytes too."""
    pairs = [case.args for case in CASES if case.args.get("nrc") == 2]
    assert {2, 3, 5, 16, 33} <= {args["bs"] for args in pairs}
    for stride in ("bx", "by"):
        gaps = {args[stride] - args["n"] // 32 * 34 for args in pairs}
        assert {0, 2, 6, 34, 70} <= gaps
    assert any(args["bx"] != args["by"] for args in pairs)


def test_minus_128_is_in_every_lane_of_either_side() -> None:
    """-128 occurs in every lane of x, of y and of both, alone in its block."""
    lanes = {"x": set[int](), "y": set[int](), "both": set[int]()}
    for case in EXACT:
        if case.function != "ggml_vec_dot_q8_a8_q8_a8" or case.args["n"] != 32:
            continue
        (x,), (y,) = (oracle.parse(case.inputs[name][:34]) for name in ("vx", "vy"))
        for lane in range(32):
            if x.codes.count(-128) <= 1 and y.codes.count(-128) <= 1:
                kind = {(True, False): "x", (False, True): "y", (True, True): "both"}
                found = kind.get((x.codes[lane] == -128, y.codes[lane] == -128))
                if found:
                    lanes[found].add(lane)
    assert lanes == {key: set(range(32)) for key in lanes}


def test_unused_fields_of_version_2() -> None:
    """The unused fields of x and y include zeros, NaNs, infinities and ordinary numbers."""
    other_x, other_y = set(), set()
    for case in CASES:
        if case.function.endswith("_real") and case.args["n"]:
            other_x.add(int.from_bytes(case.inputs["vx"][2:4], "little"))
            other_y.add(int.from_bytes(case.inputs["vy"][0:2], "little"))
    for fields in (other_x, other_y):
        assert {0x0000, 0x8000, 0x7E00, 0x7C01, 0x7C00, 0xFC00, 0x4200} <= fields
