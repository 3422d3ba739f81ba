"""The claims of documents 003 and 004, the notes on methods, in English and Korean.

As `q8a8_lab.evaluation.claims_table`, whose documents are reports on one project; these are lecture notes.
"""

from __future__ import annotations

from q8a8_lab.evaluation.claims_table import Claim, Verdict

__all__ = ["NOTES", "NOTES_KOREAN"]

_YES, _NO, _OPEN, _ONLY = Verdict.CONFIRMED, Verdict.REFUTED, Verdict.UNTESTABLE, Verdict.MENTIONED

_GPU = "Needs a GPU with such units; nothing here runs on one."

NOTES = (
    Claim(
        "003",
        "12–16",
        "0.4231567 divided by the scale rounds to 54, and 54 times the scale is about 0.423.",
        _YES,
        "With a largest weight of 1 the scale is 1/127: 53.74 rounds to 54, which stands for 0.4252, "
        "0.5 % off. It is 54 for a largest weight from 0.986 to 1.004.",
    ),
    Claim(
        "003",
        "20",
        "INT4 takes 1/4 of the memory of FP16.",
        _NO,
        "With its scales {bits_int4_g128} bits a weight in groups of 128, {bits_int4_g32} in groups of 32.",
    ),
    Claim(
        "003",
        "21",
        "INT8 is 2 to 4 times as fast as FP16.",
        _OPEN,
        _GPU,
    ),
    Claim(
        "003",
        "39",
        "512 to 1024 samples calibrate a model.",
        _OPEN,
        "A sample's length is not said. The evaluation calibrates on 32 windows of 512 tokens.",
    ),
    Claim(
        "003",
        "42",
        "Quantization after training loses more than quantization-aware training (QAT).",
        _ONLY,
        "Nothing is trained here; the document gives no figure.",
    ),
    Claim(
        "003",
        "53–57",
        "Weights alone in INT4 help where bandwidth is the limit, in decoding.",
        _OPEN,
        "The bytes do shrink to those of line 20; speed needs the hardware.",
    ),
    Claim(
        "003",
        "59–63",
        "Groups are more exact than one scale for all, and cost memory.",
        _YES,
        "On SmolLM2-135M int4 raises perplexity by {int4_g128} in groups of 128 and by {int4_g32} in "
        "groups of 32, at {bits_int4_g128} and {bits_int4_g32} bits a weight. Its weights were 4 bits "
        "before.",
    ),
    Claim(
        "003",
        "77–81",
        "Some channels of activations are 100 to 1000 times the others.",
        _YES,
        "And more: 1830 times the median in the input of ffn_down of layer 11 of SmolLM2-135M "
        "([measured](../methods/smoothquant.md)). With one scale a tensor perplexity rises by "
        "{w8a8_tensor}.",
    ),
    Claim(
        "003",
        "83",
        "LLM.int8() computes channels with outliers in FP16 and the others in INT8.",
        _YES,
        "Perplexity rises by {llm_int8}, where one scale a token alone gives {w8a8_channel}.",
    ),
    Claim(
        "003",
        "92–94",
        "The size of the KV cache is layers times positions times heads times head size times bytes; "
        "INT8 halves it.",
        _NO,
        "The formula counts one of keys and values, query heads instead of key-value heads, and no "
        "scales (erratum 10). Of 512 positions float32 takes {cache_float} bytes, int8 with its newest "
        "positions in float {cache_kv_int8}.",
    ),
    Claim(
        "003",
        "97",
        "Keys are more sensitive to quantization than values.",
        _NO,
        "Only with groups along the wrong axis ([measured](../methods/kv-cache.md)). With keys by "
        "channel and values by token, both in int4, perplexity rises by {kv_int4}.",
    ),
    Claim(
        "003",
        "99",
        "KVSharer and SnapKV remove or compress parts of the cache.",
        _ONLY,
        "They choose positions and layers, not a format of numbers; nothing here implements them.",
    ),
    Claim(
        "003",
        "118–121",
        "AWQ computes quantize(W / s) · s with s = mean|X|^α.",
        _NO,
        "The other way: W is multiplied by s before and divided after, so that active channels get "
        "finer steps; so it is in the paper and in `q8a8.methods.awq`.",
    ),
    Claim(
        "003",
        "126",
        "AWQ keeps INT4 close to FP16.",
        _NO,
        "Not on SmolLM2-135M: {awq_int4_g64}, rounding to nearest with the same groups {rtn_int4_g64}. "
        "Small models lose more, and this one's weights were 4 bits before.",
    ),
    Claim(
        "003",
        "149",
        "GPTQ's error is far below that of rounding to nearest.",
        _YES,
        "For a layer's output, mostly ([measured](../methods/gptq.md)). For this model's perplexity "
        "not: {gptq_int4_g64} against {rtn_int4_g64}; with columns in order of activation "
        "{gptq_int4_g64_act}.",
    ),
    Claim(
        "003",
        "153",
        "A model of 70B takes 35 GB instead of 140 GB.",
        _NO,
        "Without scales. With groups of 128 as stored here {gb_70b} GB.",
    ),
    Claim(
        "003",
        "165, 166",
        "E4M3 reaches ±448, E5M2 has more range and less precision.",
        _YES,
        "Every code is compared with ml_dtypes and gfloat. In E4M3 perplexity rises by "
        "{fp8_e4m3_tensor}, in E5M2 by {fp8_e5m2_tensor}.",
    ),
    Claim(
        "003",
        "160, 170, 171",
        "H100 has FP8 units; E5M2 is for gradients.",
        _OPEN,
        "Nothing is trained here, and there is no such GPU.",
    ),
    Claim(
        "003",
        "173",
        "DeepSeek-V3 was trained in FP8 and cost less.",
        _ONLY,
        "Nothing is trained here. By its report its FP8 is E4M3, with a scale for 128 activations of a token "
        "and for 128 by 128 weights.",
    ),
    Claim(
        "003",
        "179–183",
        "Memory: BF16 2, FP8 and INT8 4, INT4 8 times less than FP32; speed likewise.",
        _NO,
        "Memory with scales: Q8_A8 3.76 times, int4 in groups of 128 32/{bits_int4_g128}. Speed needs "
        "the hardware.",
    ),
    # 004, the lecture
    Claim(
        "004",
        "23–38",
        "Y = Sx · (Xint · Wint) · Sw.",
        _YES,
        "`q8a8.methods.dynamic`, equal to torchao's in every bit; so is the sum in int32.",
    ),
    Claim(
        "004",
        "42",
        "The product of INT8 is accumulated in INT32 and rescaled to BF16.",
        _YES,
        (
            "int32 cannot overflow below 131,072 columns of int8: 2^31 / 128^2. torchao's function is "
            "`int_scaled_matmul` (`torchao/kernel/intmm.py`)."
        ),
    ),
    Claim(
        "004",
        "46, 48",
        "A fused kernel keeps intermediate results in SRAM.",
        _OPEN,
        _GPU,
    ),
    Claim(
        "004",
        "52–56",
        "Converting types alone may cost speed; a kernel is limited to 64 blocks.",
        _OPEN,
        "The limit is of a kernel that is not named. Scales do cost time: `q8a8 bench` times it.",
    ),
    Claim(
        "004",
        "62",
        "A compiler makes up for it.",
        _OPEN,
        _GPU,
    ),
)
"""All of them, by document and line."""

