"""The words for a step of a quantizer's arithmetic that is another one: its rule, sentence, fix and cause."""

from __future__ import annotations

from q8a8_conformance.diagnosis.facts import words

LARGEST_CODE = 127

STEP_RULES = {
    "amax": "Q8A8-QNT-1", "scale": "Q8A8-QNT-2", "half": "Q8A8-HLF-1", "divisor": "Q8A8-QNT-2",
    "floor": "Q8A8-QNT-6", "ceiling": "Q8A8-HLF-4", "infinite_from": "Q8A8-HLF-4", "inverse": "Q8A8-QNT-3",
    "multiplier": "Q8A8-QNT-3", "zero_test": "Q8A8-QNT-3", "product": "Q8A8-QNT-4", "rounding": "Q8A8-QNT-4",
    "conversion": "Q8A8-QNT-5", "zero_scale": "Q8A8-QNT-6",
    "inverse_limit": "Q8A8-QNT-3", "code_limits": "Q8A8-QNT-5",
}  # fmt: skip
"""The rule that each step of a recipe belongs to."""

STEP_FIXES = {
    "Q8A8-QNT-1": "Take max |x_j| over all elements that share the scale.",
    "Q8A8-QNT-2": "Store f16(f32(amax / 127)).",
    "Q8A8-HLF-1": "Round the scale to the nearest half, ties to even, and keep subnormal halves.",
    "Q8A8-HLF-2": "Keep subnormal halves: store the nearest half, however small.",
    "Q8A8-HLF-4": "Keep every scale below 65520 finite, as the nearest half.",
    "Q8A8-QNT-3": "Multiply by f32(127 / amax), and by 0 where the stored half is 0.",
    "Q8A8-QNT-4": "Round f32(x * inv) to the nearest integer, halves away from zero.",
    "Q8A8-QNT-5": "Convert the rounded product to int8 as it is: it lies in -127 .. 127.",
    "Q8A8-QNT-6": "Store f16(amax / 127) however small, and +0 for a block of zeros.",
}

STEP_CAUSES: dict[tuple[str, str], str] = {
    ("amax", "largest"): "amax-signed",
    ("amax", "minus-smallest"): "amax-of-negative",
    ("amax", "upper-sixteen-bits"): "amax-in-sixteen-bits",
    ("scale", "amax*(1/n)"): "scale-reciprocal",
    ("scale", "upper-sixteen-bits"): "scale-through-bf16",
    ("divisor", "128.0"): "scale-of-128",
    ("divisor", "127.5"): "scale-of-127-5",
    ("floor", "1.1920928955078125e-07"): "scale-floor",
    ("ceiling", "57344.0"): "half-saturates-early",
    ("infinite_from", "65504.0"): "half-infinite-early",
    ("half", "truncated"): "half-truncated",
    ("half", "ties-up"): "half-ties-up",
    ("half", "up"): "half-rounded-up",
    ("half", "subnormals-truncated"): "half-subnormals-truncated",
    ("half", "subnormals-flushed"): "half-flushed-on-write",
    ("half", "bfloat16"): "half-stored-as-bfloat16",
    ("half", "integer"): "scale-as-integer",
    ("inverse", "1/d"): "inverse-of-d",
    ("inverse", "1/half"): "inverse-of-half",
    ("inverse", "x/d"): "division-by-d",
    ("inverse", "127*(1/amax)"): "inverse-in-two-steps",
    ("inverse", "127/amax-truncated"): "inverse-truncated",
    ("inverse", "127/amax-ulp-low"): "inverse-ulp-low",
    ("inverse", "127/amax-ulp-high"): "inverse-ulp-high",
    ("inverse", "127/amax-estimated"): "inverse-estimated",
    ("inverse", "127/amax-in-half"): "inverse-in-half",
    ("inverse", "127/amax-in-double"): "inverse-in-double",
    ("zero_test", "d"): "zero-test-on-d",
    ("zero_test", "amax"): "zero-test-on-amax",
    ("zero_test", "none"): "no-zero-test",
    ("zero_test", "rounded-d"): "half-flushed-late",
    ("product", "float64"): "product-in-double",
    ("rounding", "half-even"): "round-half-even",
    ("rounding", "half-up"): "round-half-up",
    ("rounding", "half-toward-zero"): "round-half-down",
    ("rounding", "add-half"): "round-add-half",
    ("rounding", "truncate"): "round-truncate",
    ("rounding", "floor"): "round-floor",
    ("conversion", "lowest-128"): "lowest-code",
    ("zero_scale", "one"): "zero-block-scale-one",
    ("zero_scale", "signed"): "zero-scale-signed",
}
"""The catalogue's names of steps: measured first, named here."""

STEP_WORDS = {
    "floor": "The scale that is stored is never less than {}.",
    "ceiling": "The scale that is stored is never greater than {}.",
    "inverse_limit": "The inverse is never greater than {}: in smaller blocks codes are too small.",
    "code_limits": "Codes are clipped to {}.",
}
"""What a step does, where its name and value do not say it."""


VALUE_WORDS = {
    ("half", "carry-lost"): "Where the scale's fraction is rounded up past its end, the exponent is not "
    "raised: the scale is half of what it should be.",
    ("rounding", "truncate-add-half"): "Codes are x · inv + 0.5 without its fraction: negative products are "
    "not rounded to the nearest.",
    ("rounding", "floor-add-half"): "Codes are floor(x · inv + 0.5), with the sum in float32: halves go up.",
    ("rounding", "offset-add-half"): "Codes are x · inv + 128.5 in float32 without its fraction, less 128: "
    "halves go up, and so does what the sum rounds to a half.",
    ("rounding", "ceil"): "Products are rounded up to the next integer.",
    ("conversion", "magnitude"): "Codes are stored without their sign.",
    ("product", "float64"): "The product x · inv is formed in double.",
}
"""What a step does, by its value."""


FUSED = words(
    "The exact product x · inv is rounded to an integer, halves to even, not to float32 before: so does a "
    "fused multiply-add of a magic number, or a product in double.",
    rule="Q8A8-QNT-4",
    fix="Multiply in float32, then round halves away from zero: no fused multiply-add, no magic number.",
)
"""The words for a product in double and halves to even, which are one mistake together."""


def limits_rule(low: int, high: int) -> str:
    """Return the rule that limits of codes break: the range, or else what the code should be."""
    return "Q8A8-QNT-4" if low >= -LARGEST_CODE and high <= LARGEST_CODE else "Q8A8-QNT-5"


def named_step(step: str, value: str, right: str) -> tuple[str, str, str, str]:
    """Return the words of a step that is another one."""
    if cause := STEP_CAUSES.get((step, value), ""):
        return words(cause=cause)
    rule = STEP_RULES[step]
    sentence = VALUE_WORDS.get((step, value)) or STEP_WORDS.get(
        step, f"The step {step} is {{}}, not {right}."
    )
    if step == "code_limits":
        low, high = value.strip("()").split(", ")
        value, rule = f"{low} to {high}", limits_rule(int(low), int(high))
    return words(sentence.format(value), rule=rule, fix=STEP_FIXES[STEP_RULES[step]])
