"""Models that are split over several files: together they are one model, one part is none."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from gguf import GGUFReader, GGUFValueType

from q8a8 import DomainError
from q8a8.ggufio import GgufError, dequantize_model, open_model, quantize_model
from q8a8.ggufio.split import part_targets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import gguf

RNG = np.random.default_rng(77)
FIRST = {
    "token_embd.weight": (RNG.standard_normal((4, 64)).astype(np.float32), "F16"),
    "blk.0.attn_q.weight": (RNG.standard_normal((64, 64)).astype(np.float32), "F16"),
}
SECOND = {
    "blk.0.attn_norm.weight": (np.ones(64, np.float32), "F32"),
    "blk.1.attn_q.weight": (RNG.standard_normal((32, 64)).astype(np.float32), "Q8_0"),
}
TENSORS = FIRST | SECOND


def part(number: int, count: int, tensors: int | None = None) -> Callable[[gguf.GGUFWriter], None]:
    """Return a function that adds the keys of gguf-split; numbers count from 0."""

    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        if tensors is not None:
            writer.add_int32("split.tensors.count", tensors)
        if not number:
            writer.add_string("general.name", "whole")

    return add


@pytest.fixture
def halves(write: Callable[..., Path]) -> tuple[Path, Path]:
    """Write a model in two parts, the metadata in the first."""
    return (
        write("m-00001-of-00002.gguf", FIRST, fields=part(0, 2, 4)),
        write("m-00002-of-00002.gguf", SECOND, fields=part(1, 2, 4)),
    )


def test_parts_are_one_model(write: Callable[..., Path], halves: tuple[Path, Path], tmp_path: Path) -> None:
    """Whichever part is named, all tensors are there, and the result is that of the whole model."""
    whole = write("whole.gguf", TENSORS, fields=lambda writer: writer.add_string("general.name", "whole"))
    for convert in (quantize_model, dequantize_model):
        convert(whole, tmp_path / "expected.gguf")
        for given in halves:
            convert(given, tmp_path / "out.gguf")
            with open_model(tmp_path / "expected.gguf") as expected, open_model(tmp_path / "out.gguf") as out:
                assert list(out.tensors) == list(TENSORS)
                for name in TENSORS:
                    assert bytes(out.raw(name)) == bytes(expected.raw(name))
                theirs = {key: field for key, field in expected.fields.items() if "sha256" not in key}
                assert {key: field for key, field in out.fields.items() if "sha256" not in key} == theirs
    with open_model(halves[1]) as model, open_model(halves[0]) as first:
        assert model.paths == halves
        assert model.size == sum(path.stat().st_size for path in halves)
        assert model.sha256() == first.sha256()
        np.testing.assert_array_equal(
            model.read("blk.0.attn_q.weight"), FIRST["blk.0.attn_q.weight"][0].astype(np.float16)
        )


def test_no_part_is_written_over(halves: tuple[Path, Path]) -> None:
    """The target is none of the parts, whichever is named."""
    before = [path.read_bytes() for path in halves]
    for target in halves:
        with pytest.raises(GgufError, match="is the input"):
            quantize_model(halves[0], target)
    assert [path.read_bytes() for path in halves] == before


def test_a_missing_part_is_named(halves: tuple[Path, Path], tmp_path: Path) -> None:
    """With all parts named, and nothing is written."""
    halves[1].unlink()
    named = r"one of 2 parts of a split model \(m-00001-of-00002\.gguf, m-00002-of-00002\.gguf\)"
    for convert in (quantize_model, dequantize_model):
        with pytest.raises(GgufError, match=rf"{named}; missing beside it: m-00002-of-00002\.gguf$"):
            convert(halves[0], tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_names_and_counts(write: Callable[..., Path], tmp_path: Path) -> None:
    """Name or count suffices to be a part; few of many are named; a model of one part is whole."""
    with pytest.raises(
        GgufError, match=r"is one of 3 parts .* its name does not end in -NNNNN-of-00003\.gguf"
    ):
        open_model(write("in.gguf", TENSORS, fields=part(0, 3)))
    with pytest.raises(GgufError, match=r"00008-of-00100\.gguf, \.\.\.\); missing beside it: m-00001-of"):
        open_model(write("m-00007-of-00100.gguf", TENSORS))
    with pytest.raises(GgufError, match=r"one of 65535 parts"):
        open_model(write("m-00007-of-65535.gguf", TENSORS, fields=part(6, 65535)))
    quantize_model(write("m-00001-of-00001.gguf", TENSORS, fields=part(0, 1)), tmp_path / "out.gguf")


def test_parts_of_another_model(write: Callable[..., Path], halves: tuple[Path, Path]) -> None:
    """Swapped and repeated parts, a tensor in two of them, too few, another byte order."""
    shutil.copy(halves[0], halves[1].with_name("n-00001-of-00002.gguf"))
    shutil.copy(halves[0], halves[1].with_name("n-00002-of-00002.gguf"))
    with pytest.raises(GgufError, match=r"n-00002-of-00002\.gguf: expected split\.no 1 .* got 0 and 2"):
        open_model(halves[0].with_name("n-00001-of-00002.gguf"))
    wrong = {
        "is in two parts": (FIRST, part(1, 2, 4), False),
        r"split\.tensors\.count is 4, and the parts have 3": (
            {"blk.0.attn_norm.weight": SECOND["blk.0.attn_norm.weight"]},
            part(1, 2, 4),
            False,
        ),
        "has another byte order": (
            {"blk.0.attn_norm.weight": SECOND["blk.0.attn_norm.weight"]},
            part(1, 2, 4),
            True,
        ),
    }
    for message, (tensors, fields, big) in wrong.items():
        write("m-00002-of-00002.gguf", tensors, fields=fields, big=big)
        with pytest.raises(GgufError, match=message):
            open_model(halves[0])


def test_a_model_is_written_in_parts(write: Callable[..., Path], tmp_path: Path) -> None:
    """By size, in the tensors' order; the parts together are what one file would be, and gguf-py's types."""
    source = write("in.gguf", TENSORS, fields=lambda writer: writer.add_string("general.name", "whole"))
    quantize_model(source, tmp_path / "one.gguf")
    # 512 and 4352 bytes, 256 and 2176: a part of at most 2500 is closed before each of the large ones.
    summary = quantize_model(source, tmp_path / "out.gguf", split=2500)
    names = [f"out-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    assert summary.target == tmp_path / names[0]
    assert sorted(path.name for path in tmp_path.glob("out*")) == names
    assert summary.target_bytes == sum((tmp_path / name).stat().st_size for name in names)
    tensors = []
    for number, name in enumerate(names):
        reader = GGUFReader(tmp_path / name)
        tensors.append([tensor.name for tensor in reader.tensors])
        for key, kind, value in (
            ("split.no", GGUFValueType.UINT16, number),
            ("split.count", GGUFValueType.UINT16, 3),
            ("split.tensors.count", GGUFValueType.INT32, 4),
        ):
            field = reader.fields[key]
            assert (field.types, field.contents()) == ([kind], value)
        assert ("general.name" in reader.fields) == (number == 0)
    assert tensors == [list(TENSORS)[:1], list(TENSORS)[1:2], list(TENSORS)[2:]]
    with open_model(tmp_path / "one.gguf") as one, open_model(tmp_path / names[1]) as parts:
        assert dict(parts.fields) == dict(one.fields)
        assert list(parts.tensors) == list(one.tensors)
        for name in TENSORS:
            assert bytes(parts.raw(name)) == bytes(one.raw(name))


def test_parts_that_cannot_be_written(write: Callable[..., Path], tmp_path: Path) -> None:
    """What was written before is gone; a source is not written over; a size is at least a byte."""
    bad = np.full((32, 64), np.inf, np.float32)
    source = write("in.gguf", {**TENSORS, "blk.2.attn_q.weight": (bad, "F32")})
    with pytest.raises(DomainError, match=r"blk\.2\.attn_q\.weight"):
        quantize_model(source, tmp_path / "out.gguf", split=1)
    assert not list(tmp_path.glob("out*"))
    quantize_model(write("m.gguf", TENSORS), tmp_path / "out.gguf", split=10**6)
    with pytest.raises(GgufError, match="is the input"):
        quantize_model(tmp_path / "out-00001-of-00001.gguf", tmp_path / "out.gguf", split=10**6)
    with pytest.raises(GgufError, match="at least one byte, got 0"):
        quantize_model(source, tmp_path / "out.gguf", split=0)
    with pytest.raises(GgufError, match="70000 parts are more than 65535"):
        part_targets(tmp_path / "out.gguf", 70000)
    assert part_targets(tmp_path / "m-00002-of-00003.gguf", 1) == [tmp_path / "m-00001-of-00001.gguf"]
