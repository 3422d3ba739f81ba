"""The command: verdicts on right kernels, exit statuses, usage errors, and what it prints."""

from __future__ import annotations

import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.cli import main
from q8a8_conformance.suite.run import SELF_COMPARISON

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from q8a8_conformance.diagnosis.facts import Fact

    from .conftest import Tested

DOT = "ggml_vec_dot_q8_a8_q8_a8"
REAL = f"{DOT}_real"
MUTANTS = "py:q8a8_conformance.mutants"


def test_the_reference_conforms(q8a8_test: Callable[..., Tested]) -> None:
    """The reference passes every rule, bit for bit; those about machine code and loading are not run."""
    tested = q8a8_test("ref", "--profile", "exact")
    assert (tested.report["verdict"], tested.status) == ("conforms", 0), tested.out
    assert tested.rules("not-run") == {"ENV-5", "ENV-8", "ENV-9"}
    assert tested.rules("fail", "crashed") == set()
    assert tested.causes("quantize_row_q8_a8") == ["recipe:design"]
    assert tested.causes(DOT) == ["scalar"]
    assert tested.out.splitlines()[-1].startswith("conforms: ")
    assert tested.err == ""


@pytest.mark.parametrize("recipe", ["ggml_ref", "ggml_neon", "ggml_avx2"])
def test_recipes_are_named(q8a8_test: Callable[..., Tested], recipe: str) -> None:
    """A ggml recipe does not conform, and is accepted under the profile ggml; either way it is named."""
    sut, cause = f"{MUTANTS}:recipe_{recipe}", f"recipe:{recipe.replace('_', '-')}"
    selection = ("--case", "*/near-ties*")
    tested = q8a8_test(sut, *selection)
    assert tested.status == 1
    assert tested.causes("quantize_row_q8_a8") == [cause]
    tested = q8a8_test(sut, *selection, "--profile", "ggml")
    assert tested.status == 0, tested.out
    assert tested.causes("quantize_row_q8_a8") == [cause]
    assert tested.causes("quantize_activation_q8_a8") == [cause]


def test_a_wrong_recipe_of_its_own_fails_under_ggml(q8a8_test: Callable[..., Tested]) -> None:
    """The profile ggml accepts ggml's recipes, and no other: halves to even under 127/amax fail."""
    for kernel in ("round_half_even", "division_by_d"):
        tested = q8a8_test(f"{MUTANTS}:{kernel}", "--case", "quantize/ties*", "--profile", "ggml")
        assert tested.status == 1, tested.out


@pytest.mark.parametrize("order", ["scalar", "scalar-fma", "sve-128-plain-tail"])
def test_orders_are_legal_and_named(q8a8_test: Callable[..., Tested], order: str) -> None:
    """An order of the catalogue conforms and is named, and no other; the gate judges each of them."""
    sut = "ref" if order == "scalar" else f"{MUTANTS}:order_{order.replace('-', '_')}"
    tested = q8a8_test(sut, "--case", "*/bound/*")
    assert tested.status == 0, tested.out
    cause = order if order in {"scalar", "scalar-fma"} else f"order:{order}"
    assert tested.causes(DOT) == [cause]
    assert tested.causes(REAL) == [cause]


def test_exact_takes_the_scalar_order_alone(q8a8_test: Callable[..., Tested]) -> None:
    """Under the profile exact another order is a failure, on inputs where it rounds otherwise."""
    tested = q8a8_test(f"{MUTANTS}:order_neon", "--case", "dot/[re][ox]*", "--profile", "exact")
    assert tested.status == 1
    assert tested.rules("fail") == {"DOT-3"}
    assert "DOT-4" in tested.rules("pass")


