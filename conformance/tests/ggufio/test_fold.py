"""Smoothing factors in a file that is quantized: which tensors change, how, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import gguf
import numpy as np
import pytest

from q8a8.ggufio import GgufError, open_model, quantize_model
from q8a8.ggufio.fold import folded_parts, part_size
from q8a8.methods.smoothing import FoldGroup, SmoothedGroup, Smoothing, SmoothingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Tensors: TypeAlias = dict[str, tuple[NDArray[np.float32], str]]

RNG = np.random.default_rng(23)
Q8 = gguf.GGMLQuantizationType.Q8_0


def group(name: str, multiplied: list[str], divided: list[str], size: int) -> SmoothedGroup:
    """Make a group of layer 0 with random factors."""
    names = (tuple(f"blk.0.{each}" for each in part) for part in (multiplied, divided))
    factors = np.exp2(RNG.uniform(-3, 3, size)).astype(np.float32)
    return SmoothedGroup(FoldGroup(f"blk.0.{name}", *names), factors, 0.5)


DOWN = group("ffn_down", ["ffn_down.weight"], ["ffn_up.weight", "ffn_up.bias"], 96)
ATTN = group("attn_norm", ["attn_q.weight", "attn_k.weight", "attn_v.weight"], ["attn_norm.weight"], 64)
FFN = group("ffn_norm", ["ffn_gate.weight", "ffn_up.weight"], ["ffn_norm.weight"], 64)


def smoothing(path: Path, *groups: SmoothedGroup, **provenance: object) -> Smoothing:
    """Make a smoothing for a file."""
    with open_model(path) as model:
        known = {"model_sha256": model.sha256(), "alpha": 0.5, "fold_down": True, "rounding": "nearest"}
    return Smoothing(groups or (DOWN, ATTN, FFN), known | provenance)


def wanted(path: Path) -> dict[str, NDArray[np.float32]]:
    """Compute what each tensor should be, from gguf-py's own reading and NumPy alone."""
    values: dict[str, NDArray[np.float32]] = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        for tensor in gguf.GGUFReader(path).tensors
    }
    for layer in ("attn_q", "attn_k", "attn_v"):
        values[f"blk.0.{layer}.weight"] = values[f"blk.0.{layer}.weight"] * ATTN.factors
    values["blk.0.attn_norm.weight"] = values["blk.0.attn_norm.weight"] / ATTN.factors
    up = values["blk.0.ffn_up.weight"] / DOWN.factors[:, None]
    values["blk.0.ffn_up.weight"] = up * FFN.factors
    values["blk.0.ffn_gate.weight"] = values["blk.0.ffn_gate.weight"] * FFN.factors
    values["blk.0.ffn_norm.weight"] = values["blk.0.ffn_norm.weight"] / FFN.factors
    values["blk.0.ffn_down.weight"] = values["blk.0.ffn_down.weight"] * DOWN.factors
    return values


