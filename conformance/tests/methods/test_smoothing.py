"""Folding: each tensor alone, one rounding an element, never in place; and the files of factors."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8.errors import DtypeError
from q8a8.methods.archive import ArchiveError, write_archive
from q8a8.methods.smoothing import FoldGroup, SmoothedGroup, Smoothing, SmoothingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]

PROVENANCE = {"model_sha256": "m", "alpha": 0.5, "fold_down": True, "rounding": "nearest"}


def f32(*values: object) -> F32:
    """Make a float32 array."""
    return np.array(values, np.float32)


def smoothing(**provenance: object) -> Smoothing:
    """Make factors for two groups: down into up, then up's columns into a norm."""
    down = FoldGroup("down", ("down.weight",), ("up.weight", "up.bias"))
    norm = FoldGroup("norm", ("gate.weight", "up.weight"), ("norm.weight", "norm.bias"))
    return Smoothing(
        (
            SmoothedGroup(down, f32(2, 0.1, 8), 0.5),
            SmoothedGroup(norm, f32(3, 0.7), None),
        ),
        PROVENANCE | provenance,
    )


def rounded(value: Fraction) -> float:
    """Round a product or quotient of two float32 to float32; by way of float64, which has 2 · 24 + 2 bits."""
    return float(np.float32(float(value)))


def test_each_tensor() -> None:
    """Columns are multiplied, rows and vectors divided, each element rounded once a factor; by fractions."""
    s = smoothing()
    s_down, s_norm = ([Fraction(float(x)) for x in g.factors] for g in s.groups)
    rng = np.random.default_rng(3)
    gate, up, down = (rng.standard_normal(shape).astype(np.float32) for shape in ((5, 2), (3, 2), (4, 3)))
    norm, bias = rng.standard_normal(2).astype(np.float32), rng.standard_normal(3).astype(np.float32)
    copies = {name: array.copy() for name, array in (("gate", gate), ("up", up), ("down", down))}
    got = s.fold(
        {"gate.weight": gate, "up.weight": up, "down.weight": down, "norm.weight": norm, "up.bias": bias}
    )
    for (i, j), x in np.ndenumerate(gate):
        assert got["gate.weight"][i, j] == rounded(Fraction(float(x)) * s_norm[j])
    for (i, j), x in np.ndenumerate(down):
        assert got["down.weight"][i, j] == rounded(Fraction(float(x)) * s_down[j])
    for (i, j), x in np.ndenumerate(up):
        divided = rounded(Fraction(float(x)) / s_down[i])
        assert got["up.weight"][i, j] == rounded(Fraction(divided) * s_norm[j])
    for j, x in enumerate(norm):
        assert got["norm.weight"][j] == rounded(Fraction(float(x)) / s_norm[j])
    for i, x in enumerate(bias):
        assert got["up.bias"][i] == rounded(Fraction(float(x)) / s_down[i])
    for name, array in (("gate", gate), ("up", up), ("down", down)):
        assert np.array_equal(array, copies[name])
    assert all(array.dtype == np.float32 for array in got.values())


def test_other_tensors() -> None:
    """A tensor without factors is passed on as it is; whether there are some can be asked."""
    array = f32(1, 2, 3)
    assert smoothing().fold_tensor("attn_output.weight", array) is array
    assert not smoothing().folds("attn_output.weight")
    assert smoothing().folds("up.bias")
    assert smoothing().folds("gate.weight")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "gate.weight",
            np.ones((2, 3), np.float32),
            r"gate\.weight: shape \(2, 3\) does not fit the 2 factors of",
        ),
        (
            "norm.weight",
            np.ones(3, np.float32),
            r"norm\.weight: shape \(3,\) does not fit the 2 factors of norm",
        ),
        (
            "down.weight",
            np.ones((1, 1, 3), np.float32),
            r"shape \(1, 1, 3\) does not fit the 3 factors of down",
        ),
        (
            "gate.weight",
            f32([1, 1], [3e38, 1]),
            r"gate\.weight: element \[1, 0\]: 3\S*e\+38 with the factor 3 of",
        ),
        (
            "up.bias",
            f32(1, 1e38, 1),
            r"up\.bias: element \[1\]: .* with the factor 0\.100\d* of down is not a finite",
        ),
        ("norm.weight", f32(np.nan, 1), r"norm\.weight: element \[0\]: nan with"),
    ],
)
def test_refused(name: str, array: F32, message: str) -> None:
    """Shapes that do not fit, and results that are not finite, are refused with tensor and place."""
    with pytest.raises(SmoothingError, match=message):
        smoothing().fold_tensor(name, array)


