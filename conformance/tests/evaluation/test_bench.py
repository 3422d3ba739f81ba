"""The benchmark: what it measures, how ratios are taken, and what it says where a peer is missing."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from q8a8_evaluation.bench import resident, speed
from q8a8_evaluation.bench.ckernel import CKernel
from q8a8_evaluation.commands import bench
from q8a8_golden.generate.native import scalar_library

WANTED = {
    "mul_mat/sgemm", "mul_mat/c-scalar", "quantize/gguf-py", "dequantize/gguf-py", "quantize/c-scalar",
    "dequantize/c-scalar", "quantize/memcpy", "dequantize/memcpy",
}  # fmt: skip


def options_of(*words: str) -> argparse.Namespace:
    """Parse a command line as `q8a8` does."""
    parser = argparse.ArgumentParser()
    bench.add_parser(parser.add_subparsers())
    return parser.parse_args(["bench", *words])


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the quick benchmark once, as the command does, and read its file."""
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    options = options_of("--quick", "--json", str(path))
    assert options.func(options) == 0
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return figures


def test_every_ratio_is_there(figures: dict[str, Any]) -> None:
    """Each ratio is a positive number, or null with a note that says why."""
    ratios = figures["ratios"]
    assert set(ratios) >= WANTED
    assert any(name.startswith("mul_mat threads=") for name in ratios)
    for name, ratio in ratios.items():
        if ratio is None:
            assert any(note.startswith(name.partition("/")[2]) for note in figures["notes"])
        else:
            assert ratio > 0


def test_blas_has_one_thread_in_the_measuring_process(figures: dict[str, Any]) -> None:
    """The variables are set when the child loads NumPy."""
    assert set(figures["machine"]["blas_threads"].values()) == {"1"}


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="this system does not tell resident memory"
)
def test_quantizing_takes_a_chunk_besides_its_result(figures: dict[str, Any]) -> None:
    """64 MiB of floats: the result is 34/128 of them; the work and the mapped pages stay below."""
    memory = figures["memory"]
    assert memory["array_bytes"] == 64 << 20
    assert memory["result_bytes"] == (64 << 20) * 34 // 128
    assert memory["own_bytes"] == memory["result_bytes"] + memory["working_bytes"]
    assert memory["extra_bytes"] <= memory["own_bytes"] + memory["mapped_bytes"]
    assert memory["working_bytes"] < 8 << 20
    assert memory["mapped_bytes"] < 28 << 20
    assert memory["limit_bytes"] == 300 << 20


def test_the_text_has_every_figure(figures: dict[str, Any]) -> None:
    """Names and values of the ratios, the times, and the memory."""
    text = bench.text(figures)
    for name, ratio in figures["ratios"].items():
        assert any(
            line.split() == [*name.split(), "null" if ratio is None else f"{ratio:.2f}"]
            for line in text.splitlines()
        )
    assert "Quick" in text
    full = bench.text(figures | {"quick": False, "memory": None, "notes": [bench.NO_STATUS]})
    assert "Quick" not in full
    assert "no /proc/self/status" in full


def test_a_missing_c_kernel_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its ratios are null, and the text says how to get it."""
    monkeypatch.setattr(bench, "scalar_library", lambda: None)
    options = options_of("--quick")
    assert options.func(options) == 0
    out = capsys.readouterr().out
    assert [line.split()[1] for line in out.splitlines() if "/c-scalar" in line] == ["null"] * 3
    assert bench.NO_C_KERNEL in out


def test_a_library_that_is_none_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong --c-kernel ends with status 1 and the child's own words."""
    path = tmp_path / "nothing.so"
    options = options_of("--quick", "--c-kernel", str(path))
    assert options.func(options) == 2
    assert "nothing.so" in capsys.readouterr().err


def test_a_missing_gguf_leaves_its_ratios_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package there is no contestant of its name."""
    monkeypatch.setitem(sys.modules, "gguf", None)
    ratios = speed.measure(speed.Size(m=2, k=32, n=2, columns=1, rounds=1), None)["ratios"]
    assert ratios["quantize/gguf-py"] is None
    assert ratios["dequantize/gguf-py"] is None
    assert ratios["quantize/memcpy"] > 0


def test_a_ratio_is_the_median_of_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: a busy round slows both sides and leaves the ratio; the first round does not count."""
    contest = speed.Contest()
    ours, theirs = iter([100.0, 2.0, 20.0, 2.0]), iter([1.0, 1.0, 10.0, 3.0])
    monkeypatch.setattr(contest, "run", {"ours": lambda: next(ours), "theirs": lambda: next(theirs)})
    contest.measure(3)
    assert contest.seconds == {"ours": [2.0, 20.0, 2.0], "theirs": [1.0, 10.0, 3.0]}
    # 1/2, 10/20 and 3/2
    assert contest.ratio("ours", "theirs") == 0.5
    assert contest.ratio("ours", "nobody") is None
    assert contest.ratio("nobody", "theirs") is None


def test_sides_that_differ_are_not_timed() -> None:
    """A comparison of two functions that do not do the same is worth nothing."""
    with pytest.raises(RuntimeError, match="quantize: the two sides of the comparison give different bits"):
        speed._agree("quantize", np.zeros(2), np.ones(2))


@pytest.mark.skipif(scalar_library() is None, reason="no C scalar kernel and no compiler to build it")
def test_the_c_kernel_multiplies() -> None:
    """By hand: two columns of ones by three rows of twos; its calls alone take some time."""
    library = scalar_library()
    assert library is not None
    kernel = CKernel(library)
    x, w = np.full((2, 64), 127, np.float32), kernel.quantize(np.full((3, 64), 254, np.float32))
    # d = 1 and 2, q = 127 both
    assert kernel.mul_mat(w, x).tolist() == [[64.0 * 127 * 254] * 3] * 2
    assert kernel.dequantize(w).tolist() == [[254.0] * 64] * 3
    assert kernel.seconds_of_calls(w, x) > 0


def test_the_watch_keeps_peaks(tmp_path: Path) -> None:
    """Each part's own peak over the state before; mapped pages of a file in memory count as file."""
    status = tmp_path / "status"

    def write(anon: int, file: int, shmem: int) -> None:
        status.write_text(
            f"Name:\tx\nno colon\nRssAnon:\t{anon} kB\nRssFile:\t{file} kB\nRssShmem:\t{shmem} kB\n"
        )

    write(100, 10, 0)
    watch = resident.Watch(status)
    write(150, 10, 5)
    watch._note()
    write(120, 40, 0)
    watch._note()
    assert (watch.above("anon"), watch.above("file")) == (50 << 10, 30 << 10)
    # Together: 165 and 160, from 110.
    assert watch.above("all") == 55 << 10


def test_a_system_without_a_status_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no status file the measurement is null."""
    monkeypatch.setattr(resident, "STATUS", Path("/nowhere/status"))
    assert resident.start({"bytes": 1 << 16}) == ({"memory": None}, None)
