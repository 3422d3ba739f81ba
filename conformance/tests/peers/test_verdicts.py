"""The main job on real kernels: ``q8a8 test`` names what each peer does."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.peers import legs, verdicts
from q8a8_conformance.peers.kernels import DOT, QUANTIZE, QUANTIZE_REF

if TYPE_CHECKING:
    from concurrent.futures import Future

    from q8a8_conformance.peers.legs import Leg
    from q8a8_conformance.peers.results import Verdict

QUANTIZER_RULES = ("Q8A8-QNT-", "Q8A8-HLF-")


@functools.cache
def _runs() -> dict[tuple[str, str], Future[Verdict]]:
    """Start every run, two at a time: most of a run waits for its worker."""
    pool = ThreadPoolExecutor(max_workers=2)
    return {
        (leg.name, profile): pool.submit(verdicts.judge, leg, profile)
        for leg in legs.LEGS
        if leg.judged and not legs.missing(leg)
        for profile in verdicts.PROFILES
    }


def judge(leg: Leg, profile: str) -> Verdict:
    """Return the verdict on a peer, as soon as there is one."""
    return _runs()[leg.name, profile].result()


@pytest.fixture
def judged(leg: Leg) -> Leg:
    """Each peer that is judged."""
    if not leg.judged:
        pytest.skip(f"{leg.title} is compared only")
    return leg


def _explains_all(verdict: Verdict, function: str, cause: str) -> bool:
    explained, of = verdict.causes.get(function, {}).get(cause, (0, 0))
    return explained == of > 0


def test_the_quantizers_recipes_are_named(judged: Leg) -> None:
    """Under the profile `kernel` no ggml quantizer conforms, and the diagnosis names each one's recipe."""
    verdict = judge(judged, "kernel")
    assert verdict.verdict == "does-not-conform"
    assert verdict.status == 1
    for function, recipe in judged.recipes.items():
        assert _explains_all(verdict, function, f"recipe:{recipe}")


def test_the_quantizers_pass_where_their_recipes_are_allowed(judged: Leg) -> None:
    """Under the profile `ggml` every rule of quantization passes."""
    verdict = judge(judged, "ggml")
    assert [rule for rule in verdict.failed if rule.startswith(QUANTIZER_RULES)] == []
    assert verdict.rules["pass"] > 0


def test_the_order_is_named(judged: Leg) -> None:
    """The diagnosis names the order of the dot product; with the sign error it explains every result."""
    if judged.order is None:
        pytest.skip(f"{judged.title} multiplies nothing")
    verdict = judge(judged, "kernel")
    assert f"order:{judged.order}" in verdict.causes[DOT]
    assert _explains_all(verdict, DOT, "minus-128-sign" if judged.name == "x86" else f"order:{judged.order}")


@pytest.mark.parametrize("profile", verdicts.PROFILES)
def test_the_sign_error_is_found_and_named(judged: Leg, profile: str) -> None:
    """The x86 kernel's error with -128 fails its rule and is named; the Arm kernel has none."""
    if judged.order is None:
        pytest.skip(f"{judged.title} multiplies nothing")
    verdict = judge(judged, profile)
    found = "Q8A8-DOT-1" in verdict.failed
    assert found == (judged.name == "x86")
    assert found == ("minus-128-sign" in verdict.causes[DOT])


def test_gguf_py_conforms_where_ggml_does(judged: Leg) -> None:
    """A quantizer alone, with a recipe of ggml: under the profile `ggml` it conforms."""
    if judged.name != "gguf-py":
        pytest.skip("about gguf-py")
    verdict = judge(judged, "ggml")
    assert (verdict.verdict, verdict.status) == ("conforms", 0)
    assert QUANTIZE_REF in verdict.causes or QUANTIZE in verdict.causes
