"""Measuring schemes on a tiny model: what is kept and used again, and what calibration is asked for."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8.arithmetic import is_own
from q8a8.errors import ArgumentError
from q8a8.llama import Config, FloatLinear, LoadedModel
from q8a8.llama.tensors import expected_shapes
from q8a8.methods.awq import AwqGrid
from q8a8.schemes.scheme import Scheme
from q8a8.schemes.statistics import gather_inputs
from q8a8.schemes.table import SCHEMES
from q8a8_evaluation import calibration_data, fingerprint, measure
from q8a8_evaluation.calibration import calibrate_model
from q8a8_evaluation.calibration_data import CalibrationData
from q8a8_evaluation.commands.perplexity import measure as measure_all
from q8a8_evaluation.machine import machine
from q8a8_evaluation.measure import Outcome, Protocol, Subject, read_windows
from q8a8_evaluation.store import Store, key_of, tokens_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

CONFIG = Config(
    n_layers=1, n_heads=2, n_kv_heads=1, d_model=64, d_head=32, d_ff=64, n_vocab=300, eps=1e-5, context=64
)


class _Bytes:
    """A tokenizer: bytes are tokens."""

    bos: int | None = 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


@pytest.fixture
def loaded() -> LoadedModel:
    """Return a tiny model whose tokens are bytes."""
    random = np.random.default_rng(5)
    weights = {
        name: (random.normal(size=shape) * (0.1 if len(shape) == 2 else 1)).astype(np.float32)
        for name, shape in expected_shapes(CONFIG).items()
    }
    loaded = LoadedModel(CONFIG, weights, {}, "a" * 64)
    vars(loaded)["tokenizer"] = _Bytes()
    return loaded


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Return a text of 500 bytes, no two windows of which are equal."""
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{number:05d}" for number in range(100)))
    return path


class _Counted(FloatLinear):
    """A float operator that counts how often one was made."""

    made = 0

    def __init__(self, weight: NDArray[np.float32]) -> None:
        type(self).made += 1
        super().__init__(weight)


COUNTED = {
    "float": SCHEMES["float"],
    "counted": Scheme("counted", "Counts.", "here", 32, 32, _Counted),
}


def _subject(loaded: LoadedModel, text: Path, folder: Path | None, windows: int = 3) -> Subject:
    protocol = Protocol(window=20, windows=windows)
    return Subject(loaded, protocol, read_windows(loaded, text, protocol), folder=folder)


def _outcomes(subject: Subject, names: Sequence[str], schemes: dict[str, Scheme]) -> list[Outcome]:
    return [step.outcome for step in subject.measure(names, schemes) if step.outcome is not None]


def test_resumes(loaded: LoadedModel, text: Path, tmp_path: Path) -> None:
    """What was measured is not measured again; of one window more, that one is; the numbers are the same."""
    folder = tmp_path / "kept"
    _Counted.made = 0
    first = _outcomes(_subject(loaded, text, folder), ["counted"], COUNTED)
    assert _Counted.made == 7
    again = _outcomes(_subject(loaded, text, folder), ["counted"], COUNTED)
    assert _Counted.made == 7
    more = _outcomes(_subject(loaded, text, folder, windows=4), ["counted"], COUNTED)
    assert _Counted.made == 14
    fresh = _outcomes(_subject(loaded, text, None, windows=4), ["counted"], COUNTED)
    for a, b, c, d in zip(first, again, more, fresh, strict=True):
        assert a.scheme.name == b.scheme.name == c.scheme.name
        assert [nlls.tolist() for nlls in a.nlls] == [nlls.tolist() for nlls in b.nlls]
        assert [nlls.tolist() for nlls in c.nlls] == [nlls.tolist() for nlls in d.nlls]
        assert (a.weight_bytes, a.weight_bits, a.seconds) == (b.weight_bytes, b.weight_bits, b.seconds)


class _Doubled(FloatLinear):
    """A float operator with twice the result."""

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return 2 * super().__call__(x)


