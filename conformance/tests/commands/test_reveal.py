"""``q8a8 reveal``: text, JSON and SVG of what a kernel computes."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from q8a8.abi import Reference
from q8a8_conformance import cli
from q8a8_conformance.commands import reveal as command
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import calls
from q8a8_conformance.reveal import dots

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try the orders on few rows."""
    monkeypatch.setattr(dots, "SHORT", (1, 2, 3, 5))
    monkeypatch.setattr(dots, "LONG", (9,))


def test_reveal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reference adds in the specification's order, in all its dot products."""
    data, drawing = tmp_path / "r.json", tmp_path / "r.svg"
    words = ["reveal", "ref", "--blocks", "5", "--json", str(data), "--svg", str(drawing)]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert text.count("scalar = i8mm: whole blocks summed in integers, one accumulator, not fused") == 4
    assert "ggml_vec_dot_q8_a8_q8_a8, nrc = 2" in text
    document = json.loads(data.read_text(encoding="utf-8"))
    assert document["sut"] == "ref"
    *functions, matrix = document["functions"]
    assert (matrix["names"], matrix["batch_invariant"]) == (["recipe:design", "order:scalar"], True)
    quantizers, products = functions[:3], functions[3:]
    assert [(f["function"], f["name"]) for f in quantizers] == [
        (name, "design") for name in (*calls.QUANTIZERS, calls.ACTIVATION)
    ]
    assert all(f["confirmed"]["differ"] == 0 < f["confirmed"]["blocks"] for f in quantizers)
    kinds = [(f["function"], f["nrc"]) for f in products]
    assert kinds == [(calls.DOT, 1), (calls.DOT, 2), (calls.DOT_REAL, 1)]
    for function in products:
        assert function["tree"] == [[[[0, 1], 2], 3], 4]
        assert function["unexplained"] == 0
        assert function["name"] == "scalar"
    assert drawing.read_text(encoding="utf-8").startswith("<svg")


def test_one_function(capfd: pytest.CaptureFixture[str]) -> None:
    """One function alone; JSON on standard output, the text then on standard error."""
    assert cli.main(["reveal", "ref", "--function", calls.DOT_REAL, "--json", "-"]) == 0
    out, err = capfd.readouterr()
    assert [f["function"] for f in json.loads(out)["functions"]] == [calls.DOT_REAL]
    assert "scalar = i8mm" in err


def test_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    """A quantizer is described by its recipe, under the name that it has; it has no tree to draw."""
    mutant = "py:q8a8_conformance.mutants:recipe_ggml_ref"
    assert cli.main(["reveal", mutant, "--function", calls.QUANTIZERS[1]]) == 0
    out = capsys.readouterr().out
    assert out.startswith("quantize_row_q8_a8: ggml-ref (scale amax/n with n = 127, stored nearest-even; ")
    assert "0 of 2308 blocks differ" in out


def test_without_two_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """A kernel that takes one row at a time is revealed for that alone."""
    assert cli.main(["reveal", "py:q8a8_conformance.mutants:one_row_at_a_time", "--function", calls.DOT]) == 0
    assert "nrc = 2" not in capsys.readouterr().out


def test_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong words, files that cannot be written, and kernels that are not there."""
    assert cli.main(["reveal", "ref", "--blocks", "0"]) == 2
    assert cli.main(["reveal", "ref", "--json", str(tmp_path / "no" / "r.json")]) == 2
    assert cli.main(["reveal", "lib:none.so"]) == 2
    assert cli.main(["reveal", "exec:false"]) == 5
    capsys.readouterr()
    assert cli.main(["reveal", "py:builtins:dict"]) == 4
    assert "offers none of the functions" in capsys.readouterr().err


def test_files_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, and a standard output that cannot be written, have their exit status."""
    words = ["reveal", "ref", "--function", calls.DOT_REAL]
    assert cli.main([*words, "--json", "/dev/full"]) == 6
    assert "--json could not be written" in capsys.readouterr().err
    monkeypatch.setattr(command, "write_to", lambda stream, _text: "full" if stream is sys.stdout else "")
    assert cli.main(words) == 6


def test_addresses() -> None:
    """An order that depends on the rows' addresses is reported."""

    class ByAddress(Reference):
        """Add in another order where x is not aligned to 64 bytes."""

        def ggml_vec_dot_q8_a8_q8_a8_real(self, n: int, s: Any, vx: Any, vy: Any) -> None:  # noqa: ANN401
            """Multiply."""
            aligned = vx.ctypes.data % 64 == 0
            Reference(order="scalar" if aligned else "avx2").ggml_vec_dot_q8_a8_q8_a8_real(n, s, vx, vy)

    session = InProcessSession(ByAddress, [calls.DOT_REAL])
    (found,) = command.REVEALERS[calls.DOT_REAL](session)  # type: ignore[arg-type]  # in this process
    assert "the order depends on the addresses of the rows" in found.text()


def test_a_recipe_has_no_drawing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no tree no file is written, and that is said."""
    drawing = tmp_path / "r.svg"
    words = ["reveal", "ref", "--function", calls.ACTIVATION, "--svg", str(drawing)]
    assert cli.main(words) == 0
    assert "there is no tree to draw" in capsys.readouterr().err
    assert not drawing.exists()


def test_unknown_function(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown function is answered with the one that is most like it."""
    assert cli.main(["reveal", "ref", "--function", "quantise_row_q8_a8"]) == 2
    assert "did you mean quantize_row_q8_a8?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "words"), [("os.abort()", "killed by SIGABRT"), ("time.sleep(60)", "the worker hung")]
)
def test_crash_and_hang(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    body: str,
    words: str,
) -> None:
    """A crash is told from a hang, and both have the exit status that they have everywhere."""
    kernel = f"import os, time\nclass Kernel:\n    def {calls.DOT_REAL}(self, *_):\n        {body}\n"
    (tmp_path / "dies.py").write_text(kernel, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    assert cli.main(["reveal", "py:dies:Kernel", "--timeout", "4"]) == 3
    out = capsys.readouterr().out
    assert "not measured to the end: rows of 67 blocks: " in out
    assert words in out
