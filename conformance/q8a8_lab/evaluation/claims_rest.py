"""More claims of documents 000 to 002: interfaces, lists of what is done and what is not, plans, goals.

As `q8a8_lab.evaluation.claims_table`, with both languages in one place.
"""

from __future__ import annotations

from q8a8_lab.evaluation.claims_table import Claim, Verdict

__all__ = ["REST", "REST_KOREAN", "row"]

_YES, _NO, _OPEN, _ONLY = Verdict.CONFIRMED, Verdict.REFUTED, Verdict.UNTESTABLE, Verdict.MENTIONED


def row(
    document: str, lines: str, verdict: Verdict, says: str, finding: str, says_korean: str, korean: str
) -> tuple[Claim, tuple[str, str]]:
    """Return a claim, and its words and its finding in Korean."""
    return Claim(document, lines, says, verdict, finding), (says_korean, korean)


_ROWS = (
    row(
        "000",
        "9–17",
        _YES,
        "A block with a scale for weights and one for activations.",
        "Version 2, 36 bytes (LAY-3 to LAY-5). By the comment it holds weights only; the dot product "
        "reads activations from it (erratum 4).",
        "가중치 스케일과 활성화 스케일을 함께 갖는 블록.",
        "버전 2, 36바이트입니다(LAY-3부터 LAY-5까지). 주석으로는 가중치만 담지만, 벡터 내적은 여기서 "
        "활성화를 읽습니다(정오 항목 4).",
    ),
    row(
        "000",
        "72–85",
        _YES,
        "The matrix product quantizes activations at run time, then multiplies integers of 8 bits.",
        "That is rule MUL-1, block by block.",
        "행렬곱이 활성화를 런타임에 양자화한 뒤 8비트끼리 곱한다.",
        "규칙 MUL-1이며, 블록마다 그렇게 합니다.",
    ),
    row(
        "000",
        "87–89",
        _NO,
        "The SmoothQuant policy: alpha 0.5 for every linear layer of the model.",
        "Factors are folded into what makes a layer's input, where that can take them: not for "
        "attn_output, whose "
        "input mixes rows of v that heads share, and not for the head, which stays in float here. So "
        "`q8a8 smooth` smooths the layers after a norm, with --fold-down those after ffn_up too. On "
        "SmolLM2-135M "
        "{q8_a8_smooth} and {q8_a8_smooth_down}; `--alpha search` looks for another alpha.",
        "SmoothQuant 정책: 모델의 모든 선형 레이어에 alpha 0.5.",
        "계수는 입력을 만드는 텐서에, 그럴 수 있을 때 접어 넣습니다. attn_output은 헤드가 공유하는 v의 "
        "행이 섞여 "
        "들어와 안 되고, 헤드는 여기서 float로 남습니다. 그래서 `q8a8 smooth`는 norm 다음의 레이어를, "
        "--fold-down이면 ffn_up 다음의 레이어도 평활화합니다. SmolLM2-135M에서 {q8_a8_smooth}와 "
        "{q8_a8_smooth_down}이며, `--alpha search`는 다른 alpha를 찾습니다.",
    ),
    row(
        "000",
        "106–118",
        _ONLY,
        "The dot product for NEON: MATMUL_INT8, 8x8 to 32 bits.",
        "The function's body is comments. smmla multiplies 2 rows of 8 by 2 rows of 8; written here "
        "from the specification, see 001, line 30.",
        "NEON 벡터 내적: MATMUL_INT8, 8x8에서 32비트로.",
        "함수의 본문은 주석뿐입니다. smmla는 8개짜리 2행을 8개짜리 2행과 곱합니다. 여기서는 명세로부터 "
        "작성했습니다. 001의 30행을 보십시오.",
    ),
    row(
        "001",
        "23–26",
        _YES,
        "A reference quantizer and one for NEON; the scale is amax / 127.",
        "QNT-2; the NEON kernel written here has the reference's bits.",
        "참조 양자화 함수와 NEON 양자화 함수, 스케일은 amax / 127이다.",
        "QNT-2입니다. 여기서 작성한 NEON 커널은 참조 구현과 모든 비트가 같습니다.",
    ),
    row(
        "001",
        "34–36, 220",
        _OPEN,
        "Loader, quantizer and file types of llama.cpp know the format.",
        "That code is not public, and no published llama.cpp does. As type 8 a stock one loads the files.",
        "llama.cpp의 로더, 양자화 도구, 파일 타입이 이 형식을 안다.",
        "그 코드는 공개되어 있지 않고, 공개된 llama.cpp는 모릅니다. 타입 8로는 그대로 읽습니다.",
    ),
    row(
        "001",
        "40–42, 196–198",
        _YES,
        "Linking fails for want of definitions of templates.",
        "A library whose template is defined in a source file and used elsewhere fails so (a test "
        "builds it); see 002, lines 15 to 24.",
        "템플릿 정의가 없어 링크가 실패한다.",
        "소스 파일에서 정의하고 다른 곳에서 쓰는 템플릿은 그렇게 실패합니다(테스트가 빌드합니다). 002의 "
        "15행부터 24행까지를 보십시오.",
    ),
    row(
        "001",
        "44–47, 207–210",
        _OPEN,
        "CUDA, OpenCL, AMX and AVX-512 are not supported.",
        "That code is not public. Here one source is a kernel for CUDA and OpenCL, and there are "
        "kernels for AMX and AVX-512, all with the scalar kernel's bits; CUDA's runs compiled as C, not "
        "on a GPU.",
        "CUDA, OpenCL, AMX, AVX-512를 지원하지 않는다.",
        "그 코드는 공개되어 있지 않습니다. 여기서는 하나의 소스가 CUDA와 OpenCL 커널이고, AMX와 AVX-512 "
        "커널도 있으며 모두 scalar 커널과 비트가 같습니다. CUDA는 C로 컴파일해 실행하며 GPU에서는 "
        "실행하지 않습니다.",
    ),
    row(
        "001",
        "49–51, 200–205",
        _OPEN,
        "Operations lack the type; one more case calls `ggml_compute_forward_clamp_q8_a8`.",
        "That code is not public, and nothing defines the function. What it should compute is OPS-1.",
        "연산에 이 타입이 빠져 있고, case 하나가 `ggml_compute_forward_clamp_q8_a8`을 호출하면 된다.",
        "그 코드는 공개되어 있지 않고 그 함수는 어디에도 정의되어 있지 않습니다. 계산할 것은 OPS-1입니다.",
    ),
    row(
        "001",
        "59, 62–65",
        _YES,
        "32 elements take 64 bytes in FP16 and 34 in Q8_A8: 1.88 times.",
        "{block_ratio} (LAY-1). The table's 1.9 is that, rounded.",
        "원소 32개는 FP16에서 64바이트, Q8_A8에서 34바이트로 1.88배이다.",
        "{block_ratio}입니다(LAY-1). 표의 1.9는 이를 반올림한 값입니다.",
    ),
    row(
        "001",
        "72–80",
        _NO,
        "FP16 multiplies 32 times, `vdotq_s32` 4 elements at a time.",
        "sdot multiplies 16 pairs and adds four of them in each of four lanes; FP16 with NEON is not "
        "one by one either, it is 8 at a time. The scale is per block, not once at the end.",
        "FP16은 32번 곱하고 `vdotq_s32`는 4개씩 처리한다.",
        "sdot은 16쌍을 곱해 네 레인에 넷씩 더합니다. NEON의 FP16도 하나씩이 아니라 8개씩입니다. "
        "스케일은 마지막에 한 번이 아니라 블록마다 있습니다.",
    ),
    row(
        "001",
        "101, 103",
        _YES,
        "MATMUL_INT8 takes 2 rows at once, by an instruction of its own.",
        "smmla: 2 by 8 times 8 by 2, into four sums. The kernel `i8mm` uses it for tiles of rows.",
        "MATMUL_INT8은 전용 명령어로 2행을 동시에 처리한다.",
        "smmla는 2×8과 8×2를 곱해 합 네 개를 냅니다. 커널 `i8mm`이 행 타일에 사용합니다.",
    ),
    row(
        "001",
        "114–117",
        _YES,
        "SmoothQuant scales channels by the distribution of activations, with factors that were calibrated.",
        "`q8a8 calibrate` and `q8a8 smooth`; run-time quantization is the format's, with SmoothQuant or not.",
        "SmoothQuant는 활성화 분포에 따라 채널을 스케일하며 계수는 캘리브레이션한다.",
        "`q8a8 calibrate`와 `q8a8 smooth`입니다. 런타임 양자화는 SmoothQuant와 무관하게 형식의 것입니다.",
    ),
    row(
        "001",
        "129–142",
        _YES,
        "The plan of a benchmark: `-p 512 -n 128`, tokens a second, the first token, the prompt.",
        "Run in a real llama.cpp on SmolLM2-135M, one thread, the files taking turns on a machine with "
        "other work: of Q8_A8 the first token, which is the prompt, takes {plan_first} times F16's "
        "time, and generation runs at {plan_generate} times its speed. Absolute times of such a machine "
        "say nothing.",
        "벤치마크 계획: `-p 512 -n 128`, 초당 토큰, 첫 토큰, 프롬프트.",
        "실제 llama.cpp에서 SmolLM2-135M으로, 스레드 하나로, 다른 작업이 있는 기계에서 두 파일을 번갈아 "
        "실행했습니다. Q8_A8의 첫 토큰(곧 프롬프트)은 F16의 {plan_first}배 시간이 걸리고, 생성 속도는 "
        "{plan_generate}배입니다. 그런 기계의 절대 시간은 아무것도 말해 주지 않습니다.",
    ),
    row(
        "001",
        "144–151",
        _YES,
        "The plan of a measurement of perplexity, with llama-perplexity.",
        "Run on SmolLM2-135M, 12 windows of 512 tokens of Wikipedia (wikitext-2 is in no package): "
        "{ppl_f16} in F16, {ppl_q8} in Q8_A8.",
        "llama-perplexity로 퍼플렉시티를 재는 계획.",
        "SmolLM2-135M, Wikipedia 512토큰 창 12개에서 실행했습니다(wikitext-2는 어느 패키지에도 "
        "없습니다). F16 {ppl_f16}, Q8_A8 {ppl_q8}입니다.",
    ),
    row(
        "001",
        "154–161",
        _YES,
        "Memory: sizes of files, and resident memory while llama.cpp runs.",
        "In that run the files take {plan_file_f16} and {plan_file_q8} (with `--embedding`: "
        "{plan_saving} less), the process at its peak {plan_rss_f16} and {plan_rss_q8}, "
        "{plan_rss_saving} less: what both need beside the weights does not shrink.",
        "메모리: 파일 크기, 그리고 llama.cpp 실행 중의 상주 메모리.",
        "그 실행에서 파일은 {plan_file_f16}와 {plan_file_q8}이고(`--embedding`으로 {plan_saving} 감소), "
        "프로세스는 최고 {plan_rss_f16}와 {plan_rss_q8}로 {plan_rss_saving} 감소합니다. 가중치 외에 둘 "
        "다 필요한 것은 줄지 않습니다.",
    ),
    row(
        "002",
        "5–9",
        _YES,
        "The linker's error: `get_key<bool>` and `get_key<float>` by string are undefined.",
        "A template that is defined in one source file and used in another, without an instantiation "
        "there. In llama.cpp's own source (that of llama-cpp-python 0.3.36) both are instantiated.",
        "링커 오류: 문자열 키의 `get_key<bool>`과 `get_key<float>`가 정의되지 않았다.",
        "한 소스 파일에서 정의하고 다른 파일에서 쓰면서 인스턴스화하지 않은 템플릿입니다. llama.cpp "
        "자체의 소스(llama-cpp-python 0.3.36의 것)에는 둘 다 인스턴스화되어 있습니다.",
    ),
    row(
        "002",
        "13–24",
        _YES,
        "Five explicit instantiations at the end of the file mend it.",
        "Appended to that source as printed they compile, and all five symbols are defined (g++ 14; "
        "four of them were before). A test links a small program that fails without them.",
        "파일 끝에 명시적 인스턴스화 다섯 개를 넣으면 해결된다.",
        "실린 그대로 그 소스에 덧붙이면 컴파일되고 다섯 기호가 모두 정의됩니다(g++ 14, 넷은 원래 "
        "있었습니다). 테스트는 그것 없이는 실패하는 작은 프로그램을 링크합니다.",
    ),
    row(
        "002",
        "83–88",
        _YES,
        "CMake builds `llama-perplexity`.",
        "`make llama-tools` builds that target from a published source of llama.cpp.",
        "CMake로 `llama-perplexity`를 빌드한다.",
        "`make llama-tools`가 공개된 llama.cpp 소스에서 그 타깃을 빌드합니다.",
    ),
    row(
        "002",
        "96–102",
        _NO,
        "Both tools' outputs are kept in files with `>`.",
        "The commands run; `>` keeps standard output alone, and llama-perplexity writes its result "
        "elsewhere.",
        "두 도구의 출력을 `>`로 파일에 저장한다.",
        "명령은 실행됩니다. `>`는 표준 출력만 저장하는데 llama-perplexity는 결과를 다른 곳에 씁니다.",
    ),
    row(
        "002",
        "151, 173, 174",
        _NO,
        "The goal: half the memory, 2 times the speed, 99 % of the accuracy, once it links.",
        "Memory: {block_saving} less. Accuracy: see 001, line 226. Speed on the x86 CPU at hand: "
        "{bench_pp} times F16's for a prompt and {bench_tg} times for generation.",
        "목표: 링크만 되면 메모리 절반, 속도 2배, 정확도 99 %.",
        "메모리는 {block_saving} 줄어듭니다. 정확도는 001의 226행을 보십시오. 여기의 x86 CPU에서 속도는 "
        "프롬프트에서 F16의 {bench_pp}배, 생성에서 {bench_tg}배입니다.",
    ),
    row(
        "002",
        "176, 177",
        _ONLY,
        "It makes inference in real time possible on mobile devices.",
        "No device is at hand; the sizes are those of 000, line 125.",
        "모바일 장치에서 실시간 추론을 가능하게 한다.",
        "그런 장치가 없습니다. 크기는 000의 125행과 같습니다.",
    ),
)

REST = tuple(claim for claim, _ in _ROWS)
"""The claims, by document and line."""

REST_KOREAN = {(claim.document, claim.lines): korean for claim, korean in _ROWS}
"""Each claim and its finding in Korean, by document and lines."""