def test_orders_are_distinguished_by_further_calls(q8a8_test: Callable[..., Tested]) -> None:
    """Where the cases that ran fit every order, further calls find the one; the report has its name."""
    tested = q8a8_test(f"{MUTANTS}:order_avx2", "--case", "dot/exact/blocks-3")
    assert tested.status == 0, tested.out
    (found,) = tested.report["diagnosis"]
    assert (found["cause"], found["orders"], found["nrc"]) == ("order:avx2", ["avx2"], 1)


def test_one_row_at_a_time_is_legal(q8a8_test: Callable[..., Tested]) -> None:
    """A kernel that computes one row at a time conforms; the rules about two rows are not run."""
    tested = q8a8_test("py:partial_kernels:OneRow", "--rules", "DOT-6,DOT-11,DOT-10,DOT-9")
    assert (tested.report["verdict"], tested.status) == ("conforms", 0), tested.out
    assert tested.rules("pass") == {"DOT-10"}
    assert tested.rules("not-run") == {"DOT-6", "DOT-11", "DOT-9"}


def test_a_case_that_is_not_there(q8a8_test: Callable[..., Tested]) -> None:
    """A case id that nothing matches is answered with the one most like it."""
    tested = q8a8_test("ref", "--case", "quantise/ties*")
    assert (tested.report["verdict"], tested.status) == ("nothing-ran", 4)
    assert "note: no case matches 'quantise/ties*'; did you mean quantize/" in tested.out


def test_nothing_offered_is_nothing_run(q8a8_test: Callable[..., Tested]) -> None:
    """A kernel without a function passes nothing: exit status 4."""
    tested = q8a8_test("py:partial_kernels:Nothing")
    assert (tested.report["verdict"], tested.status) == ("nothing-ran", 4)
    assert tested.rules("pass", "fail", "crashed") == set()


@pytest.mark.parametrize(
    ("code", "status", "verdict"),
    [
        ("import sys; sys.stderr.write('needs sve2'); sys.exit(77)", 4, "nothing-ran"),
        ("import os; os.abort()", 3, "crashed"),
        ("print('hello there, this is no protocol')", 5, "not-reached"),
    ],
)
def test_workers_that_do_not_start(
    q8a8_test: Callable[..., Tested], code: str, status: int, verdict: str
) -> None:
    """A CPU feature that is missing is nothing run, with its name; a fault at the start is a crash."""
    tested = q8a8_test(f'exec:{sys.executable} -c "{code}"')
    assert (tested.status, tested.report["verdict"]) == (status, verdict)
    if status == 4:
        assert "needs sve2" in tested.out


