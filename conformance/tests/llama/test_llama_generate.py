"""Generation: the distribution that a token is sampled from, sampling, and the sequence."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.errors import ArgumentError
from q8a8.llama import FloatCache, Model, ModelError, generate, probabilities
from q8a8.llama.generate import sample

if TYPE_CHECKING:
    from tests.llama.conftest import Tiny

INF = float("inf")


def test_equal_logits_are_equally_probable() -> None:
    """Exactly, at any temperature."""
    for temperature in (1e-300, 0.5, 1.0, 1e6):
        assert probabilities(np.full(8, 3.5), temperature=temperature).tolist() == [0.125] * 8


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_logits_of_known_weights(temperature: float) -> None:
    """Logits ln 1, ln 3, ln 4, at temperature 1/2 the squares of the weights, at 2 their roots."""
    weights = [1, 3, 4]
    got = probabilities(np.log(np.array(weights, np.float64)), temperature=temperature)
    expected = [weight ** (1 / temperature) for weight in weights]
    # A logarithm and a division off by an ulp each, times the exponent (at most 2 · ln 4 < 3); then an
    # exponential, two sums, a quotient, and as much in the expectation.
    bound = 20 * 2.0**-53
    for share, weight in zip(got, expected, strict=True):
        assert share == pytest.approx(weight / math.fsum(expected), rel=bound, abs=0)


def test_small_temperature_is_greedy_without_overflow() -> None:
    """1000 / 10^−300 would be infinite: the largest logit still has everything."""
    assert probabilities(np.array([1000.0, 999.0, -1000.0]), temperature=1e-300).tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"top_k": 1}, [0, 1, 0, 0, 0]),
        ({"top_k": 2}, [0, Fraction(1, 2), 0, Fraction(1, 2), 0]),
        ({"top_k": 3}, [Fraction(1, 4), Fraction(3, 8), 0, Fraction(3, 8), 0]),
        ({"top_k": 99}, [Fraction(1, 5), Fraction(3, 10), Fraction(1, 10), Fraction(3, 10), Fraction(1, 10)]),
        ({"top_p": 0.25}, [0, 1, 0, 0, 0]),
        ({"top_p": 0.45}, [0, Fraction(1, 2), 0, Fraction(1, 2), 0]),
        ({"top_p": 0.7}, [Fraction(1, 4), Fraction(3, 8), 0, Fraction(3, 8), 0]),
        ({"top_k": 2, "top_p": 0.45}, [0, 1, 0, 0, 0]),
        (
            {"top_p": 1.0},
            [Fraction(1, 5), Fraction(3, 10), Fraction(1, 10), Fraction(3, 10), Fraction(1, 10)],
        ),
    ],
)
def test_limits(limits: dict[str, float], expected: list[Fraction]) -> None:
    """Weights 2, 3, 1, 3, 1: of equals the first stays; top p is of what top k has left."""
    got = probabilities(np.log(np.array([2.0, 3.0, 1.0, 3.0, 1.0])), **limits)  # type: ignore[arg-type]  # by name
    for share, exact in zip(got, expected, strict=True):
        # As above; a token that was left out has exactly nothing.
        assert share == pytest.approx(float(exact), rel=20 * 2.0**-53, abs=0)


def test_top_p_that_is_just_reached() -> None:
    """Four equal tokens: a half needs two of them, and anything more a third."""
    quarter = np.zeros(4)
    assert probabilities(quarter, top_p=0.5).tolist() == [0.5, 0.5, 0, 0]
    assert np.count_nonzero(probabilities(quarter, top_p=math.nextafter(0.5, 1))) == 3
    assert np.count_nonzero(probabilities(quarter, top_p=math.nextafter(0.5, 0))) == 2


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": INF}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_p": float("nan")}, "top_p"),
    ],
)
def test_limits_are_checked(limits: dict[str, float], name: str) -> None:
    """What is outside its range is refused by name."""
    with pytest.raises(ArgumentError, match=f"^{name}: "):
        probabilities(np.zeros(3), **limits)  # type: ignore[arg-type]  # by name


def test_sample_takes_each_share_and_nothing_else() -> None:
    """The share of a token is half open; one without a share is never sampled, at either end."""
    shares = np.array([0, 0.25, 0, 0.5, 0.25, 0])
    below = 1 - 2.0**-53
    sampled = {u: sample(shares, u) for u in (0.0, math.nextafter(0.25, 0), 0.25, 0.74, 0.75, below)}
    assert list(sampled.values()) == [1, 1, 3, 3, 4, 4]


def test_sample_stays_inside_where_shares_sum_to_less_than_one() -> None:
    """Rounding may leave a sum below 1: the largest u still selects the last token that has a share."""
    shares = np.array([0.1] * 9 + [0.0999999, 0.0])
    assert sample(shares, 1 - 2.0**-53) == 9


def test_greedy_takes_the_largest_each_time(tiny: Tiny) -> None:
    """Each token is the largest logit of a model that sees all before it, without a cache."""
    model = Model(tiny.config, tiny.weights)
    text = list(tiny.tokens)
    for token in generate(model, tiny.tokens, 8):
        logits = model.forward(text)[-1]
        first, second = np.sort(logits)[:-3:-1]
        # Far more apart than two orders of summation: see the model's tests.
        assert first - second > 1e-3
        assert token == int(np.argmax(logits))
        text.append(token)
    assert len(text) == len(tiny.tokens) + 8


def test_sampling_is_what_its_seed_says(tiny: Tiny) -> None:
    """One seed gives one text; its first token is sampled from the distribution by the first number."""
    model = Model(tiny.config, tiny.weights)
    options = {"temperature": 3.0, "top_k": 40, "top_p": 0.9}
    texts = [list(generate(model, tiny.tokens, 12, seed=seed, **options)) for seed in (1, 1, 2)]  # type: ignore[arg-type]  # by name
    assert texts[0] == texts[1] != texts[2]
    share = probabilities(model.forward(tiny.tokens, logits_from=-1)[0], **options)  # type: ignore[arg-type]  # by name
    u = np.random.default_rng(1).random()
    assert texts[0][0] == int(np.flatnonzero(np.cumsum(share) > u)[0])
    assert all(share[text[0]] > 0 for text in texts)


def test_top_one_is_greedy(tiny: Tiny) -> None:
    """With one token left, sampling is greedy at any temperature."""
    model = Model(tiny.config, tiny.weights)
    sampled = generate(model, tiny.tokens, 6, temperature=5.0, top_k=1, seed=4)
    assert list(sampled) == list(generate(model, tiny.tokens, 6))


def test_given_cache_holds_what_came_before(tiny: Tiny) -> None:
    """Half of the text in the cache already: the same continuation; every token but the last is in it."""
    model = Model(tiny.config, tiny.weights)
    cache = FloatCache(tiny.config, 32)
    model.forward(tiny.tokens[:6], cache, logits_from=-1)
    made = list(generate(model, tiny.tokens[6:], 5, cache=cache))
    assert made == list(generate(model, tiny.tokens, 5))
    assert len(cache) == len(tiny.tokens) + 4


def test_tokens_come_one_by_one(tiny: Tiny) -> None:
    """Who stops asking costs nothing more; nothing at all is asked for with n = 0."""
    model = Model(tiny.config, tiny.weights)
    cache = FloatCache(tiny.config, 32)
    assert len(list(islice(generate(model, tiny.tokens, 20, cache=cache), 2))) == 2
    assert len(cache) == len(tiny.tokens) + 1
    assert list(generate(model, tiny.tokens, 0)) == []


def test_wrong_arguments_are_refused_at_the_first_token(tiny: Tiny) -> None:
    """No text before, or a temperature below zero."""
    model = Model(tiny.config, tiny.weights)
    with pytest.raises(ModelError, match="one or more integers"):
        next(generate(model, [], 3))
    with pytest.raises(ArgumentError, match="temperature"):
        next(generate(model, [1], 3, temperature=-1.0))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [np.nan, INF, -INF])
def test_logits_that_say_nothing_are_refused(tiny: Tiny, temperature: float, value: float) -> None:
    """A weight that is no number shows in the logits, greedy or sampled: the token is named."""
    head = 100 * np.ones((300, 64), np.float32)
    head[123] = value

    def linear(x: np.ndarray) -> np.ndarray:
        return np.broadcast_to(head[:, 0], (len(x), 300))

    linear.weight_bytes, linear.activation_bits = 0, 32.0  # type: ignore[attr-defined]  # a function may have them
    model = Model(tiny.config, tiny.weights, linears={"output.weight": linear})  # type: ignore[dict-item]  # as said
    with pytest.raises(ArgumentError, match=f"logits: that of token 123 is {value}"):
        next(generate(model, [1], 1, temperature=temperature))