_GPU_KOREAN = "그런 연산 장치가 있는 GPU가 필요합니다. 여기서는 아무것도 GPU에서 실행하지 않습니다."

NOTES_KOREAN = {
    ("003", "12–16"): (
        "0.4231567을 스케일로 나누면 54로 반올림되고, 54에 스케일을 곱하면 약 0.423이다.",
        (
            "가장 큰 가중치가 1이면 스케일은 1/127입니다. 53.74가 54로 반올림되며 이는 0.4252, 0.5 %의 "
            "오차입니다. 가장 큰 가중치가 0.986에서 1.004 사이면 54입니다."
        ),
    ),
    ("003", "20"): (
        "INT4는 FP16 메모리의 4분의 1이다.",
        ("스케일까지 그룹 128에서 가중치당 {bits_int4_g128}비트, 그룹 32에서 {bits_int4_g32}비트입니다."),
    ),
    ("003", "21"): (
        "INT8은 FP16보다 2~4배 빠르다.",
        _GPU_KOREAN,
    ),
    ("003", "39"): (
        "표본 512~1024개로 캘리브레이션한다.",
        "표본의 길이를 밝히지 않습니다. 평가는 512토큰 창 32개로 캘리브레이션합니다.",
    ),
    ("003", "42"): (
        "학습 후 양자화는 양자화 인식 학습(QAT)보다 손실이 크다.",
        "여기서는 아무것도 학습하지 않으며, 문서에는 수치가 없습니다.",
    ),
    ("003", "53–57"): (
        "INT4 가중치는 대역폭이 병목인 디코드에서 효과적이다.",
        "바이트는 20행과 같이 줄어듭니다. 속도에는 하드웨어가 필요합니다.",
    ),
    ("003", "59–63"): (
        "그룹은 스케일 하나보다 정확하고 메모리가 든다.",
        (
            "SmolLM2-135M에서 int4는 퍼플렉시티를 그룹 128에서 {int4_g128}, 그룹 32에서 {int4_g32} "
            "올립니다. 가중치당 {bits_int4_g128}비트와 {bits_int4_g32}비트입니다. 이 가중치는 원래 "
            "4비트였습니다."
        ),
    ),
    ("003", "77–81"): (
        "활성화의 일부 채널은 나머지의 100~1000배이다.",
        (
            "그 이상입니다. SmolLM2-135M의 11번 레이어 ffn_down 입력에서 중앙값의 "
            "1830배입니다([측정](../../methods/smoothquant.html)). 텐서당 스케일 하나로는 퍼플렉시티가 "
            "{w8a8_tensor} 오릅니다."
        ),
    ),
    ("003", "83"): (
        "LLM.int8()은 이상치 채널을 FP16으로, 나머지를 INT8로 계산한다.",
        "퍼플렉시티가 {llm_int8} 오르며, 토큰당 스케일 하나만으로는 {w8a8_channel}입니다.",
    ),
    ("003", "92–94"): (
        "KV 캐시의 크기는 레이어 × 위치 × 헤드 × 헤드 크기 × 바이트이고 INT8은 절반이다.",
        (
            "이 식은 키와 값 중 하나만, 키-값 헤드 대신 질의 헤드를 세며 스케일을 빠뜨립니다(정오 항목 "
            "10). 512개 위치에서 float32는 {cache_float}바이트, 최신 위치를 float로 둔 int8은 "
            "{cache_kv_int8}바이트입니다."
        ),
    ),
    ("003", "97"): (
        "키는 값보다 양자화에 민감하다.",
        (
            "그룹의 축이 틀렸을 때만 그렇습니다([측정](../../methods/kv-cache.html)). 키는 채널별, "
            "값은 토큰별로 둘 다 int4일 때 퍼플렉시티가 {kv_int4} 오릅니다."
        ),
    ),
    ("003", "99"): (
        "KVSharer와 SnapKV는 캐시의 일부를 제거하거나 압축한다.",
        "수의 형식이 아니라 위치와 레이어를 고르며, 여기서는 구현하지 않았습니다.",
    ),
    ("003", "118–121"): (
        "AWQ는 s = mean|X|^α로 quantize(W / s) · s를 계산한다.",
        (
            "반대입니다. W에 먼저 s를 곱하고 나중에 나누어 활성이 큰 채널의 간격을 좁힙니다. 논문과 "
            "`q8a8.methods.awq`가 그렇습니다."
        ),
    ),
    ("003", "126"): (
        "AWQ는 INT4를 FP16에 가깝게 유지한다.",
        (
            "SmolLM2-135M에서는 아닙니다. {awq_int4_g64}이고, 같은 그룹의 최근접 반올림은 "
            "{rtn_int4_g64}입니다. 작은 모델은 더 잃으며, 이 가중치는 원래 4비트였습니다."
        ),
    ),
    ("003", "149"): (
        "GPTQ의 오차는 최근접 반올림보다 훨씬 작다.",
        (
            "레이어의 출력에서는 대체로 그렇습니다([측정](../../methods/gptq.html)). 이 모델의 "
            "퍼플렉시티에서는 아닙니다. {gptq_int4_g64} 대 {rtn_int4_g64}이고, 열을 활성화 순서로 하면 "
            "{gptq_int4_g64_act}입니다."
        ),
    ),
    ("003", "153"): (
        "70B 모델은 140 GB 대신 35 GB이다.",
        "스케일을 뺀 값입니다. 여기서 저장하는 그룹 128로는 {gb_70b} GB입니다.",
    ),
    ("003", "165, 166"): (
        "E4M3의 범위는 ±448이고 E5M2는 범위가 더 넓고 정밀도가 낮다.",
        (
            "모든 코드를 ml_dtypes 및 gfloat와 비교합니다. 퍼플렉시티는 E4M3에서 {fp8_e4m3_tensor}, "
            "E5M2에서 {fp8_e5m2_tensor} 오릅니다."
        ),
    ),
    ("003", "160, 170, 171"): (
        "H100에는 FP8 장치가 있고 E5M2는 기울기용이다.",
        "여기서는 아무것도 학습하지 않으며 그런 GPU가 없습니다.",
    ),
    ("003", "173"): (
        "DeepSeek-V3은 FP8로 학습하여 비용을 줄였다.",
        (
            "여기서는 아무것도 학습하지 않습니다. 그 보고서에 따르면 FP8은 E4M3이고, 스케일은 토큰의 활성화 "
            "128개마다, 가중치 128×128개마다 있습니다."
        ),
    ),
    ("003", "179–183"): (
        "메모리: FP32보다 BF16 2배, FP8과 INT8 4배, INT4 8배 작고 속도도 그렇다.",
        (
            "스케일까지 Q8_A8은 3.76배, 그룹 128의 int4는 32/{bits_int4_g128}배입니다. 속도에는 "
            "하드웨어가 필요합니다."
        ),
    ),
    ("004", "23–38"): (
        "Y = Sx · (Xint · Wint) · Sw.",
        "`q8a8.methods.dynamic`이며 모든 비트가 torchao와 같습니다. int32의 합도 그렇습니다.",
    ),
    ("004", "42"): (
        "INT8의 곱을 INT32로 누적하고 BF16으로 다시 스케일한다.",
        (
            "int8의 열이 131,072개보다 적으면 int32는 넘치지 않습니다(2^31 / 128^2). torchao의 함수는 "
            "`int_scaled_matmul`입니다(`torchao/kernel/intmm.py`)."
        ),
    ),
    ("004", "46, 48"): (
        "융합 커널은 중간 결과를 SRAM에 둔다.",
        _GPU_KOREAN,
    ),
    ("004", "52–56"): (
        "형 변환만으로는 느려질 수 있고, 커널은 64블록으로 제한된다.",
        "이름이 없는 커널의 제한입니다. 스케일에는 시간이 들며 `q8a8 bench`가 잽니다.",
    ),
    ("004", "62"): (
        "컴파일러가 이를 만회한다.",
        _GPU_KOREAN,
    ),
}
"""Each claim and its finding in Korean, by document and lines."""
