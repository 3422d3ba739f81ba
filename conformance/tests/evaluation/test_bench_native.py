"""``q8a8 bench --native``: which ratios there are, and what it says where a peer is missing."""

from __future__ import annotations

import argparse
import json
import platform
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from q8a8_evaluation import native
from q8a8_evaluation.bench.native import LIMITS, Contest, Peak
from q8a8_evaluation.commands import bench, bench_native
from q8a8_lab import native_build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory, need: Callable[[object, str], None]) -> dict[str, Any]:
    """Run the quick benchmark once, as the command does, and read its file."""
    try:
        native.runnable()
    except native.NativeKernelError as error:
        need(False, str(error))
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    parser = argparse.ArgumentParser()
    bench.add_parser(parser.add_subparsers())
    options = parser.parse_args(["bench", "--native", "--quick", "--json", str(path)])
    assert options.func(options) == 0
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return figures


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the kernels that it names are for x86-64")
def test_ratios_of_every_kernel(figures: dict[str, Any]) -> None:
    """Every kernel that runs here has its ratios, all positive; ggml's are missing with a note alone."""
    names = [kernel.name for kernel in native.runnable() if kernel.name != "scalar"]
    assert set(figures["ggml"]) == set(names)
    ratios = figures["ratios"]
    assert all(ratio > 0 for ratio in ratios.values())
    theirs = {"sgemm", "copy"} | ({"ggml"} if any(figures["ggml"].values()) else set())
    for name in names:
        assert {f"{name} mul_mat n=1/{each}" for each in theirs} <= set(ratios)
        assert (f"{name} mul_mat n=8 threads=2/ggml" in ratios) == ("ggml" in theirs)
        assert (f"{name} quantize/ggml" in ratios) == ("ggml" in theirs)
    assert bool([note for note in figures["notes"] if note.startswith("ggml")]) == ("ggml" not in theirs)
    assert "say nothing about speed" in bench_native.text(figures)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the loops are of x86-64 instructions")
@pytest.mark.parametrize("what", LIMITS)
def test_limits_of_every_kernel(what: str, need: Callable[[object, str], None]) -> None:
    """Each kernel that runs here has both loops, whose number of products is a multiple of a block's."""
    try:
        path = native_build.build("native", "q8a8-peak") / "lib" / "libq8a8-peak.so"
    except native_build.MissingToolError as error:
        need(False, str(error))
        raise  # not reached
    for kernel in native.runnable():
        if kernel.name != "scalar":
            limit = Peak(path, what, kernel.name)
            assert limit.products > 0
            assert limit.products % 32 == 0
            limit.run()


def test_machine_is_named(figures: dict[str, Any]) -> None:
    """Times are of a machine."""
    assert figures["machine"]["architecture"] == platform.machine()
    assert figures["rounds"] == 2


def test_ratio_of_a_contest() -> None:
    """The median of the rounds' ratios, not the ratio of medians; a scale says how much more work ours is."""
    contest = Contest(1)
    contest.seconds = {"ours": [1.0, 2.0, 8.0], "theirs": [3.0, 4.0, 4.0]}
    assert contest.ratio("ours", "theirs") == 2
    assert contest.ratio("ours", "theirs", 2.5) == 5
    assert contest.medians() == {"ours": 2, "theirs": 4}


def test_contestants_take_turns() -> None:
    """One round is not counted."""
    contest = Contest(2)
    runs: list[str] = []
    for name in "ab":
        contest.add(name, partial(runs.append, name))
    contest.measure(2)
    assert runs == list("ababab")
    assert [len(measured) for measured in contest.seconds.values()] == [2, 2]


def test_no_kernels_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without a checkout it says why, and writes nothing."""
    monkeypatch.setattr(native, "in_checkout", lambda: False)
    parser = argparse.ArgumentParser()
    bench.add_parser(parser.add_subparsers())
    options = parser.parse_args(["bench", "--native", "--quick", "--json", str(tmp_path / "x.json")])
    assert options.func(options) == 2
    assert "checkout" in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()
