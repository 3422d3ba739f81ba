"""The mutants in C that compute wrong values: what `q8a8_lab.mutation.native` knows of them.

Each row: the rule, the processor, and for each mutant slug, sentence, fix, and where it was seen if it was.
"""

from __future__ import annotations

from typing import Final

LANES: Final = (
    (
        "Q8A8-DOT-10",
        "any",
        (
            (
                "short-tail",
                "Of a tail of three blocks, after groups of four, only two are added.",
                "Loop over the tail, whatever its length.",
            ),
        ),
    ),
    (
        "Q8A8-DOT-9",
        "any",
        (
            (
                "odd-block-dropped",
                "Two accumulators take blocks in pairs, and the odd last block goes nowhere.",
                "Add the odd last block after the loop.",
            ),
        ),
    ),
    (
        "Q8A8-DOT-1",
        "x86_64",
        (
            (
                "x86-sign-trick",
                "|x| times y with x's sign: VPSIGNB leaves -128 at -128.",
                "Widen to 16 bits (VPMOVSXBW) and use VPMADDWD.",
                "ggml: mul_sum_i8_pairs_float in AVX2 builds",
            ),
            (
                "x86-pairs-saturate",
                "x + 128 goes to VPMADDUBSW as unsigned: pairs of products saturate at 32767.",
                "Use the offset with VPDPBUSD only, or widen to 16 bits first.",
            ),
            (
                "x86-unsigned-operand",
                "Negative codes of x go to VPMADDUBSW as unsigned ones.",
                "VPMADDUBSW's first operand is unsigned: widen to 16 bits and use VPMADDWD.",
            ),
            (
                "x86-narrow-sum",
                "Two products are added in 16 bits before they are widened.",
                "Use VPMADDWD, which adds pairs in 32 bits.",
            ),
            (
                "x86-half-folded",
                "The fold adds the lower 128 bits of the accumulator only.",
                "Add the upper half: _mm256_extracti128_si256(v, 1).",
            ),
        ),
    ),
    (
        "Q8A8-LAY-2",
        "x86_64",
        (
            (
                "x86-unpermuted",
                "Packing within halves of 128 bits leaves groups of four codes in another order.",
                "Permute after the packs: _mm256_permutevar8x32_epi32.",
            ),
        ),
    ),
    ("Q8A8-QNT-3", "x86_64", (("x86-estimated-inverse", "The inverse is RCPPS's estimate.", "Divide."),)),
    (
        "Q8A8-HLF-1",
        "x86_64",
        (
            (
                "x86-half-cut-off",
                "VCVTPS2PH is told to round towards zero.",
                "Round to nearest: _MM_FROUND_TO_NEAREST_INT.",
            ),
        ),
    ),
    (
        "Q8A8-DOT-1",
        "aarch64",
        (
            (
                "arm-two-in-16-bits",
                "SMLAL adds a second product in 16 bits: -128 * -128 twice overflows.",
                "Add each SMULL by SADALP.",
            ),
            (
                "arm-all-in-16-bits",
                "All products of a block are added in 16 bits.",
                "Add each SMULL by SADALP.",
            ),
            (
                "arm-widens-unsigned",
                "Pairs of products are widened as unsigned (UADALP).",
                "Use SADALP (vpadalq_s16).",
            ),
            (
                "arm-low-half-twice",
                "The lower half of each register is multiplied twice, the upper half never.",
                "Use SMULL2 (vmull_high_s8) for the upper half.",
            ),
            ("arm-halves-swapped", "The halves of y are loaded the other way round.", "Load x and y alike."),
            (
                "arm-fold-short",
                "Lanes 2 and 3 of the accumulator are not folded.",
                "Fold by ADDV (vaddvq_s32).",
            ),
            ("arm-dot-unsigned", "UDOT takes the codes as unsigned.", "Use SDOT (vdotq_s32)."),
        ),
    ),
    (
        "Q8A8-DOT-6",
        "aarch64",
        (
            (
                "arm-matrix-swapped",
                "Lanes 1 and 2 of SMMLA's result are stored in each other's place.",
                "Lane 1 is x0.y1 and goes to s[bs], lane 2 is x1.y0 and goes to s[1].",
            ),
            (
                "arm-matrix-unsigned",
                "USMMLA takes the codes of x as unsigned, with nrc = 2.",
                "Use SMMLA (vmmlaq_s32).",
            ),
        ),
    ),
    (
        "Q8A8-QNT-4",
        "aarch64",
        (
            (
                "arm-rounds-to-even",
                "FCVTNS rounds halves to even.",
                "Use FCVTAS (vcvtaq_s32_f32).",
                "ggml: quantize_row_q8_0 for Arm, vcvtnq_s32_f32",
            ),
            ("arm-rounds-to-zero", "FCVTZS cuts off, as a C cast does.", "Use FCVTAS (vcvtaq_s32_f32)."),
            (
                "arm-floor-of-half-more",
                "FCVTMS of the element plus a half rounds negative halves up.",
                "Use FCVTAS (vcvtaq_s32_f32).",
            ),
        ),
    ),
    (
        "Q8A8-QNT-3",
        "aarch64",
        (
            (
                "arm-estimated-inverse",
                "The inverse is FRECPE's estimate after one step of Newton's.",
                "Divide.",
            ),
        ),
    ),
)
