"""GGUF files to Q8_A8: the bytes, the metadata, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import gguf
import numpy as np
import pytest

from q8a8 import UnknownNameError, as_blocks
from q8a8.ggufio import (
    GgufError,
    dequantize_model,
    is_linear,
    open_model,
    quantize_model,
)
from q8a8_golden import oracle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Tensors: TypeAlias = dict[str, tuple[NDArray[np.float32], str]]

RNG = np.random.default_rng(17)
Q8 = gguf.GGMLQuantizationType.Q8_0


def some_fields(writer: gguf.GGUFWriter) -> None:
    """Add metadata of many types."""
    writer.add_file_type(1)
    writer.add_uint8("a.u8", 255)
    writer.add_int64("a.i64", -1)
    writer.add_float64("a.f64", 0.1)
    writer.add_bool("a.bool", True)
    writer.add_array("a.floats", [1.5, float("nan"), -0.0])
    writer.add_array("a.strings", ["ü", "", "x"])
    writer.add_key_value("a.i8s", [-1, 2], gguf.GGUFValueType.ARRAY, sub_type=gguf.GGUFValueType.INT8)


def stored(path: Path) -> dict[str, tuple[str, NDArray[Any]]]:
    """Read type and bytes of every tensor with gguf-py."""
    return {t.name: (t.tensor_type.name, t.data) for t in gguf.GGUFReader(path).tensors}


def test_the_bytes_of_gguf(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """With `ggml-ref`, the file is the one that gguf-py would write with its own quantizer, byte for byte."""
    source = write("in.gguf", tensors, fields=some_fields)
    summary = quantize_model(source, tmp_path / "out.gguf", recipe="ggml-ref")
    with open_model(source) as model:
        sha256 = model.sha256()

    def wanted_fields(writer: gguf.GGUFWriter) -> None:
        """Add what the target should say."""
        some_fields(writer)
        writer.kv_data[0]["general.file_type"].value = 7
        writer.add_quantization_version(2)
        writer.add_uint32("q8_a8.version", 1)
        writer.add_string("q8_a8.recipe", "ggml-ref")
        writer.add_string("q8_a8.source_sha256", sha256)

    wanted: dict[str, tuple[NDArray[Any], str]] = {}
    for tensor in gguf.GGUFReader(source).tensors:
        data, kind = tensor.data, tensor.tensor_type
        if is_linear(tensor.name):
            data, kind = gguf.quants.quantize(gguf.quants.dequantize(data, kind), Q8), Q8
        elif kind.name == "F32":
            data = data.view(np.float32)
        wanted[tensor.name] = (data, kind.name)
    expected = write("wanted.gguf", wanted, fields=wanted_fields)
    assert (tmp_path / "out.gguf").read_bytes() == expected.read_bytes()
    assert summary.target == tmp_path / "out.gguf"
    assert set(summary.converted) == {name for name in tensors if is_linear(name)}
    assert set(summary.kept) == {name for name in tensors if not is_linear(name)}
    assert (summary.source_bytes, summary.target_bytes) == (source.stat().st_size, expected.stat().st_size)
    assert summary.notes == ()


def test_the_bits_of_the_oracle(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """By default the blocks are those that the exact oracle gives, ties and zero blocks among them."""
    x = RNG.standard_normal((3, 64)).astype(np.float32)
    x[0, :32] = np.arange(32, dtype=np.float32) + np.float32(0.5)
    x[0, 31] = 127
    x[1, :32] = 0
    x[2, 32:] = np.float32(127 * 2.0**-25)
    write("in.gguf", {**tensors, "blk.7.attn_q.weight": (x, "F32")})
    quantize_model(tmp_path / "in.gguf", tmp_path / "out.gguf")
    kind, data = stored(tmp_path / "out.gguf")["blk.7.attn_q.weight"]
    assert kind == "Q8_0"
    assert data.tobytes() == oracle.quantize_row(x.reshape(-1).view(np.uint32).tolist(), "design")


def test_metadata_is_copied(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """Every field of the source is in the target with its type and bytes; how it was made is added."""
    source = write("in.gguf", tensors, fields=some_fields)
    quantize_model(source, tmp_path / "out.gguf")
    with open_model(source) as before, open_model(tmp_path / "out.gguf") as after:
        for key, field in before.fields.items():
            if key != "general.file_type":
                # (Raw bytes: NaN is no value that equals itself.)
                assert (after.fields[key].type_id, after.fields[key].raw) == (field.type_id, field.raw), key
        added = {key: value for key, value in after.metadata.items() if key not in before.metadata}
        assert added == {
            "general.quantization_version": 2,
            "q8_a8.version": 1,
            "q8_a8.recipe": "design",
            "q8_a8.source_sha256": before.sha256(),
        }
        assert after.metadata["general.file_type"] == 7


def test_what_is_already_q8_0(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """Quantizing again changes no block: neither our own nor those of gguf-py's quantizer."""
    write("in.gguf", tensors)
    for recipe in ("design", "ggml-ref"):
        quantize_model(tmp_path / "in.gguf", tmp_path / "once.gguf", recipe=recipe)
        quantize_model(tmp_path / "once.gguf", tmp_path / "twice.gguf")
        once, twice = stored(tmp_path / "once.gguf"), stored(tmp_path / "twice.gguf")
        assert all(np.array_equal(once[name][1], twice[name][1]) for name in tensors)