def test_other_numbers() -> None:
    """Float64 weights are refused: the bounds are float32's."""
    with pytest.raises(DtypeError, match=r"gate\.weight: expected float32, got float64"):
        smoothing().fold_tensor("gate.weight", np.ones((1, 2)))  # type: ignore[arg-type] # that is the test


@pytest.mark.parametrize("missing", ["down.weight", "up.weight", "gate.weight", "norm.weight"])
def test_half_a_group(missing: str) -> None:
    """Weights of which a group's part is missing are refused: the rest alone would be another model."""
    shapes = {"down.weight": (4, 3), "up.weight": (3, 2), "gate.weight": (3, 2), "norm.weight": (2,)}
    weights = {name: np.ones(shape, np.float32) for name, shape in shapes.items() if name != missing}
    with pytest.raises(SmoothingError, match=rf"{missing}: missing"):
        smoothing().fold(weights)


def test_what_a_file_says() -> None:
    """The summary names α, the fold and the rounding; metadata adds a hash that tells factors apart."""
    assert smoothing().summary == "smoothquant alpha=0.5 fold-down"
    other = smoothing(alpha="search", fold_down=False, rounding="power-of-two")
    assert other.summary == "smoothquant alpha=search power-of-two"
    assert other.sha256() == smoothing().sha256()
    assert smoothing().metadata() == {
        "q8_a8.smoothing": "smoothquant alpha=0.5 fold-down",
        "q8_a8.smoothing.sha256": smoothing().sha256(),
    }
    assert len(smoothing().sha256()) == 64
    first, second = smoothing().groups
    changed = SmoothedGroup(first.group, np.nextafter(first.factors, f32(9)), 0.5)
    assert Smoothing((changed, second), PROVENANCE).sha256() != smoothing().sha256()
    assert Smoothing((second, first), PROVENANCE).sha256() != smoothing().sha256()
    assert smoothing().model_sha256 == "m"


def test_round_trip(tmp_path: Path) -> None:
    """A file gives back what was saved, and the same factors give the same bytes."""
    smoothing().save(tmp_path / "a.npz")
    again = Smoothing.load(tmp_path / "a.npz")
    assert again.sha256() == smoothing().sha256()
    assert again.provenance == PROVENANCE
    assert [g.alpha for g in again.groups] == [0.5, None]
    assert [g.group for g in again.groups] == [g.group for g in smoothing().groups]
    again.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _, m: m.pop("groups"), "metadata: groups: None"),
        (lambda _, m: m["groups"][0].pop("divided"), "metadata: groups: .*'divided'"),
        (lambda _, m: m["groups"][0].pop("alpha"), "metadata: groups: .*'alpha'"),
        (lambda _, m: m["groups"].append(3), "metadata: groups: 3: "),
        (lambda a, _: a.pop("factors/norm"), "factors/norm: missing"),
        (lambda a, _: a.update({"factors/norm": f32(1, 0)}), "factors/norm: not all factors are positive"),
        (lambda a, _: a.update({"factors/norm": f32(1, -1)}), "factors/norm: not all factors are positive"),
        (lambda a, _: a.update({"factors/norm": f32(1, np.inf)}), "factors/norm: not all values are finite"),
        (lambda _, m: m.pop("provenance"), "metadata: provenance: None"),
        (lambda _, m: m["provenance"].pop("model_sha256"), "provenance: model_sha256 is missing"),
        (lambda _, m: m["provenance"].pop("rounding"), "provenance: rounding is missing"),
        (lambda _, m: m.update(kind="q8a8-calibration"), "this is not a file of kind q8a8-smoothing"),
    ],
)
def test_broken_files(
    tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object], message: str
) -> None:
    """A file whose entries do not fit together is refused, naming file and entry."""
    path = tmp_path / "a.npz"
    smoothing().save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    metadata = json.loads(arrays.pop("metadata").tobytes())
    change(arrays, metadata)
    kind, version = metadata.pop("kind"), metadata.pop("version")
    write_archive(path, kind, version, metadata, arrays)
    with pytest.raises(ArchiveError, match=rf"a\.npz: .*{message}"):
        Smoothing.load(path)
