"""Calibration: the statistics against plain Python, merging, the sample, and what files are refused."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8.errors import ArgumentError, DomainError
from q8a8.methods.archive import ArchiveError, read_archive, write_archive
from q8a8.methods.calibration import (
    Calibration,
    CalibrationError,
    Source,
    calibrate,
    input_of,
    observe_model,
)
from q8a8.methods.row_sample import RowSample, token_numbers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]

NAMES = tuple(f"blk.0.{name}.weight" for name in ("attn_q", "attn_k", "attn_output"))
MASK = (1 << 64) - 1


class Fake:
    """A model whose linear operators see what a table says: a row of each input by token."""

    def __init__(self, wide: int = 5) -> None:
        rng = np.random.default_rng(1)
        self.inputs = {
            "attn_q": rng.standard_normal((50, wide)).astype(np.float32),
            "attn_output": rng.standard_normal((50, 3)).astype(np.float32),
        }
        self.logits_from: list[int] = []

    def forward(
        self, tokens: NDArray[Any], /, *, observe: Callable[[str, F32], None], logits_from: int
    ) -> None:
        """Show the rows of the tokens, as a model does."""
        self.logits_from.append(logits_from)
        normed = self.inputs["attn_q"][tokens]
        observe("blk.0.attn_q.weight", normed)
        observe("blk.0.attn_k.weight", normed)
        observe("blk.0.attn_output.weight", self.inputs["attn_output"][tokens])
        if logits_from < len(tokens):
            observe("output.weight", normed[logits_from:])


def _run(first: int, count: int, *, rows: int = 6, model: Fake | None = None, text: str = "t") -> Calibration:
    windows = [np.arange(i * 4, i * 4 + 4) for i in range(first, first + count)]
    source = Source(text, 4, first, count)
    return calibrate(model or Fake(), windows, NAMES, source, model_sha256="m", rows=rows)


def test_statistics() -> None:
    """Maxima are exact; sums of |x| are float64, and exact here; means divide by the tokens."""
    model, calibration = Fake(), _run(0, 3)
    assert calibration.names == NAMES
    assert calibration.tokens == 12
    for name, table in (("attn_q", "attn_q"), ("attn_k", "attn_q"), ("attn_output", "attn_output")):
        statistics = calibration[f"blk.0.{name}.weight"]
        columns = [[abs(float(x)) for x in column] for column in model.inputs[table][:12].T]
        assert statistics.maximum.dtype == np.float32
        assert statistics.maximum.tolist() == [max(column) for column in columns]
        # Twelve float32 numbers of like size: 24 bits and a few more, exact in float64.
        assert statistics.total.tolist() == [sum(column) for column in columns]
        assert statistics.mean.tolist() == [sum(column) / 12 for column in columns]
        assert statistics.tokens == 12


def test_negative_maximum() -> None:
    """The largest magnitude may be that of a negative number, and zeros of both signs are zero."""
    model = Fake(2)
    model.inputs["attn_q"][:8] = [[-3, 0.0], [2, -0.0]] * 4
    assert _run(0, 2, model=model)[NAMES[0]].maximum.tolist() == [3, 0]


def test_splitmix64() -> None:
    """Tokens are numbered by SplitMix64: first a Python form against its published outputs, then ours."""

    def output(seed: int, n: int) -> int:
        z = (seed + n * 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    # The test vector of the algorithm's usual C form, for the seed 1234567.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [output(1234567, n) for n in range(1, 5)] == published
    seed = int.from_bytes(hashlib.sha256(b"some text").digest()[:8], "little")
    assert token_numbers("some text", 7, 4).tolist() == [output(seed, n) for n in range(8, 12)]


def test_sample() -> None:
    """The sample is the rows of the tokens with the smallest numbers, the same for every input."""
    model, calibration = Fake(), _run(2, 5, rows=6)
    numbers = token_numbers("t", 8, 20)
    chosen = np.argsort(numbers)[:6]
    assert calibration.numbers.tolist() == sorted(numbers.tolist())[:6]
    for name, table in (("attn_q", "attn_q"), ("attn_k", "attn_q"), ("attn_output", "attn_output")):
        wanted = model.inputs[table][8:28][chosen]
        assert np.array_equal(calibration.rows(f"blk.0.{name}.weight"), wanted)
    assert set(calibration.samples) == {"blk.0.attn_q.weight", "blk.0.attn_output.weight"}


@pytest.mark.parametrize("rows", [0, 5, 100])
def test_merge_is_one_run(rows: int) -> None:
    """However a text is split, the parts merge into the whole: samples larger than the text included."""
    whole = _run(0, 6, rows=rows)
    for cut in (1, 3):
        merged = _run(cut, 6 - cut, rows=rows).merge(_run(0, cut, rows=rows))
        assert merged.tokens == whole.tokens
        assert np.array_equal(merged.numbers, whole.numbers)
        for name in NAMES:
            assert np.array_equal(merged[name].maximum, whole[name].maximum)
            assert np.array_equal(merged.rows(name), whole.rows(name))
            # Again exact, see above.
            assert np.array_equal(merged[name].total, whole[name].total)
            assert merged[name].tokens == 24


def test_merge_of_different_samples() -> None:
    """The sample of two is no larger than what both know: the smaller one that was cut, or all."""
    small, large, whole = _run(0, 3, rows=2), _run(3, 3, rows=7), _run(6, 1, rows=9)
    assert len(small.merge(large).numbers) == 2
    assert len(whole.merge(large).numbers) == 7
    assert len(whole.merge(_run(7, 1, rows=4)).numbers) == 8


def test_merge_refuses() -> None:
    """Other models, other operators, and tokens that both have seen are refused."""
    calibration = _run(0, 3)
    other = Calibration("other", calibration.sources, calibration.statistics, calibration.numbers, {})
    with pytest.raises(CalibrationError, match="of two models, sha256 m and other"):
        calibration.merge(other)
    with pytest.raises(CalibrationError, match="different linear operators"):
        calibration.merge(Calibration("m", (), {}, calibration.numbers, calibration.samples))
    with pytest.raises(CalibrationError, match="different linear operators"):
        calibration.merge(Calibration("m", (), calibration.statistics, calibration.numbers, {}))
    with pytest.raises(
        CalibrationError, match=r"text with sha256 t, tokens range\(0, 12\) and range\(8, 16\)"
    ):
        calibration.merge(_run(2, 2))
    assert len(calibration.merge(_run(2, 2, text="another")).sources) == 2


def test_overlap_counts_tokens_of_the_text() -> None:
    """Windows of different length overlap where their tokens do; a token that was put in is none of them."""
    assert Source("t", 4, 0, 3).overlaps(Source("t", 2, 5, 1))
    assert not Source("t", 4, 0, 3).overlaps(Source("t", 2, 6, 1))
    assert not Source("t", 4, 0, 3, bos=1).overlaps(Source("t", 3, 3, 1))
    assert Source("t", 4, 0, 3).extent == range(12)
    assert Source("t", 4, 1, 3, bos=1).extent == range(3, 12)


def test_round_trip(tmp_path: Path) -> None:
    """A file gives back what was saved, and the same calibration gives the same bytes."""
    calibration = _run(1, 3)
    path = tmp_path / "a.npz"
    calibration.save(path)
    again = Calibration.load(path)
    assert again.sources == calibration.sources
    assert again.model_sha256 == "m"
    assert np.array_equal(again.numbers, calibration.numbers)
    for name in NAMES:
        for array, wanted in (
            (again[name].maximum, calibration[name].maximum),
            (again[name].total, calibration[name].total),
            (again.rows(name), calibration.rows(name)),
        ):
            assert array.dtype == wanted.dtype
            assert np.array_equal(array, wanted)
        assert again[name].tokens == 12
    again.save(tmp_path / "b.npz")
    assert (tmp_path / "b.npz").read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_unknown_operators() -> None:
    """What the calibration does not know is refused by name."""
    calibration = _run(0, 1)
    with pytest.raises(CalibrationError, match=r"input of 'blk\.7\.attn_q\.weight'"):
        calibration["blk.7.attn_q.weight"]
    with pytest.raises(CalibrationError, match=r"no row sample of the input of 'blk\.7\.attn_k\.weight'"):
        calibration.rows("blk.7.attn_k.weight")
    with pytest.raises(CalibrationError, match=r"no linear operator called 'blk\.9\.attn_q\.weight'"):
        calibrate(Fake(), [np.arange(4)], ["blk.9.attn_q.weight"], Source("t", 4, 0, 1), model_sha256="m")


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ([], "expected 2, at least 1, got 0"),
        ([np.arange(4)], "expected 2, at least 1, got 1"),
        ([np.arange(4), np.arange(3)], "window 1 has 3 tokens, not 4"),
    ],
)
def test_windows_are_checked(windows: list[NDArray[Any]], message: str) -> None:
    """The windows must be those that the source names: their hash stands for them."""
    with pytest.raises(CalibrationError, match=message):
        calibrate(Fake(), windows, NAMES, Source("t", 4, 0, 2), model_sha256="m")
    with pytest.raises(CalibrationError, match="expected 0, at least 1, got 0"):
        calibrate(Fake(), [], NAMES, Source("t", 4, 0, 0), model_sha256="m")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_activations_must_be_finite(value: float) -> None:
    """A NaN or an infinity is refused with operator, row and channel."""
    model = Fake()
    model.inputs["attn_output"][2, 1] = value
    with pytest.raises(DomainError, match=r"input of blk\.0\.attn_output\.weight: row 2, block 0, element 1"):
        _run(0, 1, model=model)


def test_negative_sample() -> None:
    """A sample cannot have fewer than no rows."""
    with pytest.raises(ArgumentError, match="rows: expected 0 or more, got -1"):
        RowSample(-1, "t")


@pytest.mark.parametrize(
    ("name", "stands_for"),
    [
        ("blk.3.attn_k.weight", "blk.3.attn_q.weight"),
        ("blk.3.attn_v.weight", "blk.3.attn_q.weight"),
        ("blk.3.attn_q.weight", "blk.3.attn_q.weight"),
        ("blk.3.ffn_up.weight", "blk.3.ffn_gate.weight"),
        ("blk.3.ffn_down.weight", "blk.3.ffn_down.weight"),
        ("output.weight", "output.weight"),
    ],
)
def test_shared_inputs(name: str, stands_for: str) -> None:
    """Query, key and value have one input, gate and up have one; the others have their own."""
    assert input_of(name) == stands_for


def test_observers_and_the_head() -> None:
    """Any observer is shown its inputs, window by window; the head is run for those who look at it alone."""

    class Rows:
        """Counts rows."""

        def __init__(self) -> None:
            self.count = 0

        def update(self, x: F32, /) -> None:
            """Count."""
            self.count += len(x)

    done: list[int] = []
    model, seen = Fake(), {"output.weight": Rows(), NAMES[0]: Rows()}
    observe_model(model, [np.arange(4), np.arange(3)], seen, progress=done.append)
    assert [observer.count for observer in seen.values()] == [7, 7]
    assert model.logits_from == [0, 0]
    assert done == [1, 2]
    observe_model(model, [np.arange(4)], {NAMES[1]: Rows()})
    assert model.logits_from == [0, 0, 4]


def _altered(path: Path, change: Callable[[dict[str, NDArray[Any]], dict[str, Any]], None]) -> Path:
    _run(0, 2).save(path)
    with np.load(path) as archive_file:
        arrays = dict(archive_file)
    metadata = json.loads(arrays.pop("metadata").tobytes())
    change(arrays, metadata)
    kind, version = metadata.pop("kind"), metadata.pop("version")
    write_archive(path, kind, version, metadata, arrays)
    return path


def _drop(key: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(arrays: dict[str, Any], metadata: dict[str, Any]) -> None:
        del (arrays if key in arrays else metadata)[key]

    return change


def _put(key: str, value: object) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(arrays: dict[str, Any], metadata: dict[str, Any]) -> None:
        (arrays if key in arrays else metadata)[key] = value

    return change


FIVE = np.ones(5, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_put("kind", "q8a8-smoothing"), "this is not a file of kind q8a8-calibration"),
        (_put("version", 2), "q8a8-calibration of version 2; only 1 is known"),
        (_drop("numbers"), "numbers: missing"),
        (_drop("sum/blk.0.attn_k.weight"), r"sum/blk\.0\.attn_k\.weight: missing"),
        (
            _put("max/blk.0.attn_k.weight", FIVE.astype(float)),
            "expected float32 with 1 axes, got float64 with 1",
        ),
        (_put("max/blk.0.attn_k.weight", FIVE[:, None]), "expected float32 with 1 axes, got float32 with 2"),
        (_put("max/blk.0.attn_k.weight", FIVE * np.nan), "not all values are finite"),
        (_put("max/blk.0.attn_k.weight", FIVE[:4]), "not largest magnitudes and their sums"),
        (_put("max/blk.0.attn_k.weight", -FIVE), "not largest magnitudes and their sums"),
        (_put("max/blk.0.attn_k.weight", FIVE * 1e9), "not largest magnitudes and their sums"),
        (_put("rows/blk.0.attn_q.weight", np.ones((1, 5), np.float32)), "neither numbers nor channels"),
        (_put("rows/blk.0.attn_q.weight", np.ones((6, 4), np.float32)), "neither numbers nor channels"),
        (_put("samples", ["blk.0.attn_q.weight", "x"]), "rows/x: missing"),
        (_put("operators", ["blk.0.attn_q.weight"]), r"rows/blk\.0\.attn_output\.weight: shape"),
        (_put("operators", "all"), "metadata: operators: 'all' has the wrong type"),
        (_drop("model_sha256"), "metadata: model_sha256: None has the wrong type"),
        (_put("sources", [{"text": "t"}]), "metadata: sources: "),
        (_put("sources", [{"text_sha256": "t", "window": None, "first": 0, "windows": 1}]), "sources: "),
    ],
)
def test_broken_calibrations(
    tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None], message: str
) -> None:
    """A file whose entries do not fit together is refused, naming file and entry."""
    path = _altered(tmp_path / "a.npz", change)
    with pytest.raises(ArchiveError, match=rf"a\.npz: .*{message}"):
        Calibration.load(path)


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _other_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def _no_metadata(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


def _pickled(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, metadata=np.array([{}], dtype=object))


def _json_list(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, metadata=np.frombuffer(b"[1]", np.uint8))


def _no_json(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, metadata=np.frombuffer(b"\xff{", np.uint8))


@pytest.mark.parametrize(
    "spoil",
    [_truncated, _other_array, _no_metadata, _pickled, _json_list, _no_json, lambda p: p.write_bytes(b"")],
)
def test_no_archive(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    """What is no archive is refused by name, whatever it is."""
    path = tmp_path / "a.npz"
    _run(0, 1).save(path)
    spoil(path)
    with pytest.raises(ArchiveError, match=r"a\.npz: "):
        read_archive(path, "q8a8-calibration", 1)


def test_flipped_bytes(tmp_path: Path) -> None:
    """A byte that flipped in an array is found by the archive's checksum."""
    path = tmp_path / "a.npz"
    _run(0, 1).save(path)
    content = bytearray(path.read_bytes())
    place = content.index(_run(0, 1)[NAMES[0]].maximum.tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"a\.npz: "):
        Calibration.load(path)


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(ArchiveError, match=r"none\.npz: No such file"):
        Calibration.load(tmp_path / "none.npz")


def test_a_failed_save_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where writing fails, the file of that name is what it was, and nothing else is left."""
    path = tmp_path / "a.npz"
    path.write_bytes(b"before")

    def full(*_args: object, **_arrays: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        _run(0, 1).save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    assert path.read_bytes() == b"before"
