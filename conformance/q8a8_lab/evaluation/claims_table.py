"""The figures and claims of documents 000 to 002, each with what became of it.

A finding's `{names}` are filled in by `q8a8_lab.evaluation.claims` from the shapes of models and from
measurements, so that no figure is typed here that a command can give.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CLAIMS", "Claim", "Verdict", "Words"]


class Verdict(Enum):
    """What became of a claim."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    UNTESTABLE = "not testable here"
    MENTIONED = "only mentioned"


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes
    ----------
    document
        Number of the document.
    lines
        Where it is there.
    says
        The claim, in English.
    verdict
        What became of it.
    finding
        Why, with figures: `{name}` stands for a fact.
    """

    document: str
    lines: str
    says: str
    verdict: Verdict
    finding: str


@dataclass(frozen=True)
class Words:
    """What the page says around the facts, in one language.

    Attributes
    ----------
    head
        The text above the tables.
    counts, columns
        The names of the columns: of the count of verdicts, and of each document's table.
    titles
        The heading of each document's table.
    verdicts
        The names of the verdicts.
    texts
        Each claim and its finding, by document and lines.
    """

    head: str
    counts: tuple[str, str]
    columns: tuple[str, str, str, str]
    titles: Mapping[str, str]
    verdicts: Mapping[Verdict, str]
    texts: Mapping[tuple[str, str], tuple[str, str]]


_YES, _NO, _OPEN = Verdict.CONFIRMED, Verdict.REFUTED, Verdict.UNTESTABLE

_ARM = "Needs that hardware: an emulator's speed says nothing about a CPU's, and power cannot be emulated."

CLAIMS = (
    # 000, the plan
    Claim(
        "000",
        "4, 5",
        "Q8_A8 as it stood quantizes weights only; activations stay float32 (W8A16).",
        _OPEN,
        "That code is not public. In this project activations are quantized at run time, by the "
        "specification's rules QNT-1 to QNT-10.",
    ),
    Claim(
        "000",
        "22–39",
        "The activation quantizer as printed.",
        _NO,
        "As printed it stores the truncated integer of the scale (errata 1 to 3 of the errata page). The "
        "mutants `scale-as-integer` and its kin are this code, and the suite catches them.",
    ),
    Claim(
        "000",
        "49–68",
        "The dot product as printed.",
        _YES,
        "Its order of operations is the specification's scalar order (ORD-1), bit for bit: the C scalar "
        "kernel is this loop, and it agrees with the reference on every golden case.",
    ),
    Claim(
        "000",
        "90–103",
        "The SmoothQuant snippet as printed.",
        _NO,
        "It reduces over the wrong axis and folds into the wrong layer (erratum 5). What it should have "
        "been is `q8a8.methods.smoothquant`.",
    ),
    Claim(
        "000",
        "122",
        "Memory: 50 % less than FP16.",
        _NO,
        "A block of 34 bytes replaces 64: {block_saving} less. No model reaches 50 %.",
    ),
    Claim("000", "123", "Speed: 2 to 3 times on Arm with MATMUL_INT8.", _OPEN, _ARM),
    Claim(
        "000",
        "124",
        "Accuracy: SmoothQuant makes the quantization error least.",
        _NO,
        "It makes it smaller: on SmolLM2-135M Q8_A8 raises perplexity by {q8_a8}, with SmoothQuant as "
        "published, folded into the norms, by {q8_a8_smooth}. With a scale for every 32 elements there is "
        "little left to smooth; where there is one scale a token it helps more (per channel {w8a8_channel}, "
        "smoothed {w8a8_channel_smooth}). What is least is another matter: weights alone in 8 bits have "
        "{w8a16}.",
    ),
    Claim(
        "000",
        "125",
        "A 7B model runs on an Android phone with 8 GB.",
        _OPEN,
        "The tensors take {gib_7b}, the keys and values of 4096 positions in float16 {kv_7b} more: "
        "together {sum_7b} of the phone's 7.45 GiB, before the system has had its part. Of 2048 positions "
        "it is {sum_7b_2048}. Whether Android leaves a process so much was not tried.",
    ),
    Claim(
        "000",
        "129",
        "Quantizing activations costs time on every forward pass.",
        _YES,
        "It does, once for a row and all the matrices that share it: `q8a8 bench` times it.",
    ),
    Claim(
        "000",
        "130",
        "Quantized activations need memory at run time.",
        _YES,
        "{activation_7b} bytes a token for the longest row of a 7B model, {activation_smollm} for SmolLM2: "
        "nothing beside the weights.",
    ),
    Claim(
        "000",
        "131",
        "W8A8 loses a little accuracy against W8A16.",
        _YES,
        "On SmolLM2-135M perplexity rises by {w8a16} with weights alone in 8 bits, by {q8_a8} with both.",
    ),
    # 001, the report
    Claim(
        "001",
        "8–10",
        "The tensor type is 39 of 40, the file type 38.",
        _NO,
        "Both ids were given to MXFP4 (erratum 7). A file that used them is misread by every current "
        "llama.cpp; `q8a8 quantize` writes type 8, and reads 39 only with `--allow-id-39`.",
    ),
    Claim(
        "001",
        "12–21",
        "A block holds 32 elements in 34 bytes.",
        _YES,
        "LAY-1. It is block_q8_0 of ggml, byte for byte.",
    ),
    Claim(
        "001",
        "28–31, 90–96, 218",
        "The dot product uses `vdotq_s32` and `vmmlaq_s32`, two rows at a time with MATMUL_INT8.",
        _YES,
        "Written here from the specification, run under QEMU, and disassembled by a test: sdot and smmla "
        "are there. Results are equal to the scalar kernel's, bit for bit.",
    ),
    Claim(
        "001",
        "7, 214",
        "80 % is done, all core functions work.",
        _OPEN,
        "That code is not public.",
    ),
    Claim(
        "001",
        "60, 217, 225",
        "47 % less memory than FP16, at a ratio of 1.9.",
        _YES,
        "For a block {block_saving}, a ratio of {block_ratio}, and so for every model whose tables are Q8_A8 "
        "too (`--embedding --output`). Where they stay FP16, as is our default, a Llama-7B saves "
        "{saving_7b_linear}.",
    ),
    Claim(
        "001",
        "171, 177, 183",
        "47 % less memory, whatever the model.",
        _NO,
        "Of the matrices, yes: {block_saving}. Of a model it depends on its tables: SmolLM2-135M saves "
        "{saving_smollm_linear} with its embedding in FP16. That is our default, and a choice: with "
        "`--embedding` it saves {plan_saving}.",
    ),
    Claim("001", "84, 223", "Latency 1.5 to 2.5 times better.", _OPEN, _ARM),
    Claim("001", "85, 224", "Throughput 2 to 3 times better.", _OPEN, _ARM),
    Claim("001", "86", "Power efficiency 1.8 to 2.2 times better.", _OPEN, _ARM),
    Claim("001", "102", "MATMUL_INT8 gives 4 to 6 times the throughput.", _OPEN, _ARM),
    Claim(
        "001",
        "110, 111",
        "The mean squared error of quantization is 0.001 to 0.01.",
        _NO,
        "On the {mse_count} linear weights of SmolLM2-135M it is {mse_least} to {mse_most}. As a number of "
        "its own it says nothing: it grows with the square of the weights. Relative to them the error is "
        "{snr_least} to {snr_most} dB down.",
    ),
    Claim(
        "001",
        "123–125, FP16",
        "Perplexity of LLaMA 7B, 13B and 30B in FP16 is 5.68, 5.09 and 4.10.",
        _OPEN,
        "Those models are too large for this machine and cannot be fetched here. The three numbers are the "
        "published ones for WikiText-2 (GPTQ, Frantar et al. 2022, tables for LLaMA in its repository), so "
        "they were not measured on the code that the report is about.",
    ),
    Claim(
        "001",
        "123–125, 189–191",
        "Q8_A8 raises perplexity by 0.7 to 1.8 % (7B), 0.6 to 1.4 % (13B), 0.5 to 1.2 % (30B).",
        _OPEN,
        "Not on those models. On SmolLM2-135M it is {q8_a8}: the size of the claim, though small models "
        "lose more. For 7B it is likely far less: llama.cpp's own table (README, commit 2d5db48 of May 2023) "
        "has 5.9066 for F16 and 5.9070 for Q8_0, whose products quantize activations as Q8_A8 does.",
    ),
    Claim(
        "001",
        "219",
        "Perplexity rises by less than 1 %.",
        _YES,
        "On SmolLM2-135M: {q8_a8}. The report contradicts itself: its own table (line 123) allows 1.8 %.",
    ),
    Claim(
        "001",
        "226",
        "Accuracy stays above 99 %.",
        _NO,
        "It holds for perplexity alone, which rises by {q8_a8} on SmolLM2-135M; the report does not say what "
        "accuracy it means. Of the most probable tokens {top_q8_en} are float's on an English text and "
        "{top_q8_ko} on a Korean one: less than 99 %.",
    ),
    Claim(
        "001",
        "168–172",
        "Snapdragon 8 Gen 2 with Cortex-A78: 1.8 to 2.8 times, 40 to 50 % less power.",
        _NO,
        "No such chip: the Snapdragon 8 Gen 2 has Cortex-X3, A715, A710 and A510 cores (erratum 9).",
    ),
    Claim("001", "174–178", "Apple M2: 2.0 to 3.1 times, 35 to 45 % less power.", _OPEN, _ARM),
    Claim(
        "001",
        "180–183",
        "AMD Ryzen 7000: latency 1.2 to 1.6 times, throughput 1.5 to 2.0 times better.",
        _OPEN,
        "Needs that CPU. On the one at hand ({bench_cpu}) a real llama-bench gives Q8_0, which is Q8_A8's "
        "arithmetic, {bench_pp} times the speed of F16 for a prompt of {bench_prompt} tokens and "
        "{bench_tg} times for generation, on SmolLM2-135M.",
    ),
    Claim(
        "001",
        "189",
        "Llama-7B: 13.5 GB in FP16, 7.2 GB in Q8_A8.",
        _YES,
        "{f16_7b} and {q8_7b}, all matrices counted.",
    ),
    Claim(
        "001",
        "190",
        "Llama-13B: 26.0 GB in FP16, 13.8 GB in Q8_A8.",
        _YES,
        "{f16_13b} and {q8_13b}, all matrices counted.",
    ),
    Claim(
        "001",
        "191",
        "Llama-30B: 60.0 GB in FP16, 31.8 GB in Q8_A8.",
        _NO,
        "{f16_30b} and {q8_30b}: the model called 30B has {parameters_30b} billion weights. The report's "
        "figures are 30 times 2 bytes, and 53 % of that.",
    ),
    Claim(
        "001",
        "189–191",
        "85 to 150 % more tokens a second.",
        _OPEN,
        _ARM,
    ),
    Claim(
        "001",
        "228",
        "Twice as fast as FP16 in half the memory, once the linking is mended.",
        _OPEN,
        "Memory: see above, 47 %. Speed needs the hardware that is meant, which the report does not name.",
    ),
    # 002, the linking guide
    Claim(
        "002",
        "26–36",
        "`--allow-shlib-undefined` resolves the undefined references.",
        _NO,
        "It hides them from the linker: the program links, and fails when the symbol is first needed "
        "(erratum 8; a test builds such a program and sees both).",
    ),
    Claim(
        "002",
        "40–47",
        "`clamp` for Q8_A8 is an assertion that fails.",
        _NO,
        "It needs none: dequantize, clamp, quantize (OPS-1), as `q8a8.clamp` does.",
    ),
    Claim(
        "002",
        "49–77",
        "Type traits and `dequantize_row_q8_a8` as printed.",
        _YES,
        "They are rules TRT-1 and DEQ-1; block 32, type size 34.",
    ),
    Claim(
        "002",
        "94",
        "`llama-quantize model.gguf model_q8a8.gguf Q8_A8`.",
        _NO,
        "No llama.cpp knows that name. `q8a8 quantize IN.gguf OUT.gguf` writes a file that a stock "
        "llama.cpp loads, runs, and scores.",
    ),
    Claim(
        "002",
        "107–145",
        "The script finds perplexity and speed in the tools' output.",
        _NO,
        "llama-perplexity prints `Final estimate: PPL = …`, to the standard error, which the document does "
        "not keep; llama-bench prints a table. Both searches give None, and the next lines fail to format "
        "it. Where both streams are kept, the first pattern finds the seconds that a pass took (a test "
        "runs it on real outputs). `q8a8 compare` reads both tools and refuses what it does not know.",
    ),
    Claim(
        "002",
        "146",
        "The script's last line: about 47 % of memory saved.",
        _NO,
        "It prints a constant. Of the two files measured here, F16 and Q8_A8, the second is {file_saving} "
        "smaller with its embedding in FP16, which is our default, and {plan_saving} with `--embedding`.",
    ),
    Claim(
        "002",
        "157",
        "Llama-7B: 13.5 GB and 7.2 GB, 47 % less.",
        _YES,
        "{f16_7b} and {q8_7b}, {saving_7b} less.",
    ),
    Claim(
        "002",
        "158",
        "Llama-7B: perplexity 5.68 and 5.72.",
        _OPEN,
        "As 001, lines 123 to 125: the document calls it an expectation, and so it is.",
    ),
    Claim("002", "159", "12.5 and 23.8 tokens a second on Arm.", _OPEN, _ARM),
    Claim(
        "002",
        "160",
        "18.2 and 25.6 tokens a second on x86, 41 % more.",
        _OPEN,
        "The CPU is not named. On the one at hand: see 001, lines 180 to 183.",
    ),
    Claim("002", "161", "The first token after 150 ms, not 280.", _OPEN, _ARM),
    Claim(
        "002",
        "165–169",
        "Apple M2 and M3 2.5 to 3 times, Snapdragon 8 Gen 2 and 3 2 to 2.5 times, Dimensity 9000 1.8 to 2.2 "
        "times faster.",
        _OPEN,
        _ARM,
    ),
)
"""All of them, by document and line."""
