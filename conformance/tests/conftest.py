"""What all tests share: how Hypothesis searches, and what a missing tool means."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from q8a8_lab.evaluation import assets

if TYPE_CHECKING:
    from collections.abc import Callable

# `nohup` and a shell's `&` start processes that ignore signals, and so would every process of a test.
for _signal, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, _handler)

CI = bool(os.environ.get("CI"))

settings.register_profile("dev", deadline=None)
# The same examples in every run: a change that fails is the change that broke it.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
# For `make quick`: a fifth of the examples.
settings.register_profile("quick", deadline=None, max_examples=20)
settings.load_profile("ci" if CI else os.environ.get("HYPOTHESIS_PROFILE", "dev"))


LONGEST = (
    *("lab/mutation/test_gate.py", "lab/mutation/test_native.py", "lab/peers/test_verdicts.py"),
    *(
        "docs/test_browser.py",
        "native/test_devices.py",
        "suite/test_command.py",
        "suite/test_real_kernels.py",
    ),
    *("diagnosis/test_quantizer_facts.py", "diagnosis/test_experiments.py", "diagnosis/test_mistakes.py"),
    *("lab/mutation/test_native_legal.py", "evaluation/test_perplexity_real.py", "golden/test_files.py"),
    *("evaluation/test_bench_model.py", "llama/test_llama_real.py", "ggufio/test_quantize.py"),
)
"""Files that take longest."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files: the last one to begin is one that a process alone ends soon."""
    tests = Path(__file__).parent
    places = {tests / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def need() -> Callable[[object, str], None]:
    """Return a function that ends a test where what it needs is missing.

    ``need(condition, why)``: with a false condition the test is skipped on a developer's machine, and
    fails where CI is set: there every leg must run.
    """

    def check(condition: object, why: str) -> None:
        if not condition:
            (pytest.fail if CI else pytest.skip)(why)

    return check


def _fetched(asset: Callable[[], Path]) -> Path:
    try:
        return asset()
    except assets.AssetUnavailableError as error:
        (pytest.fail if CI else pytest.skip)(str(error))


@pytest.fixture(scope="session")
def real_model() -> Path:
    """Return the path of SmolLM2-135M-Instruct, a GGUF file of 98 MB; never written to."""
    return _fetched(assets.model)


@pytest.fixture(scope="session")
def wikipedia() -> Path:
    """Return the path of a part of a Wikipedia dump, as bzip2-compressed XML."""
    return _fetched(assets.wikipedia)


@pytest.fixture(scope="session")
def korean() -> Path:
    """Return the path of a Korean text."""
    return _fetched(assets.korean)


@pytest.fixture(scope="session")
def news() -> Path:
    """Return the path of a corpus of news, one article a line."""
    return _fetched(assets.news)
