"""The release check of the reference's mutants: how it reads, compares and lists them."""

from __future__ import annotations

from functools import reduce
from importlib import import_module

import pytest

from q8a8_lab.mutation.reference import MODULES, Survivor, equivalents, judge, read_survivor

DIFFERENCE = """--- src/q8a8/bound.py
+++ src/q8a8/bound.py
@@ -1,3 +1,3 @@
 def f(x):
-    return x + 1
+    return x - 1
"""


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("q8a8.bound.x_roundings__mutmut_14", "bound.roundings"),
        ("q8a8.bound.x__terms__mutmut_3", "bound._terms"),
        ("q8a8.abi.xǁReferenceǁ__init____mutmut_8", "abi.Reference.__init__"),
    ],
)
def test_a_survivor_is_named_by_function_and_lines(name: str, function: str) -> None:
    """A mutant's key holds no line number, so that it stays when lines move."""
    assert read_survivor(name, DIFFERENCE) == Survivor(function, "return x + 1", "return x - 1")


def test_the_list_and_the_survivors_must_agree() -> None:
    """A survivor that is not listed fails the check, and so does an entry that does not survive."""
    one, two, three = (Survivor("bound.f", "a", after) for after in "bcd")
    assert judge([one, two], [two, three]) == ([one], [three])
    assert judge([one], [one]) == ([], [])


def test_every_entry_has_a_reason_and_a_function() -> None:
    """An entry says why it is equivalent, and names a function of a module that is mutated."""
    for mutant, reason in equivalents().items():
        module, *names = mutant.function.split(".")
        assert reason
        assert module in MODULES
        assert callable(reduce(getattr, names, import_module(f"q8a8.{module}")))
        assert mutant.before != mutant.after
