"""A vector is written only if all implementations agree: one wrong implementation stops it."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from q8a8_golden.cases import Exact, Unspecified, Written
from q8a8_golden.generate import store
from q8a8_golden.generate.agree import DisagreementError, agreed_case
from q8a8_golden.generate.draft import (
    Draft,
    activation,
    dequantize,
    dot,
    dot_v2,
    mul_mat,
    quantize_row,
    rules,
)
from q8a8_golden.generate.implementations import OracleImplementation
from q8a8_golden.generate.kernel import KernelError, KernelImplementation
from q8a8_golden.generate.numbers import block, block_v2, f32

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from q8a8_golden.cases import Outputs
    from q8a8_golden.generate.agree import BoundImplementation, Implementations
    from q8a8_golden.generate.implementations import Call, Implementation
    from q8a8_golden.generate.store import Killer

ABOUT = rules("QNT-4")
WHY = "A reason that is long enough."
ROW = [f32(j - 16) for j in range(32)]
BLOCK = block(0x3C01, [3 * j - 50 for j in range(32)])
BLOCK_V2 = block_v2(0x3C01, 0x3C01, [3 * j - 50 for j in range(32)])

DRAFTS: dict[str, Draft] = {
    "quantize_row": quantize_row("t/row", WHY, ABOUT, ROW),
    "activation": activation("t/activation", WHY, ABOUT, ROW[:5]),
    "dequantize": dequantize("t/dequantize", WHY, ABOUT, BLOCK),
    "dot": dot("t/dot", WHY, ABOUT, BLOCK * 3, BLOCK * 3, kind="bound"),
    "mul_mat": mul_mat("t/product", WHY, ABOUT, [BLOCK * 3], [[*ROW] * 3] * 2, k=96, kind="bound"),
    "dot_v2": dot_v2("t/dot-v2", WHY, ABOUT, BLOCK_V2 * 3, BLOCK_V2 * 3, kind="bound"),
}


class WrongOracle(OracleImplementation):
    """The oracle with the last bit of every run flipped."""

    def outputs(self, call: Call, function: str, recipe: str = "design") -> Outputs | None:
        """Return the oracle's runs, with the last bit of each flipped."""
        outputs = super().outputs(call, function, recipe)
        if outputs is None:
            return None
        return {
            name: tuple(Written(run.offset, run.data[:-1] + bytes([run.data[-1] ^ 1])) for run in runs)
            for name, runs in outputs.items()
        }


class WrongImplementation:
    """An implementation with the last bit of every buffer flipped, for one recipe."""

    def __init__(self, right: Implementation, recipe: str = "design") -> None:
        self.name = right.name
        self._right = right
        self._recipe = recipe

    def after(
        self, call: Call, function: str, before: Mapping[str, bytes], recipe: str = "design"
    ) -> dict[str, bytes] | None:
        """Return the buffers, with the last bit of each flipped."""
        after = self._right.after(call, function, before, recipe)
        if after is None or recipe != self._recipe:
            return after
        return {name: data[:-1] + bytes([data[-1] ^ 1]) for name, data in after.items()}


class WrongBounds:
    """Exact sums that are wrong by 2^-48."""

    def __init__(self, right: BoundImplementation) -> None:
        self.name = right.name
        self._right = right

    def sums(self, vx: bytes, vy: bytes, *, v2: bool) -> tuple[int, int, int]:
        """Return the sums, the exact one off by one."""
        exact, size, m = self._right.sums(vx, vy, v2=v2)
        return exact + 1, size, m

    def within(self, bits: int, vx: bytes, vy: bytes, *, v2: bool) -> bool:
        """Return the right answer."""
        return self._right.within(bits, vx, vy, v2=v2)


class NarrowBounds(WrongBounds):
    """Right exact sums, and a bound without its upper edge."""

    def sums(self, vx: bytes, vy: bytes, *, v2: bool) -> tuple[int, int, int]:
        """Return the right sums."""
        return self._right.sums(vx, vy, v2=v2)

    def within(self, bits: int, vx: bytes, vy: bytes, *, v2: bool) -> bool:
        """Return whether a float and the next one are both within the bound."""
        return all(self._right.within(one, vx, vy, v2=v2) for one in (bits, bits + 1))


@pytest.mark.parametrize("what", DRAFTS)
@pytest.mark.parametrize("who", ["oracle", "reference", "kernel"])
def test_wrong_implementation_stops_a_case(implementations: Implementations, who: str, what: str) -> None:
    """A wrong result of any implementation, for any function, is an error with all three results."""
    assert implementations.kernel is not None
    wrong = {
        "oracle": dataclasses.replace(implementations, oracle=WrongOracle()),
        "reference": dataclasses.replace(
            implementations, reference=WrongImplementation(implementations.reference)
        ),
        "kernel": dataclasses.replace(implementations, kernel=WrongImplementation(implementations.kernel)),
    }
    agreed_case(DRAFTS[what], implementations)
    with pytest.raises(DisagreementError) as caught:
        agreed_case(DRAFTS[what], wrong[who])
    text = str(caught.value)
    assert DRAFTS[what].id in text
    for name in ("the exact oracle has", "the NumPy reference has", "the C scalar kernel has"):
        assert name in text


def test_wrong_exact_sum_stops_a_case(implementations: Implementations) -> None:
    """The exact sum and the magnitude are compared too."""
    wrong = dataclasses.replace(implementations, bounds=WrongBounds(implementations.bounds))
    with pytest.raises(DisagreementError, match=r"t/dot, \(exact sum, magnitude, m\) at offset 0"):
        agreed_case(DRAFTS["dot"], wrong)


