"""A vector is written only where all truths agree: here one of them lies, and nothing is written."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from q8a8_golden.cases import Exact, Unspecified, Written
from q8a8_golden.generate import store
from q8a8_golden.generate.agree import DisagreementError, settle
from q8a8_golden.generate.draft import Draft, activation, dequantize, dot, dot_v2, quantize_row, rules
from q8a8_golden.generate.kernel import KernelError, KernelWitness
from q8a8_golden.generate.numbers import block, block_v2, f32
from q8a8_golden.generate.witness import OracleWitness

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from q8a8_golden.cases import Outputs
    from q8a8_golden.generate.agree import BoundWitness, Witnesses
    from q8a8_golden.generate.store import Killer
    from q8a8_golden.generate.witness import Call, Witness

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
    "dot_v2": dot_v2("t/dot-v2", WHY, ABOUT, BLOCK_V2 * 3, BLOCK_V2 * 3, kind="bound"),
}


class LyingOracle(OracleWitness):
    """The oracle, but for the last bit of the last byte of every run."""

    def outputs(self, call: Call, function: str, recipe: str = "design") -> Outputs | None:
        """Spoil the truth."""
        outputs = super().outputs(call, function, recipe)
        if outputs is None:
            return None
        return {
            name: tuple(Written(run.offset, run.data[:-1] + bytes([run.data[-1] ^ 1])) for run in runs)
            for name, runs in outputs.items()
        }


class Liar:
    """A witness, but for the last byte of every buffer, for one recipe."""

    def __init__(self, honest: Witness, recipe: str = "design") -> None:
        self.name = honest.name
        self._honest = honest
        self._recipe = recipe

    def after(
        self, call: Call, function: str, before: Mapping[str, bytes], recipe: str = "design"
    ) -> dict[str, bytes] | None:
        """Spoil the truth."""
        after = self._honest.after(call, function, before, recipe)
        if after is None or recipe != self._recipe:
            return after
        return {name: data[:-1] + bytes([data[-1] ^ 1]) for name, data in after.items()}


class LyingBounds:
    """Exact sums, each wrong by 2^-48."""

    def __init__(self, honest: BoundWitness) -> None:
        self.name = honest.name
        self._honest = honest

    def sums(self, vx: bytes, vy: bytes, *, v2: bool) -> tuple[int, int, int]:
        """Spoil the truth."""
        exact, size, m = self._honest.sums(vx, vy, v2=v2)
        return exact + 1, size, m

    def within(self, bits: int, vx: bytes, vy: bytes, *, v2: bool) -> bool:
        """Tell the truth."""
        return self._honest.within(bits, vx, vy, v2=v2)


class NarrowBounds(LyingBounds):
    """Exact sums as they are, and a bound without its upper edge."""

    def sums(self, vx: bytes, vy: bytes, *, v2: bool) -> tuple[int, int, int]:
        """Tell the truth."""
        return self._honest.sums(vx, vy, v2=v2)

    def within(self, bits: int, vx: bytes, vy: bytes, *, v2: bool) -> bool:
        """Spoil the truth: what the next pattern is not inside of, this one is not either."""
        return all(self._honest.within(one, vx, vy, v2=v2) for one in (bits, bits + 1))


@pytest.mark.parametrize("what", DRAFTS)
@pytest.mark.parametrize("who", ["oracle", "reference", "kernel"])
def test_one_wrong_truth_stops_a_case(truths: Witnesses, who: str, what: str) -> None:
    """Each of the three, on each function: the error names the case and what all three say."""
    assert truths.kernel is not None
    liars = {
        "oracle": dataclasses.replace(truths, oracle=LyingOracle()),
        "reference": dataclasses.replace(truths, reference=Liar(truths.reference)),
        "kernel": dataclasses.replace(truths, kernel=Liar(truths.kernel)),
    }
    settle(DRAFTS[what], truths)
    with pytest.raises(DisagreementError) as caught:
        settle(DRAFTS[what], liars[who])
    text = str(caught.value)
    assert DRAFTS[what].id in text
    for name in ("the exact oracle has", "the NumPy reference has", "the C scalar kernel has"):
        assert name in text


def test_a_wrong_exact_sum_stops_a_case(truths: Witnesses) -> None:
    """The bound's numbers have two witnesses as well."""
    wrong = dataclasses.replace(truths, bounds=LyingBounds(truths.bounds))
    with pytest.raises(DisagreementError, match=r"t/dot, \(exact sum, magnitude, m\) at offset 0"):
        settle(DRAFTS["dot"], wrong)


def test_a_wrong_edge_stops_a_case(truths: Witnesses) -> None:
    """Oracle and reference must agree on the last float inside and on the first outside."""
    wrong = dataclasses.replace(truths, bounds=NarrowBounds(truths.bounds))
    with pytest.raises(DisagreementError, match=r"t/dot, edges of the bound at offset 0"):
        settle(DRAFTS["dot"], wrong)