@pytest.mark.parametrize(
    "words",
    [
        ["kernel.so"],
        ["lib:/nowhere/kernel.so"],
        ["ref", "--rules", "ABC-*"],
        ["ref", "--profile", "strict"],
        ["ref", "--timeout", "0"],
        ["ref", "--symbol", "a=b"],
        ["ref", "--known-failures", "/nowhere/known"],
        ["ref", "--json", "/nowhere/report.json"],
        ["py:no_such_module_of_ours:kernel"],
        [],
    ],
)
def test_wrong_usage(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """Wrong usage is exit status 2 with a sentence on standard error, and no report."""
    assert main(["test", *words]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.strip()
    assert "Traceback" not in err


def test_a_failure_can_be_run_again(q8a8_test: Callable[..., Tested]) -> None:
    """The command given with a failure runs its case alone, which fails again, also for a rule of others."""
    case = "state/process/quantize_row_q8_a8"
    words = [f"{MUTANTS}:round_half_even", "--case", case]
    for _ in range(2):
        tested = q8a8_test(*words)
        (shown,) = tested.report["failures"]
        assert (shown["rule"], shown["case"]) == ("Q8A8-QNT-4", case)
        assert f"  again: {shown['again']}\n" in tested.out
        program, command, *words = shlex.split(shown["again"])
        assert (program, command) == ("q8a8", "test")
    assert "not-run" not in tested.out
    assert max(rule["cases"] for rule in tested.report["rules"]) == 1


def test_failures_show_their_bytes(q8a8_test: Callable[..., Tested]) -> None:
    """A failure prints rule, case, inputs and both results in hex, and the likely cause."""
    tested = q8a8_test(
        f"{MUTANTS}:round_half_even", "--rules", "QNT-4", "--case", "quantize/ties/quantize_row_q8_a8"
    )
    assert "FAIL QNT-4  quantize/ties/quantize_row_q8_a8" in tested.out
    assert "likely cause: round-half-even" in tested.out
    for label in ("call", "in", "want", "got"):
        assert f"\n  {label:<5} " in tested.out
    assert "weight_qs[" in tested.out
    assert "\x1b[" not in tested.out


def test_known_failures(q8a8_test: Callable[..., Tested], tmp_path: Path) -> None:
    """A kernel with all its failures listed exits with 0; an entry too many makes it 1."""
    known = tmp_path / "known"
    known.write_text("DOT-7 *  # adds\n", encoding="utf-8")
    flags = ("--rules", "DOT-7", "--known-failures", str(known))
    tested = q8a8_test(f"{MUTANTS}:s_added_if_finite", *flags)
    assert tested.status == 0, tested.out
    assert "known failures" in tested.out
    tested = q8a8_test("ref", *flags)
    assert tested.status == 1
    assert "no longer fails" in tested.out


@pytest.mark.parametrize(("sut", "noted"), [("ref", True), ("py:q8a8.abi:Reference", False)])
def test_the_reference_is_compared_with_itself(
    q8a8_test: Callable[..., Tested], tmp_path: Path, sut: str, noted: bool
) -> None:
    """A run of the reference notes in every report that it judges itself; no other run does."""
    kinds = ("markdown", "html", "statement")
    flags = [word for kind in kinds for word in (f"--{kind}", str(tmp_path / kind))]
    tested = q8a8_test(sut, "--rules", "DOT-5", *flags)
    assert tested.status == 0, tested.out
    assert (SELF_COMPARISON in tested.report["notes"]) is noted
    assert (f"note: {SELF_COMPARISON}\n" in tested.out) is noted
    for kind in kinds:
        assert (SELF_COMPARISON in (tmp_path / kind).read_text(encoding="utf-8")) is noted, kind


def test_a_check_that_breaks_is_no_verdict(
    q8a8_test: Callable[..., Tested], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the suite itself breaks, the exit status is 70, and where it broke is on standard error."""

    def broken(*_: object) -> bytes:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr("q8a8_conformance.suite.dot_checks.scalar_bits", broken)
    tested = q8a8_test("ref", "--case", "dot/exact/blocks-3")
    assert (tested.status, tested.report["verdict"]) == (70, "broken")
    assert tested.err.startswith("q8a8: error in the suite:\n")
    assert "RuntimeError: broken on purpose" in tested.err
    assert "error in the suite: RuntimeError: broken on purpose" in tested.out


@pytest.mark.parametrize("place", ["diagnosis.dot_facts", "suite.localization._explained"])
def test_a_diagnosis_that_breaks_takes_no_verdict(
    q8a8_test: Callable[..., Tested], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Where the search for causes breaks, the cases judge the kernel, and the report says what broke."""
    calls = []

    def broken(*arguments: object, **_: object) -> dict[int, Fact]:
        calls.append(arguments)
        if len(calls) == 1:
            raise LookupError("broken on purpose")
        return {}

    monkeypatch.setattr(f"q8a8_conformance.{place}", broken)
    tested = q8a8_test("py:q8a8_conformance.mutants:fp16_scale_product", "--rules", "DOT-*")
    assert calls
    assert (tested.status, tested.report["verdict"]) == (1, "does-not-conform")
    assert "DOT-2" in tested.out
    (note,) = (note for note in tested.report["notes"] if "on purpose" in note)
    assert "broke (LookupError: broken on purpose): a defect of the suite" in note
    assert tested.err.startswith("q8a8: error in the diagnosis of ")
    assert "LookupError: broken on purpose" in tested.err


def test_a_report_that_cannot_be_written_is_named(
    q8a8_test: Callable[..., Tested], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file cannot be written at the end, the report is still printed, and the exit status is 6."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("q8a8_conformance.report.write", full)
    tested = q8a8_test("ref", "--rules", "DOT-5", "--html", str(tmp_path / "page.html"))
    assert tested.status == 6
    assert "--html could not be written: [Errno 28] No space left on device" in tested.err
    assert "conforms: 1 rule judged" in tested.out


def test_every_report_is_written(q8a8_test: Callable[..., Tested], tmp_path: Path) -> None:
    """All formats are written whole, and say the verdict; no temporary file is left."""
    paths = {kind: tmp_path / f"report.{kind}" for kind in ("junitxml", "markdown", "html")}
    flags = [word for kind, path in paths.items() for word in (f"--{kind}", str(path))]
    tested = q8a8_test(f"{MUTANTS}:crashes_on_63_blocks", "--rules", "DEQ-*,ENV-4", *flags)
    root = ET.parse(paths["junitxml"]).getroot()  # noqa: S314 (our own file)
    names = [suite.get("name") for suite in root.iter("testsuite")]
    assert names == [rule["id"] for rule in tested.report["rules"]]
    assert int(root.get("errors", 0)) == sum(rule["failed"] for rule in tested.report["rules"])
    assert int(root.get("tests", 0)) >= sum(rule["cases"] for rule in tested.report["rules"])
    markdown, html = (paths[kind].read_text(encoding="utf-8") for kind in ("markdown", "html"))
    assert "crashed" in markdown
    assert "| Q8A8-ENV-4 | MUST | **crashed** |" in markdown
    assert html.startswith("<!doctype html>")
    assert "http" not in html.replace("http-equiv", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["report.json", *(path.name for path in paths.values())]
    )


def test_the_json_report_has_its_keys(q8a8_test: Callable[..., Tested]) -> None:
    """The keys that scripts bind to are there, and more that identify the run."""
    report = q8a8_test(f"{MUTANTS}:minus_128_sign", "--case", "dot/minus-128/*").report
    assert {
        "verdict",
        "sut",
        "profile",
        "rules",
        "diagnosis",
        "failures",
        "kernel",
        "suite",
        "timing",
    } <= report.keys()
    assert {"id", "status", "cases", "failed"} <= report["rules"][0].keys()
    assert {"function", "cause", "explained", "of", "fix"} <= report["diagnosis"][0].keys()
    assert len(report["suite"]["vectors_sha256"]) == 64
    assert report["failures"][0]["evidence"]["inputs"]["vx"]["hex"]


def test_help_needs_no_suite() -> None:
    """The command's help and version come without importing NumPy or pytest."""
    code = (
        "import sys; from q8a8_conformance.cli import main; main(['--help']); "
        "sys.exit(int(bool({'numpy', 'pytest', 'hypothesis'} & sys.modules.keys())))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("test", "quantize", "bench", "vectors", "explain"))


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without pytest the command names what to install."""
    monkeypatch.setattr("q8a8_conformance.commands.test.util.find_spec", lambda _: None)
    assert main(["test", "ref"]) == 2
    assert "pip install -e '.[suite]' in a checkout" in capsys.readouterr().err


def test_rules_and_explain(capsys: pytest.CaptureFixture[str]) -> None:
    """Rules are listed and explained, in any spelling of their ids; others are refused."""
    assert main(["rules", "qnt-*"]) == 0
    assert "Q8A8-QNT-3" in capsys.readouterr().out
    assert main(["explain", "qnt-4"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Q8A8-QNT-4: ")
    assert "q8a8 test SUT --rules QNT-4" in out
    assert main(["explain", "QNT-99"]) == 2
    assert main(["rules", "XYZ"]) == 2
