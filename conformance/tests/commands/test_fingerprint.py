"""``q8a8 fingerprint``: the hash of the fixed product, and its exit status."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance import cli
from q8a8_conformance.commands import fingerprint as command
from q8a8_conformance.inputs import calls, fixed_product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from q8a8_conformance.protocol.messages import Call


def test_the_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reference's hashes are the specification's, as text and as JSON."""
    file = tmp_path / "f.json"
    assert cli.main(["fingerprint", "ref", "--json", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [calls.MUL_MAT, fixed_product.DIGESTS[calls.MUL_MAT], "same"]
    data = json.loads(file.read_text(encoding="utf-8"))
    assert data["same"]
    assert [each["function"] for each in data["functions"]] == list(fixed_product.DIGESTS)


@pytest.mark.parametrize(
    ("mutant", "function"),
    [
        ("recipe_ggml_ref", calls.QUANTIZERS[1]),
        ("recipe_ggml_avx2", calls.QUANTIZERS[1]),
        ("minus_128_sign", calls.DOT),
    ],
)
def test_another_result(mutant: str, function: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A kernel with other bits has another hash: status 1, and how many results differ."""
    assert cli.main(["fingerprint", f"py:q8a8_conformance.mutants:{mutant}"]) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(function))
    assert line.endswith("results differ")
    assert fixed_product.DIGESTS[function] not in line


def test_a_refused_call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A function whose call is refused has no hash, and the others have theirs."""
    too_short = calls.build(calls.DEQUANTIZE, 32, {"x": bytes(2)})

    def calls_of(
        function: str, made: Callable[[str], Iterator[Call]] = fixed_product.calls_of
    ) -> Iterator[Call]:
        return iter([too_short]) if function == calls.DEQUANTIZE else made(function)

    monkeypatch.setattr(fixed_product, "calls_of", calls_of)
    assert cli.main(["fingerprint", "ref"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == [calls.DEQUANTIZE, "refused"]
    assert lines[0].endswith("  same")


def test_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Kernels that are not there, offer nothing or crash, and a file that cannot be written."""
    assert cli.main(["fingerprint", "lib:none.so"]) == 2
    assert cli.main(["fingerprint", "ref", "--json", str(tmp_path / "no" / "r.json")]) == 2
    assert cli.main(["fingerprint", "exec:false"]) == 5
    assert cli.main(["fingerprint", "py:builtins:dict"]) == 4
    assert "offers none of the functions" in capsys.readouterr().err
    assert cli.main(["fingerprint", "ref", "--json", "/dev/full"]) == 6


def test_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """A standard output that cannot be written has its exit status."""
    monkeypatch.setattr(command, "write_to", lambda stream, _text: "full" if stream is sys.stdout else "")
    assert cli.main(["fingerprint", "ref"]) == 6