def test_large_tensors_go_in_parts(write: Callable[..., Path], tmp_path: Path) -> None:
    """A tensor of more than one part has the same bytes; progress tells of the parts, up to the end."""
    x = RNG.standard_normal((1025, 1024)).astype(np.float32)
    write("in.gguf", {"output.weight": (x, "F32"), "output_norm.weight": (x[0], "F32")})
    seen: list[tuple[str, int, int]] = []
    quantize_model(
        tmp_path / "in.gguf",
        tmp_path / "out.gguf",
        recipe="ggml-ref",
        progress=lambda name, done, total: seen.append((name, done, total)),
    )
    assert np.array_equal(stored(tmp_path / "out.gguf")["output.weight"][1], gguf.quants.quantize(x, Q8))
    total = 1026 * 1024
    assert seen == [
        ("output.weight", 0, total),
        ("output.weight", 1 << 20, total),
        ("output.weight", 1025 * 1024, total),
        ("output_norm.weight", 1025 * 1024, total),
        ("output_norm.weight", total, total),
    ]


@pytest.mark.parametrize(
    ("only", "keep", "layers"),
    [
        ([], ["blk.0.*"], ["output"]),
        (["blk.0.attn_?.weight"], [], ["attn_q", "attn_k", "attn_v"]),
        (["output.weight", "*ffn*"], [], ["output", "ffn_gate", "ffn_up", "ffn_down"]),
        (["*"], ["*attn*", "output.weight"], ["ffn_gate", "ffn_up", "ffn_down"]),
    ],
)
def test_only_and_keep(
    write: Callable[..., Path],
    tensors: Tensors,
    tmp_path: Path,
    only: list[str],
    keep: list[str],
    layers: list[str],
) -> None:
    """Globs choose among the linear weights; the others keep type and bytes."""
    source = write("in.gguf", tensors)
    summary = quantize_model(source, tmp_path / "out.gguf", only=only, keep=keep)
    assert {name.split(".")[-2] for name in summary.converted} == set(layers)
    before, after = stored(source), stored(tmp_path / "out.gguf")
    for name in summary.kept:
        assert before[name][0] == after[name][0]
        assert before[name][1].tobytes() == after[name][1].tobytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ["blk.1.*"]}, r"--only 'blk\.1\.\*' matches no linear weight of this file"),
        ({"keep": ["*_Q*"]}, r"--keep '\*_Q\*' matches no linear weight of this file"),
        (
            {"only": ["blk.0.attn_rot_embd.weight"]},
            "--only 'blk.0.attn_rot_embd.weight' is no linear weight of this file: a table of positions",
        ),
        (
            {"only": ["output_norm.weight"]},
            "'output_norm.weight' is no linear weight of this file: a tensor of 1",
        ),
        ({"only": ["blk.0.odd.weight"]}, "--only 'blk.0.odd.weight' matches no linear weight"),
        ({"keep": ["*"]}, "in.gguf: nothing to quantize$"),
        ({"only": ["blk.1.attn_q.weight"]}, "--only 'blk.1.attn_q.weight' matches no"),
    ],
)
def test_wrong_globs(
    write: Callable[..., Path], tensors: Tensors, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    """A glob that matches nothing is a mistake, and nothing is written."""
    source = write("in.gguf", tensors)
    with pytest.raises(GgufError, match=message):
        quantize_model(source, tmp_path / "out.gguf", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["in.gguf"]


ODD: dict[str, tuple[tuple[NDArray[Any], str], str]] = {
    "blk.0.attn_q.weight": (
        (np.ones((4, 48), np.float32), "F32"),
        "its rows of 48 elements are not a multiple of 32",
    ),
    "blk.0.attn_k.weight": (
        (np.zeros((2, 40), np.uint8), "Q8_1"),
        "its type Q8_1 cannot be read as numbers",
    ),
    "blk.0.attn_v.weight": (
        (np.ones((2, 2, 1), np.float32), "F32"),
        "its rows of 1 elements are not a multiple of 32",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_what_cannot_be_quantized(
    write: Callable[..., Path], tensors: Tensors, tmp_path: Path, name: str
) -> None:
    """A linear weight that cannot become Q8_A8 is kept with a note, and refused where it was asked for."""
    odd, why = ODD[name]
    source = write("in.gguf", {**tensors, name: odd})
    summary = quantize_model(source, tmp_path / "out.gguf")
    assert summary.notes == (f"{name} is kept: {why}",)
    assert stored(tmp_path / "out.gguf")[name][1].tobytes() == odd[0].tobytes()
    assert quantize_model(source, tmp_path / "out.gguf", keep=[name]).notes == ()
    assert quantize_model(source, tmp_path / "out.gguf", only=["*"]).notes == summary.notes
    with pytest.raises(GgufError, match=f"tensor '{name}' cannot be quantized: {why}"):
        quantize_model(source, tmp_path / "out.gguf", only=[name, "output.weight"])
    alone = write("alone.gguf", {name: odd})
    with pytest.raises(GgufError, match=f"nothing to quantize; {name} is kept: {why}"):
        quantize_model(alone, tmp_path / "out.gguf")


def test_tables_that_are_looked_up(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """`embedding`, `output` and a plain name reach the embedding; what is kept has its reason and bytes."""
    source, out = write("in.gguf", tensors), tmp_path / "out.gguf"
    names = {name for name in tensors if is_linear(name)} - {"blk.0.attn_rot_embd.weight"}
    summary = quantize_model(source, out)
    assert set(summary.converted) == names
    assert summary.reasons == {
        "token_embd.weight": ("looked up, not multiplied (--embedding quantizes it)", 50 * 64 // 32 * 18),
        "blk.0.attn_rot_embd.weight": ("a table of positions or token types", 3 * 7 * 4),
    }
    with open_model(source) as before, open_model(out) as after:
        bits = [
            8
            * sum(info.n_bytes for info in model.tensors.values())
            / sum(info.elements for info in model.tensors.values())
            for model in (before, after)
        ]
    assert summary.bits == pytest.approx(bits)
    assert set(quantize_model(source, out, embedding=True).converted) == names | {"token_embd.weight"}
    assert set(quantize_model(source, out, output=True).converted) == names
    assert quantize_model(source, out, only=["token_embd.weight"]).converted == ("token_embd.weight",)
    kept = quantize_model(source, out, only=["*attn_q*"], output=True, keep=["token_embd.weight"])
    assert kept.converted == ("blk.0.attn_q.weight", "output.weight")
    assert kept.reasons["blk.0.attn_k.weight"][0] == "not in --only"
    shared = write("shared.gguf", {name: each for name, each in tensors.items() if name != "output.weight"})
    reason, _ = quantize_model(shared, out).reasons["token_embd.weight"]
    assert reason == "looked up, and the output layer too (--embedding or --output quantizes it)"
    assert "token_embd.weight" in quantize_model(shared, out, output=True).converted
    assert (
        quantize_model(shared, out, embedding=True, keep=["token_*"]).reasons["token_embd.weight"][0]
        == "--keep"
    )
    bare = write("bare.gguf", {"blk.0.ffn_up.weight": tensors["blk.0.ffn_up.weight"]})
    with pytest.raises(GgufError, match=r"bare\.gguf: --embedding: there is no such matrix in this file"):
        quantize_model(bare, out, embedding=True)
    with pytest.raises(GgufError, match=r"bare\.gguf: --output: there is no such matrix in this file"):
        quantize_model(bare, out, output=True)


def test_experts_and_rows(write: Callable[..., Path], tmp_path: Path) -> None:
    """Experts, three axes, are quantized; a matrix of one row is a vector, as ggml counts axes."""
    x = RNG.standard_normal((2, 3, 64)).astype(np.float32)
    source = write(
        "in.gguf", {"blk.0.ffn_up_exps.weight": (x, "F32"), "cls.output.weight": (x[:1, :1], "F32")}
    )
    summary = quantize_model(source, tmp_path / "out.gguf", recipe="ggml-ref")
    assert (summary.converted, summary.reasons) == (("blk.0.ffn_up_exps.weight",), {})
    data = stored(tmp_path / "out.gguf")["blk.0.ffn_up_exps.weight"][1]
    assert data.tobytes() == gguf.quants.quantize(x, Q8).tobytes()


def test_a_file_that_grows(write: Callable[..., Path], tmp_path: Path) -> None:
    """A source of fewer bits is named where the file grows."""
    x = RNG.standard_normal((64, 64)).astype(np.float32)
    source = write("in.gguf", {"blk.0.ffn_up.weight": (x, "Q4_1"), "blk.1.ffn_up.weight": (x, "Q4_1")})
    (note,) = quantize_model(source, tmp_path / "out.gguf").notes
    assert note.startswith("the source is quantized already (2 tensors are Q4_1): the file grows")


def file_type(path: Path) -> object:
    """Read the file type."""
    with open_model(path) as model:
        return model.metadata.get("general.file_type")


def test_the_file_type(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """The file type is Q8_0's where most weights are, else the source's."""

    def typed(kind: int) -> Callable[[gguf.GGUFWriter], None]:
        return lambda writer: writer.add_file_type(kind)

    out = tmp_path / "out.gguf"
    for source_type, only, wanted in (
        (1, [], 7),
        (1, ["output.weight"], 1),
        (38, ["output.weight"], 38),
        (38, [], 7),
    ):
        source = write("in.gguf", tensors, fields=typed(source_type))
        quantize_model(source, out, only=only)
        assert file_type(out) == wanted
    quantize_model(write("in.gguf", tensors), out, only=["output.weight"])
    assert file_type(out) is None


def test_unknown_names(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """An unknown recipe, and another type of floats, are refused before anything is written."""
    source = write("in.gguf", tensors)
    with pytest.raises(UnknownNameError, match="no recipe is called 'best'"):
        quantize_model(source, tmp_path / "out.gguf", recipe="best")
    with pytest.raises(UnknownNameError, match="no type of floats is called 'f64'; there are f32, f16"):
        dequantize_model(source, tmp_path / "out.gguf", kind="f64")  # type: ignore[arg-type]  # that is the test
    assert not (tmp_path / "out.gguf").exists()


def test_big_endian_files(write: Callable[..., Path], tmp_path: Path) -> None:
    """A big-endian file becomes a big-endian file with the same blocks, scales turned; and floats again."""
    x = RNG.standard_normal((5, 64)).astype(np.float32)
    turned = x.byteswap().view(np.uint8)
    source = write("in.gguf", {"output.weight": (turned, "F32"), "e": (turned, "F32")}, big=True)
    quantize_model(source, tmp_path / "out.gguf", recipe="ggml-ref")
    reader = gguf.GGUFReader(tmp_path / "out.gguf")
    assert reader.endianess is gguf.GGUFEndian.BIG
    assert reader.fields["q8_a8.recipe"].contents() == "ggml-ref"
    data = reader.tensors[0].data.reshape(-1, 34).copy()
    data[:, :2] = data[:, 1::-1]
    assert data.tobytes() == gguf.quants.quantize(x, Q8).tobytes()
    kinds: tuple[tuple[Literal["f32", "f16"], str], ...] = (("f32", ">f4"), ("f16", ">f2"))
    for kind, dtype in kinds:
        dequantize_model(tmp_path / "out.gguf", tmp_path / "back.gguf", kind=kind)
        with open_model(tmp_path / "back.gguf") as model:
            floats = gguf.quants.dequantize(gguf.quants.quantize(x, Q8), Q8)
            assert model.raw("output.weight").tobytes() == floats.astype(dtype).tobytes()
            assert np.array_equal(model.raw("e"), turned.reshape(-1))


def test_tensors_without_elements(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """A weight without rows goes through."""
    source = write("in.gguf", {**tensors, "blk.9.attn_q.weight": (np.zeros((0, 32), np.float32), "F32")})
    quantize_model(source, tmp_path / "out.gguf")
    assert stored(tmp_path / "out.gguf")["blk.9.attn_q.weight"][0] == "Q8_0"


def test_another_alignment(write: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    """The target has the source's alignment, and gguf-py finds every tensor."""
    source = write("in.gguf", tensors, fields=lambda writer: writer.add_custom_alignment(256))
    quantize_model(source, tmp_path / "out.gguf")
    reader = gguf.GGUFReader(tmp_path / "out.gguf")
    assert all(tensor.data_offset % 256 == 0 for tensor in reader.tensors)
    data = next(tensor.data for tensor in reader.tensors if tensor.name == "blk.0.ffn_up.weight")
    row = oracle.quantize_row(
        tensors["blk.0.ffn_up.weight"][0].reshape(-1).view(np.uint32).tolist(), "design"
    )
    assert as_blocks(data.tobytes()).tobytes() == row


def test_the_real_model(real_model: Path, tmp_path: Path) -> None:
    """Of a real model, sampled tensors have gguf-py's own bytes, and the file has the size it should."""
    quantize_model(real_model, tmp_path / "out.gguf", recipe="ggml-ref")
    assert file_type(tmp_path / "out.gguf") == 7
    with open_model(real_model) as before, open_model(tmp_path / "out.gguf") as after:
        linear = [info for info in before.tensors.values() if is_linear(info.name)]
        grown = sum(info.elements // 32 * 34 - info.n_bytes for info in linear)
        header = min(info.offset for info in after.tensors.values())
        assert header < 2_000_000
        assert after.size - before.size == pytest.approx(grown, abs=2 * 32 * len(linear))
        for info in linear[::30]:
            data = before.raw(info.name).reshape(info.shape[0], -1)
            floats = gguf.quants.dequantize(data, gguf.GGMLQuantizationType(info.type_id))
            assert after.raw(info.name).tobytes() == gguf.quants.quantize(floats, Q8).tobytes()
        for name in ("token_embd.weight", "output_norm.weight", "blk.29.attn_norm.weight"):
            assert np.array_equal(before.raw(name), after.raw(name))
