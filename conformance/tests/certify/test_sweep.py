"""The sweep: one wrong result in billions is found, and an interrupted run resumes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from q8a8_conformance.certify.catalogue import get_domain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Certify = Callable[..., tuple[int, dict[str, Any]]]


def _shard_of(name: str, point: int, total: int) -> int:
    """Return the number of the shard, of `total`, that holds a point of a domain."""
    domain = get_domain(name)
    pieces = -(-domain.size // domain.chunk)
    return next(i for i in range(1, total + 1) if point // domain.chunk < pieces * i // total)


# As in wrong_kernels.py, which is imported in the kernels' own processes.
HALF_POINT, SCALE_POINT, CODE_PATTERN = 0x3F803000, 0x41234567, 0x80345678
CODE_POINT = 0x3F800001 + (CODE_PATTERN & 0x7FFFFFFF)
"""The point of codes:3f800000 with the wrong element: after the 0x3F800001 that are not negative."""

FLIPPED = [
    ("OneHalf", "half", HALF_POINT, 1024, "0x3f803000", "0x3c02", "0x3c03"),
    ("OneScale", "scale", SCALE_POINT, 9600, "0x41234567", None, None),
    ("OneCode", "codes:3f800000", CODE_POINT, 500, "0x80345678", "00", "01"),
    ("OneDequantized", "dequantize", 0x1FF, 31, "scale 0x0001, code -128", "0xb7000000", "0xb7000001"),
]  # fmt: skip


@pytest.mark.parametrize("flipped", FLIPPED, ids=lambda flipped: flipped[0])
def test_one_wrong_result_is_found(
    certify: Certify, wrong_kernels: str, flipped: tuple[str, str, int, int, str, str | None, str | None]
) -> None:
    """One wrong result in a domain is found in the shard that has it, and only there."""
    kernel, name, point, total, given, right, got = flipped
    sut = f"py:{wrong_kernels}:{kernel}"
    number = _shard_of(name, point, total)
    status, found = certify(sut, "--domain", name, "--shard", f"{number}/{total}")
    assert status == 1
    assert found["verdict"] == "mismatch"
    assert not found["whole"]
    (entry,) = found["domains"]
    assert entry["mismatch"]["point"] == point
    assert given in entry["mismatch"]["given"]
    if right is not None:
        assert (entry["mismatch"]["expected"], entry["mismatch"]["got"]) == (right, got)
    other = number % total + 1
    status, found = certify(sut, "--domain", name, "--shard", f"{other}/{total}")
    assert (status, found["verdict"], found["whole"]) == (0, "part", False)


def test_wrong_product_is_found(certify: Certify, wrong_kernels: str) -> None:
    """A product that saturates in the last lane is found in the last shard."""
    point = 31 << 16 | 0x80 << 8 | 0x80
    sut = f"py:{wrong_kernels}:OneProduct"
    status, found = certify(
        sut, "--domain", "products", "--shard", f"{_shard_of('products', point, 128)}/128"
    )
    assert status == 1
    assert found["domains"][0]["mismatch"]["point"] == point
    assert found["domains"][0]["mismatch"]["given"] == "lane 31, -128 · -128, scales 2^15 and 1"


def test_kernel_that_ignores_nrc(certify: Certify, wrong_kernels: str) -> None:
    """A kernel that ignores nrc = 2 does not offer that domain; the verdict is nothing-ran."""
    status, found = certify(f"py:{wrong_kernels}:OneRow", "--domain", "products-nrc2")
    assert (status, found["verdict"]) == (4, "nothing-ran")
    assert found["domains"][0]["result"] == "not-offered"


def test_missing_function(certify: Certify, wrong_kernels: str) -> None:
    """A requested domain that is not offered is status 4; otherwise it is left out."""
    status, found = certify(f"py:{wrong_kernels}:OneHalf", "--domain", "scale")
    assert (status, found["domains"][0]["result"]) == (4, "not-offered")
    status, found = certify(f"py:{wrong_kernels}:OneHalf", "--sample", "50")
    assert (status, [entry["name"] for entry in found["domains"]]) == (0, ["half"])


@pytest.mark.parametrize(
    ("kernel", "text"),
    [("Dies", "exit status 7"), ("Raises", "ArithmeticError"), ("Hangs", "no answer within 2 s")],
)
def test_kernels_without_results(certify: Certify, wrong_kernels: str, kernel: str, text: str) -> None:
    """A kernel that dies, raises or hangs is status 3; pieces evaluated before stay covered."""
    words = ("--domain", "dequantize", "--sample", "5000", "--timeout", "2")
    status, found = certify(f"py:{wrong_kernels}:{kernel}", *words)
    assert (status, found["verdict"]) == (3, "crashed")
    (entry,) = found["domains"]
    assert text in entry["message"]
    assert (entry["count"] > 0) == (kernel == "Dies")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_resumed(
    certify: Certify, wrong_kernels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """An interrupted run leaves a state; the next run covers the rest, with the same result as one run."""
    slow = (f"py:{wrong_kernels}:Slow", "--domain", "widen", "--domain", "dequantize", "--shard", "1/3")
    words = (*slow, "--state", str(tmp_path / "state.json"))
    command = [sys.executable, "-m", "q8a8_conformance.cli", "certify", *words]
    monkeypatch.setenv("SECONDS_A_CALL", "0.7")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"widen")  # the sweep of the other domain begins
        time.sleep(2.5)
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert b"interrupted" in out
    document = json.loads((tmp_path / "state.json").read_text(encoding="utf-8"))
    ((start, stop),) = document["domains"]["dequantize"]["covered"]
    assert start == 0
    assert 0 < stop < 10 << 19
    monkeypatch.delenv("SECONDS_A_CALL")
    status, resumed = certify(*words)
    assert (status, resumed["verdict"]) == (0, "part")
    assert [entry["count"] for entry in resumed["domains"]] == [0, 10 << 19]


def test_resuming_evaluates_only_the_rest(certify: Certify, tmp_path: Path) -> None:
    """Shards share a state; a run with nothing left to evaluate gives the whole certificate."""
    state = tmp_path / "state.json"
    words = ("ref", "--domain", "products-nrc2", "--state", str(state))
    for number in (2, 1, 3):
        assert certify(*words, "--shard", f"{number}/3")[0] == 0
    spent = json.loads(state.read_text(encoding="utf-8"))["domains"]["products-nrc2"]["seconds"]
    status, resumed = certify(*words)
    assert (status, resumed["verdict"], resumed["domains"][0]["seconds"]) == (0, "certified", spent)
    status, straight = certify(*words[:3])
    for certificate in (resumed, straight):
        certificate["domains"][0].pop("seconds")
    assert resumed["domains"] == straight["domains"]
    assert [path.name for path in tmp_path.iterdir() if "state" in path.name] == ["state.json"]


def test_invalid_states_are_refused(
    certify: Certify, wrong_kernels: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A state that was edited, truncated, or is of another kernel is refused and not changed."""
    state = tmp_path / "state.json"
    words = (f"py:{wrong_kernels}:Right", "--domain", "dequantize", "--sample", "99", "--state", str(state))
    assert certify(*words)[0] == 0
    text = state.read_text(encoding="utf-8")
    assert certify("ref", *words[1:])[0] == 2
    assert "is of another" in capsys.readouterr().err
    document = json.loads(text)
    document["domains"]["dequantize"]["covered"] = [[0, 16252928]]
    for damaged, why in (
        (json.dumps(document), "was changed"),
        (text[: len(text) // 2], "is not a state file"),
        ("[]", "is not a state file"),
        (text.replace('"format": 1', '"format": 2'), "format 2"),
    ):
        state.write_text(damaged, encoding="utf-8")
        assert certify(*words)[0] == 2
        assert why in capsys.readouterr().err
        assert state.read_text(encoding="utf-8") == damaged


def test_another_kernel_file_is_refused(
    certify: Certify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state belongs to the kernel's bytes: a file with one more line is another kernel."""
    folder = tmp_path / "modules"
    folder.mkdir()
    module = folder / "kernel_of_the_day.py"
    module.write_text("from q8a8.abi import Reference as Kernel\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    state = tmp_path / "state.json"
    words = ("py:kernel_of_the_day:Kernel", "--domain", "dequantize", "--sample", "64", "--state", str(state))
    assert certify(*words)[0] == 0
    module.write_text("from q8a8.abi import Reference as Kernel\n\n", encoding="utf-8")
    assert certify(*words)[0] == 2