def test_a_wrong_recipe_stops_a_case(truths: Witnesses) -> None:
    """What other recipes give is vouched for by oracle and reference."""
    wrong = dataclasses.replace(truths, reference=Liar(truths.reference, "ggml-neon"))
    with pytest.raises(DisagreementError, match=r"t/row, .*, recipe ggml-neon: .*oracle has y\[33:\]"):
        settle(DRAFTS["quantize_row"], wrong)


def test_a_truth_that_refuses_stops_a_case(truths: Witnesses) -> None:
    """One gives values where another refuses: the error says which."""

    class Refusing:
        name = "the NumPy reference"

        def after(self, *_: object) -> None:
            return None

    with pytest.raises(
        DisagreementError, match="the NumPy reference says None; the C scalar kernel gives values"
    ):
        settle(DRAFTS["dequantize"], dataclasses.replace(truths, reference=Refusing()))


def test_unspecified_inputs_must_be_refused_by_oracle_and_reference(truths: Witnesses) -> None:
    """A draft that says so of ordinary inputs is wrong, and so is one that does not of a NaN."""
    nan = [0x7FC00000, *ROW[1:]]
    case = settle(quantize_row("t/nan", WHY, ABOUT, nan, kind="unspecified"), truths)
    assert case.outcome == Unspecified()
    with pytest.raises(DisagreementError, match=r"t/nan, .*: drafted as exact, the oracle says otherwise"):
        settle(quantize_row("t/nan", WHY, ABOUT, nan), dataclasses.replace(truths, kernel=None))
    with pytest.raises(DisagreementError, match="drafted as unspecified"):
        settle(quantize_row("t/row", WHY, ABOUT, ROW, kind="unspecified"), truths)


@pytest.mark.rule("Q8A8-DOT-4")
def test_a_dot_that_depends_on_the_order_is_no_exact_case(truths: Witnesses) -> None:
    """Three blocks of ordinary scales: drafted as exact, refused."""
    with pytest.raises(DisagreementError, match="t/dot: drafted as exact, but s \\+ 0 depends on the order"):
        settle(dot("t/dot", WHY, ABOUT, BLOCK * 3, BLOCK * 3), truths)


def test_alternatives_are_there_only_where_they_differ(truths: Witnesses) -> None:
    """Half to even changes this row, 1 / d does not."""
    row = settle(quantize_row("t/row", WHY, ABOUT, [f32(127), 0x3F000000, *[0] * 30]), truths)
    assert isinstance(row.outcome, Exact)
    assert set(row.outcome.alternatives) == {"recipe:ggml-neon", "recipe:ggml-avx2"}
    assert row.written("recipe:ggml-ref") == row.written()
    assert row.written("recipe:ggml-neon") != row.written()


def test_a_kernel_that_dies_is_named_with_the_case(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No library at all: the child ends, and the error has the path, the status and the case."""
    draft = DRAFTS["dequantize"]
    with (
        KernelWitness(tmp_path / "none.so") as kernel,
        pytest.raises(KernelError, match=r"none.so: died .*t/deq"),
    ):
        kernel.after(draft, draft.functions[0], {"y": bytes(128)})
    assert "none.so" in capfd.readouterr().err


def test_nothing_is_written_without_the_kernel(small: Path, truths: Witnesses, killer: Killer) -> None:
    """Two truths suffice to check, three are needed to write."""
    (small / "dot/v2.json").unlink()
    with pytest.raises(ValueError, match="only where the C kernel agrees"):
        store.generate(small, dataclasses.replace(truths, kernel=None), killer)
    assert not (small / "dot/v2.json").exists()


def test_nothing_is_written_where_one_case_is_in_dispute(
    small: Path, truths: Witnesses, killer: Killer
) -> None:
    """All cases are settled before the first file is touched."""
    (small / "dot/v2.json").unlink()
    with pytest.raises(DisagreementError):
        store.generate(small, dataclasses.replace(truths, reference=Liar(truths.reference)), killer)
    assert not (small / "dot/v2.json").exists()


def test_a_case_belongs_to_the_topic_of_its_file(truths: Witnesses, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is the name, and the file the first part of it."""
    monkeypatch.setattr(store, "TOPICS", {"quantize/other": lambda: [DRAFTS["dot"]]})
    with pytest.raises(ValueError, match="t/dot is not of the topic quantize/other"):
        store.render(truths, {})


def test_a_draft_has_the_buffers_of_its_functions() -> None:
    """A builder's slip is an error where it happens."""
    with pytest.raises(ValueError, match="t/x: the buffers are not those of quantize_row_q8_a8"):
        Draft("t/x", ("quantize_row_q8_a8",), ABOUT, WHY, {"k": 0}, {"vx": b""}, {"y": 0})