def test_wrong_edge_stops_a_case(implementations: Implementations) -> None:
    """Oracle and reference must agree on the last float inside and on the first outside."""
    wrong = dataclasses.replace(implementations, bounds=NarrowBounds(implementations.bounds))
    with pytest.raises(DisagreementError, match=r"t/dot, edges of the bound at offset 0"):
        agreed_case(DRAFTS["dot"], wrong)


def test_wrong_recipe_stops_a_case(implementations: Implementations) -> None:
    """Oracle and reference must agree on the results of other recipes."""
    wrong = dataclasses.replace(
        implementations, reference=WrongImplementation(implementations.reference, "ggml-neon")
    )
    with pytest.raises(DisagreementError, match=r"t/row, .*, recipe ggml-neon: .*oracle has y\[33:\]"):
        agreed_case(DRAFTS["quantize_row"], wrong)


def test_refusing_implementation_stops_a_case(implementations: Implementations) -> None:
    """The error names the implementations that return values and the one that refuses."""

    class Refusing:
        name = "the NumPy reference"

        def after(self, *_: object) -> None:
            return None

    with pytest.raises(
        DisagreementError, match="the NumPy reference returns None; the C scalar kernel returns values"
    ):
        agreed_case(DRAFTS["dequantize"], dataclasses.replace(implementations, reference=Refusing()))


def test_unspecified_inputs_must_be_refused(implementations: Implementations) -> None:
    """A draft of the wrong kind is an error, for ordinary inputs and for a NaN."""
    nan = [0x7FC00000, *ROW[1:]]
    case = agreed_case(quantize_row("t/nan", WHY, ABOUT, nan, kind="unspecified"), implementations)
    assert case.outcome == Unspecified()
    with pytest.raises(DisagreementError, match=r"t/nan, .*: drafted as exact, which the oracle contradicts"):
        agreed_case(quantize_row("t/nan", WHY, ABOUT, nan), dataclasses.replace(implementations, kernel=None))
    with pytest.raises(DisagreementError, match="drafted as unspecified"):
        agreed_case(quantize_row("t/row", WHY, ABOUT, ROW, kind="unspecified"), implementations)


@pytest.mark.rule("Q8A8-DOT-4")
def test_dot_that_depends_on_the_order_is_not_exact(implementations: Implementations) -> None:
    """A dot product that depends on the order cannot be drafted as exact."""
    with pytest.raises(DisagreementError, match="t/dot: drafted as exact, but s \\+ 0 depends on the order"):
        agreed_case(dot("t/dot", WHY, ABOUT, BLOCK * 3, BLOCK * 3), implementations)


def test_activations_that_recipes_disagree_on_have_no_bound(implementations: Implementations) -> None:
    """A tie, which recipes round to different codes, cannot be drafted within the bound of one."""
    tie = [f32(127), f32(Fraction(5, 2)), *[f32(0)] * 30]
    draft = mul_mat("t/product", WHY, ABOUT, [BLOCK], [tie], k=32, kind="bound")
    with pytest.raises(DisagreementError, match="t/product, quantized rows of the recipes"):
        agreed_case(draft, implementations)


def test_alternatives_only_where_they_differ(implementations: Implementations) -> None:
    """Only recipes whose results differ are alternatives: half to even here, 1 / d not."""
    row = agreed_case(quantize_row("t/row", WHY, ABOUT, [f32(127), 0x3F000000, *[0] * 30]), implementations)
    assert isinstance(row.outcome, Exact)
    assert set(row.outcome.alternatives) == {"recipe:ggml-neon", "recipe:ggml-avx2"}
    assert row.written("recipe:ggml-ref") == row.written()
    assert row.written("recipe:ggml-neon") != row.written()


def test_crashing_kernel_is_named_with_the_case(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The error of a kernel that cannot be loaded has its path and the case."""
    draft = DRAFTS["dequantize"]
    with (
        KernelImplementation(tmp_path / "none.so") as kernel,
        pytest.raises(KernelError, match=r"none.so: ended .*t/deq"),
    ):
        kernel.after(draft, draft.functions[0], {"y": bytes(128)})
    assert "none.so" in capfd.readouterr().err


def test_nothing_is_written_without_the_kernel(
    small: Path, implementations: Implementations, killer: Killer
) -> None:
    """Without the C kernel nothing is written."""
    (small / "dot/v2.json").unlink()
    with pytest.raises(ValueError, match="only if the C kernel agrees"):
        store.generate(small, dataclasses.replace(implementations, kernel=None), killer)
    assert not (small / "dot/v2.json").exists()


def test_nothing_is_written_with_a_disagreement(
    small: Path, implementations: Implementations, killer: Killer
) -> None:
    """With a disagreement on one case nothing is written."""
    (small / "dot/v2.json").unlink()
    with pytest.raises(DisagreementError):
        store.generate(
            small,
            dataclasses.replace(implementations, reference=WrongImplementation(implementations.reference)),
            killer,
        )
    assert not (small / "dot/v2.json").exists()


def test_case_belongs_to_the_topic_of_its_file(
    implementations: Implementations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id of a draft must begin with its topic."""
    monkeypatch.setattr(store, "TOPICS", {"quantize/other": lambda: [DRAFTS["dot"]]})
    with pytest.raises(ValueError, match="t/dot is not of the topic quantize/other"):
        store.render(implementations, {})


def test_draft_has_the_buffers_of_its_functions() -> None:
    """A draft with other buffers than its function's is an error."""
    with pytest.raises(ValueError, match="t/x: the buffers are not those of quantize_row_q8_a8"):
        Draft("t/x", ("quantize_row_q8_a8",), ABOUT, WHY, {"k": 0}, {"vx": b""}, {"y": 0})
