"""Wrong kernels of the catalogue through the command: verdict, exit status, rules, and what is printed.

`conformance/tests/lab/mutation/test_gate.py` judges every mutant; these tests check what the command adds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Tested

MUTANTS = "py:q8a8_conformance.mutants"


@pytest.mark.parametrize(
    ("kernel", "selected", "failed"),
    [
        (f"{MUTANTS}:round_half_even", "QNT-*,HLF-*,LAY-*", {"QNT-4"}),
        # A rule that no kernel must follow fails as well.
        (f"{MUTANTS}:results_exchanged", "DOT-6,DOT-11,DOT-10", {"DOT-6", "DOT-11"}),
        # The broken rule, LAY-3, is not selected: the rules of the failed cases are what fails.
        (f"{MUTANTS}:v2_fields_exchanged", "DOT-9,LAY-5,DOT-5", {"DOT-9", "LAY-5"}),
        # An exception is a failure of every rule of its case.
        ("py:partial_kernels:Refusing", "ENV-*,DEQ-1,LAY-2", {"ENV-4", "DEQ-1", "LAY-2"}),
    ],
)
def test_a_wrong_kernel_does_not_conform(
    q8a8_test: Callable[..., Tested], kernel: str, selected: str, failed: set[str]
) -> None:
    """A wrong kernel does not conform, exits with 1, and fails the rules that it breaks and no others."""
    tested = q8a8_test(kernel, "--rules", selected)
    assert (tested.report["verdict"], tested.status) == ("does-not-conform", 1), tested.out
    assert tested.rules("fail", "crashed") == failed, tested.out


def test_a_value_is_no_matter_of_the_calls_before(q8a8_test: Callable[..., Tested]) -> None:
    """A value that is wrong after a call outside the domain, and was before it, breaks its own rule alone."""
    tested = q8a8_test(f"{MUTANTS}:round_half_even", "--case", "unspecified/next/quantize_row_q8_a8")
    assert tested.rules("fail") == {"QNT-4"}, tested.out


def test_a_cause_that_is_found_is_not_called_unknown(q8a8_test: Callable[..., Tested]) -> None:
    """What is asked first shows a wrong result without a hint, where the experiments find the cause."""
    tested = q8a8_test(f"{MUTANTS}:upper_half_lost", "--case", "dot/exact/blocks-3")
    hints = {stage["stage"]: stage["hint"] for stage in tested.report["setup"]}
    assert hints["ggml_vec_dot_q8_a8_q8_a8"] == ""
    assert "upper-half-lost" in tested.out


@pytest.mark.parametrize(
    ("name", "selected", "broken"),
    [("over_read_byte", "MEM-1,MEM-4", "MEM-1"), ("crashes_on_63_blocks", "ENV-4,DEQ-*", "ENV-4")],
)
def test_a_crash_costs_one_case(
    q8a8_test: Callable[..., Tested], name: str, selected: str, broken: str
) -> None:
    """A kernel that crashes fails that rule, exits with 3, and the other cases still run."""
    tested = q8a8_test(f"{MUTANTS}:{name}", "--rules", selected)
    assert (tested.report["verdict"], tested.status) == ("crashed", 3), tested.out
    assert broken in tested.rules("crashed")
    (rule,) = [rule for rule in tested.report["rules"] if rule["id"] == f"Q8A8-{broken}"]
    assert 0 < rule["failed"] < rule["cases"]


def test_a_hang_costs_one_case(q8a8_test: Callable[..., Tested]) -> None:
    """A kernel that hangs on one shape is stopped, fails the rule, and the other cases still run."""
    tested = q8a8_test(f"{MUTANTS}:hangs_on_1023_blocks", "--rules", "ENV-4,DEQ-3", "--timeout", "3")
    assert (tested.report["verdict"], tested.status) == ("crashed", 3), tested.out
    assert tested.rules("crashed") == {"ENV-4"}
    assert tested.rules("pass") == {"DEQ-3"}
    assert "hung" in tested.out


def test_threads_meet_scales_of_every_kind(q8a8_test: Callable[..., Tested]) -> None:
    """Rows in other threads, as those in other processes and in first calls, have subnormal scales, too."""
    kernel, case = (
        "py:partial_kernels:SubnormalInOtherThreads",
        "environment/threads/ggml_vec_dot_q8_a8_q8_a8",
    )
    tested = q8a8_test(kernel, "--case", case)
    assert tested.rules("fail") == {"ENV-3"}, tested.out


def test_a_death_counts_whatever_rules_were_asked_for(q8a8_test: Callable[..., Tested]) -> None:
    """A case whose call died judges nothing: its rule is not passed, and the verdict is crashed."""
    tested = q8a8_test("py:partial_kernels:Dying", "--rules", "ENV-3")
    assert (tested.report["verdict"], tested.status) == ("crashed", 3), tested.out
    assert tested.rules("crashed") == {"ENV-4"}
    assert tested.rules("not-run") == {"ENV-3"}
    assert "returned no result" in tested.out


def test_the_cause_and_its_fix_are_printed(q8a8_test: Callable[..., Tested]) -> None:
    """The diagnosis names the mistake, explains every result with it, and prints how to mend it."""
    tested = q8a8_test(f"{MUTANTS}:minus_128_sign", "--rules", "DOT-1,ORD-2")
    causes = {f["function"]: f for f in tested.report["diagnosis"] if f["cause"] == "minus-128-sign"}
    found = causes["ggml_vec_dot_q8_a8_q8_a8"]
    assert found["explained"] == found["of"] > 0
    assert found["fix"]
    assert found["fix"] in tested.out


def test_integers_saturate_in_long_rows_alone(q8a8_test: Callable[..., Tested]) -> None:
    """The ends of int8 fill long rows, too: a path for them may add integers in another way."""
    tested = q8a8_test("py:partial_kernels:SaturatingLongRows", "--case", "dot/edges")
    assert tested.rules("fail") == {"DOT-1"}
    (found, *_) = [one for one in tested.report["diagnosis"] if one["cause"] == "pairs-saturate"]
    assert found["explained"] == found["of"] > 0


@pytest.mark.parametrize(
    ("case", "rules"),
    [
        ("lengths/dot/widths", {"DOT-10"}),
        ("lengths/activation/4194305", {"QNT-9"}),
        ("mul-mat-calls/changed", {"ENV-2"}),
        ("mul-mat/every-value/inverse", {"MUL-4"}),
    ],
)
def test_rare_lengths_and_values_are_judged(
    q8a8_test: Callable[..., Tested], case: str, rules: set[str]
) -> None:
    """One width, a long odd vector, weights at an address they had, and one amax in thousands are found."""
    tested = q8a8_test("py:partial_kernels:RareRows", "--case", case)
    assert tested.rules("fail") == rules, tested.out


def test_a_path_for_aligned_outputs_is_told_with_its_addresses(q8a8_test: Callable[..., Tested]) -> None:
    """What is wrong where plain calls lie is wrong for their addresses if it is right elsewhere."""
    tested = q8a8_test("py:partial_kernels:Streaming", "--case", "dequantize/*")
    said = "Where y lies at 0 mod 32: The codes of a block come out in groups of 8 in the order 0, 2, 1, 3."
    assert [one["sentence"] for one in tested.report["diagnosis"] if one["fix"]] == [said]