def test_divergence_is_kept_too(
    loaded: LoadedModel, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predictions are compared with the float model's, whether its logits are kept or computed again."""
    schemes = COUNTED | {"doubled": Scheme("doubled", "Doubles.", "here", 32, 32, _Doubled)}
    results = []
    for kept, folder in ((1 << 30, None), (0, None), (0, tmp_path), (0, tmp_path)):
        monkeypatch.setattr(measure, "KEPT", kept)
        subject = _subject(loaded, text, folder)
        subject.protocol = Protocol(window=20, windows=3, divergence=True)
        results.append(_outcomes(subject, ["counted", "doubled"], schemes))
    base, same, other = results[0]
    assert base.divergences == []
    for kl, top, change in same.divergences:
        assert not kl.any()
        assert top.all()
        assert not change.any()
    for a, b in zip(other.nlls, base.nlls, strict=True):
        assert (a != b).any()
    for again in results[1:]:
        for mine, theirs in zip(again, results[0], strict=True):
            np.testing.assert_array_equal(mine.divergences, theirs.divergences)
    change = np.concatenate([each[2] for each in other.divergences])
    nlls = [np.exp(-np.concatenate(each.nlls)) for each in (other, base)]
    np.testing.assert_allclose(change, nlls[0] - nlls[1], rtol=1e-9, atol=1e-12)


def test_arithmetic_is_named(loaded: LoadedModel, text: Path) -> None:
    """In our own order the machine is no part of the key, but of schemes that LAPACK takes part in."""
    name = machine()
    assert f"NumPy {np.__version__}" in name
    assert "kernel" in name
    subject = _subject(loaded, text, None)
    assert subject.arithmetic(SCHEMES["q8_a8"]) == name
    subject.protocol = Protocol(window=20, windows=3, own_order=True)
    assert subject.arithmetic(SCHEMES["q8_a8"]) == "own"
    assert subject.arithmetic(SCHEMES["gptq-int4-g64"]) == name
    own = _outcomes(subject, ["w8a16"], dict(SCHEMES))
    assert not is_own()
    machines = _outcomes(_subject(loaded, text, None), ["w8a16"], dict(SCHEMES))
    for a, b in zip(own, machines, strict=True):
        np.testing.assert_allclose(np.concatenate(a.nlls), np.concatenate(b.nlls), rtol=1e-5)


def test_windows_of_another_length(loaded: LoadedModel, text: Path, tmp_path: Path) -> None:
    """What is stored of long windows stays theirs: a cache's bytes are by the window."""
    measured: dict[int, list[int]] = {}
    for window in (20, 10, 20):
        subject = _subject(loaded, text, tmp_path)
        subject.protocol = Protocol(window=window, windows=3)
        subject.windows = [tokens[:window] for tokens in subject.windows]
        (outcome,) = _outcomes(subject, [], dict(SCHEMES))
        measured.setdefault(window, []).append(outcome.cache_bytes)
    assert measured == {20: [2 * measured[10][0]] * 2, 10: measured[10]}


def test_a_stopped_run_goes_on(loaded: LoadedModel, text: Path, tmp_path: Path) -> None:
    """Stopped in the middle of a scheme, a run has what it had measured."""
    steps = _subject(loaded, text, tmp_path).measure(["counted"], COUNTED)
    for _ in range(4):
        step = next(steps)
    steps.close()  # type: ignore[attr-defined]  # it is a generator
    assert (step.scheme.name, step.done, step.total, step.outcome) == ("counted", 1, 3, None)
    files = [path for path in tmp_path.iterdir() if path.name.startswith("counted")]
    with np.load(files[0]) as archive:
        assert len(archive.files) == 2


@pytest.mark.parametrize(
    "change",
    [
        "weights",
        "count",
        "head",
        "options",
        "code",
        "windows of calibration",
        "calibration",
        "order",
        "machine",
    ],
)
def test_other_circumstances_are_measured_again(
    loaded: LoadedModel, text: Path, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each fact that results depend on changes the key that they are kept by."""
    scheme = SCHEMES["q8_a8+smooth"]
    subject = Subject(loaded, Protocol(), [], CalibrationData(text, 20, 2))
    before = key_of(subject._facts(scheme))
    assert key_of(Subject(loaded, Protocol(), [], CalibrationData(text, 20, 2))._facts(scheme)) == before
    after = Subject(loaded, Protocol(), [], CalibrationData(text, 20, 2))
    if change == "weights":
        loaded.weights["output_norm.weight"][3] += 1
    elif change == "count":
        after.protocol = Protocol(count="second-half")
    elif change == "head":
        after.protocol = Protocol(head=True)
    elif change == "order":
        after.protocol = Protocol(own_order=True)
    elif change == "machine":
        monkeypatch.setattr(measure, "machine", lambda: "another")
    elif change == "options":
        scheme = SCHEMES["q8_a8+smooth-down"]
    elif change == "code":
        monkeypatch.setattr(measure, "fingerprint", lambda *_: "another")
    elif change == "calibration":
        other = tmp_path / "other.txt"
        other.write_text("x" * 50)
        after.calibration = CalibrationData(other, 20, 2)
    else:
        after.calibration = CalibrationData(text, 20, 3)
    assert key_of(after._facts(scheme)) != before


def test_a_plain_scheme_does_not_depend_on_calibration(loaded: LoadedModel, text: Path) -> None:
    """Another calibration text leaves the results of a scheme without calibration valid."""
    plain = Subject(loaded, Protocol(), [])._facts(SCHEMES["kv-int8"])
    assert Subject(loaded, Protocol(), [], CalibrationData(text))._facts(SCHEMES["kv-int8"]) == plain


def test_store_takes_a_broken_file_for_none(tmp_path: Path) -> None:
    """Garbage, a cut file, other arrays: nothing is known, and the next window writes a good file."""
    store = Store.open(tmp_path, "x", "k")
    store.add("w", np.array([1.0, 2.0]), {"seconds": 3})
    assert store.path is not None
    whole = store.path.read_bytes()
    again = Store.open(tmp_path, "x", "k")
    assert again.windows["w"].tolist() == [1.0, 2.0]
    assert again.facts == {"seconds": 3}
    for wrong in (b"", b"garbage", whole[:-30], whole[: len(whole) // 2]):
        store.path.write_bytes(wrong)
        assert Store.open(tmp_path, "x", "k").windows == {}
    with store.path.open("wb") as file:
        np.savez(file, facts=np.array("{}"), w=np.array([np.nan]))
    assert Store.open(tmp_path, "x", "k").windows == {}
    assert [path.name for path in tmp_path.iterdir()] == ["x-k.npz"]


def test_keys() -> None:
    """Tokens are hashed by value and order, whatever integers hold them."""
    assert tokens_key(np.array([1, 2], np.int32)) == tokens_key(np.array([1, 2], np.int64))
    assert tokens_key(np.array([1, 2])) != tokens_key(np.array([2, 1]))
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1, "b": 3})


def test_windows_of_a_text(loaded: LoadedModel, text: Path) -> None:
    """The first windows, or windows spread over the text; of a short text as many as there are."""

    def starts(**changes: Any) -> list[int]:  # noqa: ANN401 (fields of Protocol)
        found = read_windows(loaded, text, Protocol(window=50, **changes))
        assert {len(each) for each in found} == {50}
        whole = text.read_bytes()
        return [whole.find(bytes(each[each < 256].astype(np.uint8).tolist())) for each in found]

    assert starts(windows=2) == [0, 50]
    assert starts(windows=2, spread=True) == [0, 250]
    assert starts(windows=3, spread=True) == [0, 150, 300]
    assert starts(windows=99) == [*range(0, 500, 50)]
    assert starts(windows=2, bos=True) == [0, 49]
    # Windows of half as many are among those of twice as many: a longer run goes on from a shorter one.
    assert set(starts(windows=2, spread=True)) <= set(starts(windows=4, spread=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 1}, "window: 1 tokens hold no prediction"),
        ({"window": 2, "count": "second-half"}, "window: 2 tokens hold no prediction"),
        ({"windows": 0}, "windows: expected at least 1"),
        ({"window": 501}, "500 tokens are less than one window of 501"),
        ({"bos": True}, "no token for the beginning"),
    ],
)
def test_refuses_a_protocol_that_measures_nothing(
    loaded: LoadedModel, text: Path, changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows without predictions, no windows, too short a text, no token to begin with."""
    monkeypatch.setattr(_Bytes, "bos", None)
    with pytest.raises(ArgumentError, match=message):
        read_windows(loaded, text, Protocol(**changes))


def test_calibrates_once(loaded: LoadedModel, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibration, Hessians and histograms are made when the first scheme needs each, and kept."""
    calls: list[str] = []

    def counting(name: str, original: Callable[..., Any]) -> None:
        def counted(*args: object, **options: object) -> object:
            calls.append(name)
            return original(*args, **options)

        monkeypatch.setattr(calibration_data, name, counted)

    counting("calibrate_model", calibrate_model)
    counting("gather_inputs", gather_inputs)
    subject = Subject(loaded, Protocol(), [np.arange(20)], CalibrationData(text, 20, 2))
    names = ["q8_a8", "q8_a8+smooth", "w8a8-channel+smooth", "gptq-int4-g64"]
    names += ["w8a8-static-absmax", "w8a8-static-asym-absmax", "gptq-int4-g64-act"]
    outcomes = _outcomes(subject, names, dict(SCHEMES))
    assert len(outcomes) == 8
    assert calls == ["calibrate_model", "gather_inputs", "gather_inputs"]
    other_way = Subject(loaded, Protocol(), [np.arange(20)], CalibrationData(text, 20, 2))
    names = ["w8a8-static-absmax", "gptq-int4-g64"]
    for outcome in _outcomes(other_way, names, dict(SCHEMES))[1:]:
        same = next(each for each in outcomes if each.scheme is outcome.scheme)
        np.testing.assert_array_equal(outcome.nlls, same.nlls)


def test_a_saved_calibration(loaded: LoadedModel, text: Path, tmp_path: Path) -> None:
    """A saved calibration serves smoothing as the text does; it has no Hessians, and is of one model."""
    saved = tmp_path / "calibration.npz"
    calibration = calibrate_model(loaded, text, tokens=40, window=20)
    calibration.save(saved)
    windows = [np.arange(20)]
    from_text = Subject(loaded, Protocol(), windows, CalibrationData(text, 20, 2))
    from_file = Subject(loaded, Protocol(), windows, CalibrationData(saved))
    ours, theirs = (
        _outcomes(each, ["q8_a8+smooth"], dict(SCHEMES))[1].nlls[0].tolist()
        for each in (from_text, from_file)
    )
    assert ours == theirs
    assert len(_outcomes(from_file, ["gptq-int4-g64"], dict(SCHEMES))) == 1
    assert "gptq-int4-g64: what it needs is not saved" in from_file.skipped["gptq-int4-g64"]
    other = LoadedModel(loaded.config, loaded.weights, {}, "b" * 64)
    subject = Subject(other, Protocol(), windows, CalibrationData(saved))
    assert len(_outcomes(subject, ["q8_a8+smooth"], dict(SCHEMES))) == 1
    assert "a calibration of another model" in subject.skipped["q8_a8+smooth"]


def test_skips_what_cannot_be_applied(loaded: LoadedModel, capsys: pytest.CaptureFixture[str]) -> None:
    """A scheme without its calibration, one that the shape does not suit: named, and the others are measured.

    Where nothing is left, that is an error.
    """
    subject = Subject(loaded, Protocol(), [np.arange(20)])
    names = ["q8_a8+smooth", "gptq-int4-g64", "q8_a8"]
    assert [each.scheme.name for each in measure_all(subject, names)] == ["float", "q8_a8"]
    assert list(subject.skipped) == names[:2]
    assert "q8_a8+smooth is skipped: q8_a8+smooth: this scheme needs --calibration" in capsys.readouterr().err
    with pytest.raises(ArgumentError, match=r"q8_a8\+smooth: this scheme needs --calibration"):
        measure_all(Subject(loaded, Protocol(), [np.arange(20)]), ["float", "q8_a8+smooth"])
    narrow = Config(**{**vars(loaded.config), "d_model": 40, "d_head": 20})
    weights = {n: np.ones(s, np.float32) for n, s in expected_shapes(narrow).items()}
    other = Subject(LoadedModel(narrow, weights, {}, "c" * 64), Protocol(), [np.arange(20)])
    assert len(measure_all(other, ["q8_a8", "w8a8-channel", "kv-int8"])) == 3
    assert other.skipped["q8_a8"].startswith("blk.0.attn_q.weight: x: rows of 40 elements")


def test_awq_of_the_head(loaded: LoadedModel, text: Path, tmp_path: Path) -> None:
    """With the head in the scheme, its input is calibrated as well."""
    protocol = Protocol(window=20, windows=1, head=True)
    subject = Subject(loaded, protocol, [np.arange(20)], CalibrationData(text, 20, 2), folder=tmp_path)
    schemes = {"float": SCHEMES["float"], "awq": replace(SCHEMES["awq-int4-g64"], name="awq")}
    schemes["awq"] = replace(schemes["awq"], options={"grid": AwqGrid(bits=4, group=16)})
    assert [each.scheme.name for each in _outcomes(subject, ["awq"], schemes)] == ["float", "awq"]


def test_bytes_of_the_cache(loaded: LoadedModel) -> None:
    """A float cache of 64 positions: one layer, one head of 32, K and V, 4 bytes."""
    found = _outcomes(Subject(loaded, Protocol(), [np.arange(64)]), ["kv-int4"], dict(SCHEMES))
    assert found[0].cache_bytes == 64 * 32 * 2 * 4
    assert found[1].cache_bytes < found[0].cache_bytes


def test_fingerprints_code_and_not_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments, docstrings and layout do not count; a constant does, and one in an imported module."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def of(name: str, source: str) -> str:
        (tmp_path / "fp_subject.py").write_text(source)
        for each in (fingerprint.imported, fingerprint._is_module, fingerprint._tree, fingerprint._code):
            each.cache_clear()
        sys.modules.pop(name, None)
        return fingerprint.fingerprint([name])

    plain = of("fp_subject", "import q8a8.errors\ndef f():\n    return 1\n")
    words = '"""Words."""\nimport q8a8.errors\n# more\ndef f():\n    """F."""\n\n    return 1\n'
    assert of("fp_subject", words) == plain
    assert of("fp_subject", "import q8a8.errors\ndef f():\n    return 2\n") != plain
    assert of("fp_subject", "import q8a8.layout\ndef f():\n    return 1\n") != plain
    with pytest.raises(ModuleNotFoundError, match="no module called_nothing"):
        fingerprint.fingerprint(["called_nothing"])


def test_follows_imports_at_run_time() -> None:
    """Modules that are imported for types alone are not followed, the others are."""
    found = fingerprint.imported("q8a8.llama.model")
    assert "q8a8.llama.layers" in found
    assert "q8a8.llama.cache" not in found
    assert "q8a8.matmul" in fingerprint.imported("q8a8.llama.linear")
    # It has `from q8a8 import recipe`: the module, not all that the package collects.
    found = fingerprint.imported("q8a8.quantize")
    assert "q8a8.recipe" in found
    assert "q8a8" not in found
    linear = fingerprint.fingerprint(["q8a8.llama.linear"])
    assert fingerprint.fingerprint(["q8a8.llama.linear"], ["q8a8.llama.layers"]) != linear
