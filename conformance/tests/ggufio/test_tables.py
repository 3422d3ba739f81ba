"""The tables of types, against gguf-py's."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf.constants import MODEL_ARCH, MODEL_ARCH_NAMES, MODEL_TENSORS, TENSOR_NAMES

from q8a8.ggufio.floats import NATIVE, WITHOUT_A_READER, readable
from q8a8.ggufio.model import PART
from q8a8.ggufio.select import is_linear, reason_to_keep
from q8a8.ggufio.tensor_types import DESIGN_Q8_A8, SCALARS, TENSOR_TYPES, VALUE_NAMES


def test_tensor_types() -> None:
    """Ids, names and sizes are those of gguf-py; a later gguf-py may have more."""
    theirs = {kind.value: (kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType}
    ours = {kind.id: (kind.name, kind.block, kind.size) for kind in TENSOR_TYPES.values()}
    assert ours.items() <= theirs.items()
    assert [kind.id for kind in TENSOR_TYPES.values()] == sorted(TENSOR_TYPES)
    assert not any(PART % kind.block for kind in TENSOR_TYPES.values())


def test_types_of_metadata() -> None:
    """So are the types of metadata, and the sizes of numbers."""
    assert {kind.value: kind.name.lower() for kind in gguf.GGUFValueType} == VALUE_NAMES
    theirs = gguf.GGUFReader.gguf_scalar_to_np
    assert {kind.value: np.dtype(dtype) for kind, dtype in theirs.items()} == {
        type_id: np.dtype(name) for type_id, name in SCALARS.items()
    }


@pytest.mark.parametrize("kind", TENSOR_TYPES.values(), ids=lambda kind: kind.name)
def test_what_can_be_read(kind: object) -> None:
    """gguf-py dequantizes exactly the types of which we say so."""
    assert isinstance(kind, type(DESIGN_Q8_A8))
    assert readable(kind, ">") == (kind.name in NATIVE)
    try:
        gguf.quants.dequantize(np.zeros((1, kind.size), np.uint8), gguf.GGMLQuantizationType(kind.id))
    except NotImplementedError:
        assert kind.name in WITHOUT_A_READER
        assert not readable(kind, "<")
    else:
        assert readable(kind, "<")


@pytest.mark.parametrize(
    ("name", "linear"),
    [
        ("output.weight", True),
        ("blk.0.ffn_gate_exps.weight", True),
        ("blk.0.attn_q.bias", False),
        ("output.weight\n", False),
        ("blk.0.ffn_gate_tid2eid.weight", False),
        ("a.rvq.codebook.weight", False),
    ],
)
def test_linear_weights(name: str, linear: bool) -> None:
    """Names outside gguf-py's tables are decided as well; four axes are a convolution's, one is a vector."""
    assert is_linear(name) == linear
    assert not is_linear(name, 1)
    assert is_linear(name, 3) == linear
    assert not is_linear(name, 4)


LLAMA_CPP_KEEPS = frozenset(
    """
    _norm.weight ffn_gate_inp.weight ffn_gate_tid2eid.weight altup laurel per_layer_model_proj
    ssm_conv1d shortconv.conv.weight attn_rel_b.weight .position_embd sam.pos_embd sam.neck.
    sam.net_ .rel_pos .patch_embd .patch_merger a.rvq.codebook mm.a.code_embd time_mix_first.weight
    time_mix_w0.weight time_mix_w1.weight time_mix_w2.weight time_mix_v0.weight time_mix_v1.weight
    time_mix_v2.weight time_mix_a0.weight time_mix_a1.weight time_mix_a2.weight time_mix_g1.weight
    time_mix_g2.weight time_mix_decay_w1.weight time_mix_decay_w2.weight time_mix_lerp_fused.weight
    """.split()  # noqa: SIM905 - a table
)
"""Parts of names that llama.cpp's `tensor_allows_quantization` excludes (llama-quant.cpp, 2026)."""

