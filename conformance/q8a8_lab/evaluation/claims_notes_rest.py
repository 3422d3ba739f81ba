"""More claims of documents 003 and 004: what the notes say in passing, in both languages."""

from __future__ import annotations

from q8a8_lab.evaluation.claims_rest import row
from q8a8_lab.evaluation.claims_table import Verdict

__all__ = ["NOTES_REST", "NOTES_REST_KOREAN"]

_YES, _NO, _OPEN, _ONLY = Verdict.CONFIRMED, Verdict.REFUTED, Verdict.UNTESTABLE, Verdict.MENTIONED


_ROWS = (
    row(
        "003",
        "3, 9",
        _YES,
        "Lower precision improves memory and speed.",
        "Memory: {block_saving} less than FP16. Speed: in a real llama.cpp on the x86 CPU at hand "
        "generation is {bench_tg} times as fast as F16, a prompt {bench_pp} times: not always.",
        "낮은 정밀도는 메모리와 추론 속도를 개선한다.",
        "메모리는 FP16보다 {block_saving} 줄어듭니다. 속도는 여기의 x86 CPU에서 실제 llama.cpp로 생성이 "
        "F16의 {bench_tg}배, 프롬프트가 {bench_pp}배입니다. 늘 빨라지지는 않습니다.",
    ),
    row(
        "003",
        "22",
        _YES,
        "It costs a little accuracy.",
        "On SmolLM2-135M {q8_a8} in 8 bits; 4 bits cost it much more, {int4_g32}.",
        "정확도가 조금 떨어진다.",
        "SmolLM2-135M에서 8비트는 {q8_a8}이고, 4비트는 훨씬 큰 {int4_g32}입니다.",
    ),
    row(
        "003",
        "28–36",
        _YES,
        "Quantization after training: calibrate, compute scales and zero points, apply; no training.",
        "Every scheme here is made so. The format itself has no zero points and needs no calibration; "
        "schemes with static activations do.",
        "학습 후 양자화: 캘리브레이션하고, 스케일과 영점을 계산하고, 적용한다. 재학습은 없다.",
        "여기의 모든 방식이 그렇습니다. 형식 자체에는 영점이 없고 캘리브레이션도 필요 없습니다. 정적 "
        "활성화 방식에는 필요합니다.",
    ),
    row(
        "003",
        "41",
        _YES,
        "No training, and quickly applied.",
        "`q8a8 quantize` takes 2.3 s of processor time for SmolLM2-135M "
        "([measured](gguf.md#memory-and-time)).",
        "학습이 필요 없고 빠르게 적용된다.",
        "`q8a8 quantize`는 SmolLM2-135M에 프로세서 시간 2.3초가 "
        "걸립니다([측정](../../model/gguf.html#memory-and-time)).",
    ),
    row(
        "003",
        "48",
        _YES,
        "Weight-only quantization leaves activations in FP16.",
        "With weights in Q8_A8 and activations in float perplexity changes by {w8a16}.",
        "가중치만 양자화하면 활성화는 FP16으로 남는다.",
        "가중치는 Q8_A8, 활성화는 float일 때 퍼플렉시티는 {w8a16} 바뀝니다.",
    ),
    row(
        "003",
        "70–73",
        _NO,
        "INT8 by INT8, accumulated in INT32, scaled, gives an INT8 output.",
        "A scaled sum is a float: Q8_A8's output is float32 (MUL-1), torchao's BF16. INT8 again needs "
        "another scale, and is the next operator's quantization.",
        "INT8끼리 곱해 INT32로 누적하고 스케일하면 INT8 출력이 된다.",
        "스케일한 합은 float입니다. Q8_A8의 출력은 float32이고(MUL-1) torchao의 출력은 BF16입니다. 다시 "
        "INT8로 하려면 다른 스케일이 필요하며, 그것은 다음 연산자의 양자화입니다.",
    ),
    row(
        "003",
        "76",
        _OPEN,
        "INT8 tensor cores used in full give the greatest speed.",
        "Needs a GPU with such units; nothing here runs on one.",
        "INT8 텐서 코어를 모두 활용하면 속도가 최대이다.",
        "그런 연산 장치가 있는 GPU가 필요합니다. 여기서는 아무것도 GPU에서 실행하지 않습니다.",
    ),
    row(
        "003",
        "89",
        _YES,
        "The KV cache can be INT8 or INT4.",
        "The newest positions in float, perplexity changes by {kv_int8} and {kv_int4}.",
        "KV 캐시를 INT8이나 INT4로 양자화한다.",
        "최신 위치를 float로 두면 퍼플렉시티가 {kv_int8}, {kv_int4} 바뀝니다.",
    ),
    row(
        "003",
        "107–113",
        _NO,
        "AWQ quantizes salient weights more precisely and the others at a lower precision.",
        "All have the same number of bits. Channels with large activations are scaled up before "
        "rounding, so that their relative steps are finer.",
        "AWQ는 중요한 가중치를 더 정밀하게, 나머지는 낮은 정밀도로 양자화한다.",
        "비트 수는 모두 같습니다. 활성화가 큰 채널을 반올림 전에 키워 상대적인 간격을 좁힙니다.",
    ),
    row(
        "003",
        "125",
        _YES,
        "AWQ quantizes important weights more exactly.",
        "For a layer's output it has the smaller error ([measured](../methods/awq.md)); for this "
        "model's perplexity see line 126.",
        "AWQ는 중요한 가중치를 더 정확하게 양자화한다.",
        "레이어의 출력에서는 오차가 더 작습니다([측정](../../methods/awq.html)). 이 모델의 퍼플렉시티는 "
        "126행을 보십시오.",
    ),
    row(
        "003",
        "134–147",
        _YES,
        "GPTQ minimizes the error of WX, and makes up for a weight's error in the rest of its row, by "
        "the inverse of the Hessian.",
        "`q8a8.methods.gptq`; a test compares all codes with the formula of the paper in plain loops. "
        "Whole columns go at a time, not one weight.",
        "GPTQ는 WX의 오차를 최소화하며, 한 가중치의 오차를 같은 행의 나머지로 보상한다. 크기는 헤시안의 "
        "역행렬로 정한다.",
        "`q8a8.methods.gptq`입니다. 테스트가 모든 코드를 논문의 식을 그대로 옮긴 반복문과 비교합니다. "
        "가중치 하나가 아니라 열 단위로 진행합니다.",
    ),
    row(
        "003",
        "151, 152",
        _ONLY,
        "INT4 with groups of 128 is what most use.",
        "No figure, and no package counts it. Groups of 128 do not divide SmolLM2-135M's 576 channels: "
        "GPTQ and AWQ take 64 here.",
        "INT4에 그룹 128이 가장 많이 쓰인다.",
        "수치가 없습니다. 그룹 128은 SmolLM2-135M의 채널 576개를 나누지 못하므로 여기서 GPTQ와 AWQ는 "
        "64를 씁니다.",
    ),
    row(
        "003",
        "154",
        _NO,
        "llama.cpp implements GPTQ.",
        "Its quantizer rounds, with weights of importance where they are given: no Hessian is in its "
        "source (that of llama-cpp-python 0.3.36). `q8a8 export` writes GPTQ's integers in a type that "
        "it runs.",
        "llama.cpp가 GPTQ를 구현한다.",
        "그 양자화 도구는 중요도가 주어지면 그것을 반영해 반올림합니다. 소스(llama-cpp-python 0.3.36의 "
        "것)에 헤시안은 없습니다. `q8a8 export`는 GPTQ의 정수를 그것이 실행하는 타입으로 씁니다.",
    ),
    row(
        "003",
        "169",
        _ONLY,
        "Weights in E4M3, where precision counts.",
        "See lines 165 and 166.",
        "정밀도가 중요한 가중치는 E4M3으로 한다.",
        "165행과 166행을 보십시오.",
    ),
    row(
        "003",
        "185",
        _YES,
        "All figures are approximate, and depend on the GPU and the implementation.",
        "They do: the rows above that no measurement here supports are of this kind.",
        "모든 수치는 대략이며 GPU 구조와 구현에 따라 다르다.",
        "그렇습니다. 위에서 측정이 뒷받침하지 않는 행이 그런 수치입니다.",
    ),
    row(
        "004",
        "5–9",
        _YES,
        "Weights and activations are quantized, multiplied, accumulated and rescaled.",
        "`q8a8.methods.dynamic`, and the format itself block by block.",
        "가중치와 활성화를 양자화하고, 곱하고, 누적하고, 다시 스케일한다.",
        "`q8a8.methods.dynamic`이며, 형식 자체는 블록마다 그렇게 합니다.",
    ),
    row(
        "004",
        "11, 13",
        _YES,
        "Where one quantizes decides about memory and results.",
        "Perplexity changes by {w8a16} with weights in 8 bits, by {q8_a8} with activations too, by "
        "{kv_int8} with keys and values alone; with one scale a tensor by {w8a8_tensor}.",
        "어디서 양자화하는지가 메모리와 성능을 좌우한다.",
        "퍼플렉시티는 가중치만 8비트이면 {w8a16}, 활성화까지면 {q8_a8}, 키와 값만이면 {kv_int8}, 텐서당 "
        "스케일 하나면 {w8a8_tensor} 바뀝니다.",
    ),
    row(
        "004",
        "15, 17",
        _ONLY,
        "Can every model be quantized? Many ways are possible for each.",
        "A question. What was measured is on SmolLM2-135M and, in part, Gemma 3 270M "
        "([evaluation](evaluation.md)).",
        "모든 모델을 양자화할 수 있는가? 모델마다 여러 방식이 가능하다.",
        "질문입니다. 측정한 것은 SmolLM2-135M과 일부 Gemma 3 "
        "270M입니다([평가](../../model/evaluation.html)).",
    ),
)

NOTES_REST = tuple(claim for claim, _ in _ROWS)
"""The claims, by document and line."""

NOTES_REST_KOREAN = {(claim.document, claim.lines): korean for claim, korean in _ROWS}
"""Each claim and its finding in Korean, by document and lines."""
