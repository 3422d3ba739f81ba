"""Kernels that are wrong on purpose: each is caught, and the right rule is blamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Tested

FAST = "quantize_row_q8_a8"
DOT = "ggml_vec_dot_q8_a8_q8_a8"
QUANTIZE = "QNT-*,HLF-*,LAY-*"
DOTS = "DOT-*,ORD-*"

# A wrong largest magnitude changes the scale and with it everything else.
AFTER_AMAX = {"HLF-1", "HLF-2", "HLF-4", *(f"QNT-{number}" for number in (2, 3, 4, 5, 6, 7, 9, 10))}

# A kernel, the rules that are run, those of them that it breaks, and those it cannot help breaking too.
WRONG = [
    ("broken_kernels:HalfEven", QUANTIZE, {"QNT-4"}, {"QNT-10"}),
    ("broken_kernels:OneOverD", QUANTIZE, {"QNT-3", "QNT-6"}, {"QNT-4", "QNT-10"}),
    ("broken_kernels:TruncatingHalf", QUANTIZE, {"HLF-1"}, {"QNT-2", "QNT-10"}),
    ("broken_kernels:FlushedHalf", QUANTIZE, {"HLF-2"}, {"HLF-1", "QNT-2", "QNT-10"}),
    ("broken_kernels:FlushedDequantize", "DEQ-*,HLF-*", {"HLF-2"}, {"DEQ-1", "DEQ-2"}),
    ("broken_kernels:SignedLargest", QUANTIZE, {"QNT-1"}, AFTER_AMAX),
    ("broken_kernels:LastSkipped", QUANTIZE, {"QNT-1"}, AFTER_AMAX),
    ("broken_kernels:WholeRow", QUANTIZE, {"QNT-7"}, AFTER_AMAX | {"QNT-1"}),
    ("broken_kernels:ZeroTestOnD", QUANTIZE, {"QNT-3", "QNT-6"}, {"QNT-10"}),
    ("broken_kernels:LowestCode", QUANTIZE, {"QNT-5"}, {"QNT-10"}),
    ("broken_kernels:DifferentFunctions", "QNT-8,QNT-4", {"QNT-8", "QNT-4"}, set()),
    ("broken_kernels:ActivationRemainder", "QNT-9,QNT-10,QNT-7", {"QNT-9"}, set()),
    ("broken_kernels:SignTrick", "DOT-1", {"DOT-1"}, set()),
    ("broken_kernels:HalfScale", "DOT-2,ORD-2", {"DOT-2"}, set()),
    ("broken_kernels:HalfSum", "ORD-2,DOT-4", {"ORD-2", "DOT-4"}, set()),
    ("broken_kernels:UnsignedScale", "DOT-8", {"DOT-8"}, set()),
    ("broken_kernels:OddBlockDropped", "DOT-10,DOT-5,DOT-12", {"DOT-10"}, {"DOT-12"}),
    ("broken_kernels:LanesSwapped", "DOT-6,DOT-11,DOT-10", {"DOT-6", "DOT-11"}, set()),
    ("broken_kernels:StridesIgnored", "DOT-6,DOT-10", {"DOT-6"}, set()),
    ("broken_kernels:Accumulated", "DOT-7,DOT-10", {"DOT-7"}, set()),
    ("broken_kernels:StrideRead", "DOT-12,DOT-10", {"DOT-12"}, set()),
    ("broken_kernels:FieldsSwapped", "DOT-9,LAY-5,DOT-5", {"DOT-9", "LAY-5"}, set()),
    ("unruly_kernels:InputWritten", "MEM-*", {"MEM-3"}, set()),
    ("unruly_kernels:BeyondWritten", "MEM-2,MEM-3,MEM-4", {"MEM-2"}, set()),
    ("unruly_kernels:RoundingLeft", "ENV-1,ENV-3", {"ENV-1"}, set()),
    ("broken_kernels:Varying", "ENV-2", {"ENV-2"}, set()),
    ("unruly_kernels:SharedScratch", "ENV-*", {"ENV-3"}, set()),
    ("unruly_kernels:RaiseOnShape", "ENV-*,DEQ-1,LAY-2", {"ENV-4", "DEQ-1", "LAY-2"}, set()),
]


@pytest.mark.parametrize(("kernel", "rules", "broken", "besides"), WRONG, ids=[name for name, *_ in WRONG])
def test_wrong_kernels_are_blamed(
    q8a8_test: Callable[..., Tested], kernel: str, rules: str, broken: set[str], besides: set[str]
) -> None:
    """A wrong kernel does not conform, exits with 1, and is blamed for what it breaks and nothing else."""
    tested = q8a8_test(f"py:{kernel}", "--rules", rules)
    assert (tested.report["verdict"], tested.status) == ("does-not-conform", 1), tested.out
    failed = tested.rules("fail", "crashed")
    assert broken <= failed <= broken | besides, tested.out


@pytest.mark.parametrize(
    ("kernel", "rules", "broken"),
    [
        ("unruly_kernels:BeyondRead", "MEM-1,MEM-4", "MEM-1"),
        ("unruly_kernels:Aligned", "MEM-4,MEM-2", "MEM-4"),
        ("unruly_kernels:CrashOnShape", "ENV-4,DEQ-*", "ENV-4"),
    ],
)
def test_deaths_cost_one_case(q8a8_test: Callable[..., Tested], kernel: str, rules: str, broken: str) -> None:
    """A kernel that dies is blamed for that, exits with 3, and the other cases still run."""
    tested = q8a8_test(f"py:{kernel}", "--rules", rules)
    assert tested.report["verdict"] == "crashed", tested.out
    assert tested.status == 3
    assert broken in tested.rules("crashed")
    assert all(
        0 < rule["failed"] < rule["cases"] for rule in tested.report["rules"] if rule["id"].endswith(broken)
    )


def test_a_hang_costs_one_case(q8a8_test: Callable[..., Tested]) -> None:
    """A kernel that hangs on one shape is killed, blamed, and the other cases still run."""
    tested = q8a8_test("py:unruly_kernels:HangOnShape", "--rules", "ENV-4,DEQ-3", "--timeout", "0.5")
    assert (tested.report["verdict"], tested.status) == ("crashed", 3), tested.out
    assert tested.rules("crashed") == {"ENV-4"}
    assert tested.rules("pass") == {"DEQ-3"}
    assert "hung" in tested.out


@pytest.mark.parametrize(
    ("kernel", "function", "cause", "rules"),
    [
        ("broken_kernels:HalfEven", FAST, "round-half-even", QUANTIZE),
        ("broken_kernels:OneOverD", FAST, "recipe:ggml-ref", QUANTIZE),
        ("broken_kernels:SignTrick", DOT, "minus-128-sign", "DOT-1,ORD-2"),
        ("broken_kernels:HalfScale", DOT, "fp16-scale-product", "DOT-2,ORD-2"),
        ("broken_kernels:TruncatingHalf", FAST, "half-truncated", QUANTIZE),
    ],
)
def test_causes_are_named(
    q8a8_test: Callable[..., Tested], kernel: str, function: str, cause: str, rules: str
) -> None:
    """The diagnosis names the mistake, explains every result with it, and says how to mend it."""
    tested = q8a8_test(f"py:{kernel}", "--rules", rules)
    (found,) = [f for f in tested.report["diagnosis"] if f["function"] == function and f["cause"] == cause]
    if cause != "unexplained":
        assert found["explained"] == found["of"] > 0
        assert found["fix"]
        assert found["fix"] in tested.out