def test_folded_tensors(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """Linear weights are folded, then quantized; norms are folded; the rest keeps its bytes."""
    source = write("in.gguf", tensors)
    factors = smoothing(source, texts=["ab" * 32, "cd" * 32])
    summary = quantize_model(source, tmp_path / "out.gguf", smooth=factors, recipe="ggml-ref")
    assert summary.notes == ()
    assert summary.folded == ("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight")
    assert len(summary.converted) == 8
    values = wanted(source)
    before = {tensor.name: tensor for tensor in gguf.GGUFReader(source).tensors}
    reader = gguf.GGUFReader(tmp_path / "out.gguf")
    for tensor in reader.tensors:
        if tensor.name in ("token_embd.weight", "blk.0.attn_rot_embd.weight", "output_norm.weight"):
            assert tensor.name in summary.kept
            assert tensor.tensor_type == before[tensor.name].tensor_type
            assert tensor.data.tobytes() == before[tensor.name].data.tobytes()
        elif "norm" in tensor.name:
            assert tensor.tensor_type.name == "F32"
            assert np.array_equal(tensor.data, values[tensor.name])
        else:
            assert tensor.tensor_type == Q8
            assert np.array_equal(tensor.data, gguf.quants.quantize(values[tensor.name], Q8)), tensor.name
    assert reader.fields["q8_a8.smoothing"].contents() == factors.summary
    assert reader.fields["q8_a8.smoothing.sha256"].contents() == factors.sha256()
    assert reader.fields["q8_a8.smoothing.texts_sha256"].contents() == ["ab" * 32, "cd" * 32]


def test_folded_but_kept(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """A weight that is folded but not quantized becomes float32, exactly what was folded, with a note."""
    source = write("in.gguf", tensors)
    summary = quantize_model(
        source,
        tmp_path / "out.gguf",
        smooth=smoothing(source),
        keep=["*attn_q*", "*ffn_up*", "output.weight"],
    )
    assert summary.notes[0] == "blk.0.attn_q.weight is folded but not quantized: F32 instead of F16"
    assert summary.reasons["blk.0.attn_q.weight"] == ("--keep", 64 * 64 * 4)
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    values = wanted(source)
    for name in ("blk.0.attn_q.weight", "blk.0.ffn_up.weight"):
        assert stored[name].tensor_type.name == "F32"
        assert np.array_equal(stored[name].data, values[name])
    assert stored["output.weight"].tensor_type.name == "F16"


def test_parts_of_rows(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """A tensor that goes through in several parts has each row divided by its own factor."""
    rows, inner = 4100, 512
    x = RNG.standard_normal((rows, inner)).astype(np.float32)
    names = {"blk.1.ffn_up.weight": (x, "F32"), "blk.1.ffn_norm.weight": (x[0], "F32")}
    source = write("in.gguf", {**tensors, **names, "blk.1.ffn_down.weight": (x.T.copy()[:1], "F32")})
    factors = [np.exp2(RNG.uniform(-3, 3, n)).astype(np.float32) for n in (rows, inner)]
    down = FoldGroup("down", ("blk.1.ffn_down.weight",), ("blk.1.ffn_up.weight",))
    norm = FoldGroup("norm", ("blk.1.ffn_up.weight",), ("blk.1.ffn_norm.weight",))
    factors_of = smoothing(source, SmoothedGroup(down, factors[0], 0.5), SmoothedGroup(norm, factors[1], 0.5))
    folded = (x / factors[0][:, None]) * factors[1]
    assert part_size(x.shape) == 2048 * inner
    with open_model(source) as model:
        firsts, parts = zip(*folded_parts(model, "blk.1.ffn_up.weight", factors_of), strict=True)
        assert firsts == (0, 2048 * inner, 4096 * inner)
        assert np.array_equal(np.concatenate(parts), folded.reshape(-1))
    quantize_model(source, tmp_path / "out.gguf", smooth=factors_of, recipe="ggml-ref")
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    assert np.array_equal(stored["blk.1.ffn_up.weight"], gguf.quants.quantize(folded, Q8))


def test_sizes_of_parts() -> None:
    """A part is of whole rows, one at least; what has no rows is one part."""
    assert part_size((5, 1 << 21)) == 1 << 21
    assert part_size((7,)) == 7
    assert part_size((3, 0)) == part_size(()) == part_size((0,)) == 1


def refused(source: Path, factors: Smoothing, message: str) -> None:
    """Expect a refusal that leaves nothing behind."""
    with pytest.raises(GgufError) as caught:
        quantize_model(source, source.with_name("out.gguf"), smooth=factors)
    assert str(caught.value).startswith(f"{source}: ")
    assert message in str(caught.value)
    assert not source.with_name("out.gguf").exists()


def test_factors_of_another_model(write: Callable[..., Path], tensors: Tensors) -> None:
    """Factors that were made for another file are refused with both hashes."""
    source = write("in.gguf", tensors)
    with open_model(source) as model:
        sha256 = model.sha256()
    message = f"made for another model: for the file of SHA-256 {'0' * 64}, and this one has {sha256}"
    refused(source, smoothing(source, model_sha256="0" * 64), message)


def test_a_model_that_is_smoothed(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """A model that was smoothed is not smoothed again, and stays marked when it is quantized again."""
    source = write("in.gguf", tensors)
    quantize_model(source, tmp_path / "once.gguf", smooth=smoothing(source))
    refused(tmp_path / "once.gguf", smoothing(tmp_path / "once.gguf"), "is smoothed already")
    quantize_model(tmp_path / "once.gguf", tmp_path / "twice.gguf")
    with open_model(tmp_path / "twice.gguf") as model:
        assert str(model.metadata["q8_a8.smoothing"]).startswith("smoothquant")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"blk.0.attn_k.weight": None},
            "there is no tensor 'blk.0.attn_k.weight', but the smoothing has factors",
        ),
        ({"blk.0.ffn_norm.weight": None}, "there is no tensor 'blk.0.ffn_norm.weight', but"),
        (
            {"blk.0.attn_q.weight": (64, 32)},
            "'blk.0.attn_q.weight': shape [64, 32] does not fit the 64 factors",
        ),
        (
            {"blk.0.ffn_up.weight": (95, 64)},
            "'blk.0.ffn_up.weight': shape [95, 64] does not fit the 96 factors",
        ),
        ({"blk.0.ffn_up.bias": (64,)}, "'blk.0.ffn_up.bias': shape [64] does not fit the 96 factors of"),
        ({"blk.0.attn_v.weight": (2, 32, 64)}, "'blk.0.attn_v.weight': shape [2, 32, 64] does not fit"),
    ],
)
def test_factors_that_do_not_fit(
    write: Callable[..., Path], tensors: Tensors, changed: dict[str, Any], message: str
) -> None:
    """Factors without their tensor, or of another size, are refused before anything is written."""
    others: dict[str, Any] = dict(tensors)
    for name, shape in changed.items():
        if shape is None:
            del others[name]
        else:
            others[name] = (np.ones(shape, np.float32), "F32")
    source = write("in.gguf", others)
    refused(source, smoothing(source), message)


def test_biases_are_folded(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """A bias before a folded layer is divided too, where the model has one."""
    bias = RNG.standard_normal(96).astype(np.float32)
    source = write("in.gguf", {**tensors, "blk.0.ffn_up.bias": (bias, "F32")})
    quantize_model(source, tmp_path / "out.gguf", smooth=smoothing(source))
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    assert np.array_equal(stored["blk.0.ffn_up.bias"], bias / DOWN.factors)


def test_a_product_that_is_no_number(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """A weight that the factors make infinite is named with file, tensor and place."""
    x = tensors["blk.0.attn_q.weight"][0].copy()
    x[3, 5] = np.float32(3e38)
    source = write("in.gguf", {**tensors, "blk.0.attn_q.weight": (x, "F32")})
    large = SmoothedGroup(ATTN.group, np.full(64, 2, np.float32), 0.5)
    with pytest.raises(
        SmoothingError, match=r"in\.gguf: from row 0 on: blk\.0\.attn_q\.weight: element \[3, 5\]"
    ):
        quantize_model(source, tmp_path / "out.gguf", smooth=smoothing(source, large))
    assert [path.name for path in tmp_path.iterdir()] == ["in.gguf"]
