"""The main job on real kernels: ``q8a8 test`` names what each peer does."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from q8a8_lab.peers import legs, verdicts
from q8a8_lab.peers.kernels import DOT

if TYPE_CHECKING:
    from concurrent.futures import Future

    from q8a8_lab.peers.legs import Leg
    from q8a8_lab.peers.results import Verdict

VALUES = ("--rules", "LAY-*,HLF-*,QNT-*,DEQ-*,DOT-*,ORD-*")
"""What is asked under the profile ``kernel``, and of the peer in Python: rules about memory and environment
are the same in both, and kept by NumPy."""
QUANTIZER_RULES = ("Q8A8-LAY-", "Q8A8-HLF-", "Q8A8-QNT-", "Q8A8-DEQ-")


def _asked(leg: Leg, profile: str) -> tuple[str, ...]:
    return VALUES if profile == "kernel" or leg.name == "gguf-py" else ()


@functools.cache
def _runs() -> dict[tuple[str, str], Future[Verdict]]:
    """Start every run, two at a time: most of a run waits for its worker."""
    pool = ThreadPoolExecutor(max_workers=2)
    return {
        (leg.name, profile): pool.submit(verdicts.judge, leg, profile, _asked(leg, profile))
        for leg in legs.LEGS
        if leg.judged and not legs.missing(leg)
        for profile in verdicts.PROFILES
    }


def judge(leg: Leg, profile: str) -> Verdict:
    """Return the verdict on a peer, as soon as there is one."""
    return _runs()[leg.name, profile].result()


def _explains_all(verdict: Verdict, function: str, cause: str) -> bool:
    explained, of = verdict.causes.get(function, {}).get(cause, (0, 0))
    return explained == of > 0


def test_the_quantizers_recipes_are_named(judged: Leg) -> None:
    """Under the profile `kernel` no ggml quantizer conforms, and the diagnosis names each one's recipe."""
    verdict = judge(judged, "kernel")
    assert (verdict.verdict, verdict.status) == ("does-not-conform", 1)
    for function, recipe in judged.recipes.items():
        assert _explains_all(verdict, function, f"recipe:{recipe}")


def test_the_quantizers_pass_where_their_recipes_are_allowed(judged: Leg) -> None:
    """Under the profile `ggml` every rule of quantization and dequantization passes."""
    verdict = judge(judged, "ggml")
    assert [rule for rule in verdict.failed if rule.startswith(QUANTIZER_RULES)] == []
    assert verdict.rules["pass"] > len(QUANTIZER_RULES)


def test_the_order_is_named(judged_multiplier: Leg) -> None:
    """The diagnosis names the order of the dot product; with the sign error it explains every result."""
    verdict = judge(judged_multiplier, "kernel")
    order = f"order:{judged_multiplier.order}"
    assert order in verdict.causes[DOT]
    assert _explains_all(verdict, DOT, "minus-128-sign" if judged_multiplier.name == "x86" else order)


@pytest.mark.parametrize("profile", verdicts.PROFILES)
def test_the_sign_error_is_found_and_named(judged_multiplier: Leg, profile: str) -> None:
    """The x86 kernel's error with -128 fails its rule and is named; the Arm kernel has none."""
    verdict = judge(judged_multiplier, profile)
    found = "Q8A8-DOT-1" in verdict.failed
    assert found == (judged_multiplier.name == "x86")
    assert found == ("minus-128-sign" in verdict.causes[DOT])


def test_without_an_error_it_conforms(judged: Leg) -> None:
    """Under the profile `ggml` every peer conforms but the one with the sign error."""
    verdict = judge(judged, "ggml")
    expected = ("does-not-conform", 1) if judged.name == "x86" else ("conforms", 0)
    assert (verdict.verdict, verdict.status) == expected
    assert all(rule.startswith(("Q8A8-DOT-", "Q8A8-ORD-")) for rule in verdict.failed)
    for function, recipe in judged.recipes.items():
        assert list(verdict.causes[function]) == [f"recipe:{recipe}"]


def test_nothing_else_is_named(judged_multiplier: Leg) -> None:
    """The causes of the dot product are its order, and the sign error where there is one."""
    order = f"order:{judged_multiplier.order}"
    causes = list(judge(judged_multiplier, "ggml").causes[DOT])
    assert causes == (["minus-128-sign", order] if judged_multiplier.name == "x86" else [order])