VECTORS = frozenset(
    """
    a.blk.{bid}.ffn_scale a.blk.{bid}.ffn_scale_1 a.blk.{bid}.norm_conv a.blk.{bid}.per_dim_k_scale
    a.blk.{bid}.per_dim_scale a.blk.{bid}.pos_bias_u a.blk.{bid}.pos_bias_v a.conv1d.{bid}.norm
    a.post_ln a.pre_ln a.blk.{bid}.ln1 a.blk.{bid}.ln2 blk.{bid}.attn_norm_2 blk.{bid}.attn_sinks
    blk.{bid}.channel_mix_lerp_k blk.{bid}.channel_mix_lerp_r blk.{bid}.exp_probs_b blk.{bid}.ffn
    blk.{bid}.layer_output_scale blk.{bid}.ffn_norm_exps blk.{bid}.nextn.enorm blk.{bid}.nextn.hnorm
    blk.{bid}.ssm_d blk.{bid}.time_mix_decay blk.{bid}.time_mix_k_a blk.{bid}.time_mix_k_k
    blk.{bid}.time_mix_r_k blk.{bid}.time_mix_ln blk.{bid}.time_mix_lerp_g blk.{bid}.time_mix_lerp_k
    blk.{bid}.time_mix_lerp_r blk.{bid}.time_mix_lerp_v blk.{bid}.time_mix_lerp_w
    blk.{bid}.time_mix_lerp_x blk.{bid}.post_ffw_norm_1 blk.{bid}.post_ffw_norm_2
    blk.{bid}.pre_ffw_norm_2 a.blk.{bid}.ffn_norm_1 a.blk.{bid}.ffn_post_norm_1 cls.norm
    convnext.{bid}.gamma convnext.{bid}.norm mm.a.norm_mid mm.a.norm_pre posnet.{bid}.norm
    posnet.{bid}.norm1 posnet.{bid}.norm2 resampler.ln_kv resampler.ln_post resampler.ln_q
    rope_factors_long rope_factors_short rope_freqs v.blk.{bid}.ln1 v.blk.{bid}.ln2 v.blk.{bid}.ls1
    v.blk.{bid}.ls2 v.blk.{bid}.out_scale v.boi v.class_embd v.conv_stem.bn v.deepstack.{bid}.norm
    v.eoi v.image_newline v.msfa.ffn.pw_exp.bn v.msfa.ffn.pw_proj.bn v.msfa.norm v.norm_embd
    v.post_ln v.pre_ln v.sam.blk.{bid}.post_ln v.sam.blk.{bid}.pre_ln v.std_bias v.std_scale
    v.token_embd.img_break v.view_seperator mm.image_begin mm.image_end blk.{bid}.ffn_gate_inp_shexp
    """.split()  # noqa: SIM905 - a table
)
"""Tensors that are vectors, or have one row, in every model; gguf-py's tables have names and no shapes."""

WITHOUT_SUFFIX = ("blk.{bid}.ssm_a",)

NO_FACTORS = {
    "looked up": "token_embd per_layer_token_embd blk.{bid}.nextn.embed_tokens mm.embedding mm.a.embedding",
    "positions": "position_embd token_types blk.{bid}.attn_rot_embd dec.blk.{bid}.cross_attn_rel_b "
    "a.blk.{bid}.attn_rel_pos_emb resampler.pos_embd_k v.sam.blk.{bid}.attn.pos_h v.sam.blk.{bid}.attn.pos_w",
    "a convolution": "conv1d convnext.{bid}.dw posnet.{bid}.conv1 posnet.{bid}.conv2 a.conv1d.{bid} "
    "a.conv2d.{bid} a.blk.{bid}.conv_dw mm.model.peg.{bid} v.conv_stem.conv v.msfa.ffn.pw_exp.conv "
    "v.msfa.ffn.pw_proj.conv",
    "a learned input": "a.proj_query resampler.query",
}
"""What this project keeps beyond llama.cpp's rule: matrices that nothing is multiplied by, and convolutions.

llama.cpp excludes `position_embd` and `token_types` by their whole names.
"""


@pytest.mark.parametrize("arch", MODEL_TENSORS, ids=MODEL_ARCH_NAMES.get)
def test_every_architecture(arch: MODEL_ARCH) -> None:
    """Every tensor of every architecture is decided as llama.cpp does, but for named matrices."""
    exempt = {name: reason for reason, names in NO_FACTORS.items() for name in names.split()}
    for tensor in MODEL_TENSORS[arch]:
        template = TENSOR_NAMES[tensor]
        axes = 1 if template in VECTORS else 2
        name = template.format(bid=3, xid=1) + ("" if template in WITHOUT_SUFFIX else ".weight")
        expected = axes > 1 and name.endswith(".weight") and not any(part in name for part in LLAMA_CPP_KEEPS)
        reason = reason_to_keep(name, axes)
        if template in exempt:
            assert reason is not None
            assert exempt[template] in reason
        else:
            assert (reason is None) == expected, (name, reason)
