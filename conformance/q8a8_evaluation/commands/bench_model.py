"""``q8a8 bench-model``: how fast a model runs in each scheme, and what it takes.

::

    q8a8 bench-model MODEL.gguf --scheme q8_a8,w8a16 --prompt 128 --generate 16 [--llama-cpp] [--json FILE]
    q8a8 bench-model MODEL.gguf --kernel native --threads 2 --llama-cpp

The float scheme is always measured, and every speed is given as a ratio to it too: the schemes take turns,
round by round, so that what else the machine does falls on all. Each runs in a process of its own, with one
BLAS thread. These are times of the reference, in NumPy: they say what the reference costs, not what a kernel
could gain; resident memory, too, is the reference's, which keeps what it dequantizes. ``--kernel`` adds
a row for the scheme q8_a8 with a C kernel's products, ``--llama-cpp`` a real llama.cpp on the file as it is;
``--threads`` is for both.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from q8a8.atomic import write_text
from q8a8.errors import ArgumentError, Q8A8Error
from q8a8.schemes.scheme import get_scheme
from q8a8.schemes.table import SCHEMES
from q8a8_conformance.commands.options import OK, refuse
from q8a8_conformance.files.arrays import FileError
from q8a8_conformance.results.record import count
from q8a8_evaluation.bench_model_child import prompt_tokens
from q8a8_evaluation.child import Child, ChildError
from q8a8_evaluation.commands.shared import require_writable
from q8a8_evaluation.llamacpp import LlamaCpp, LlamaCppError
from q8a8_evaluation.memory_status import resident_bytes
from q8a8_evaluation.native import NO_KERNEL, add_kernel_options, find_kernel, takes_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.commands.options import Subparsers

__all__ = ["BenchModelError", "By", "add_parser", "collect", "run", "text"]

FORMAT = 1
PEER = "llama.cpp"


class BenchModelError(RuntimeError):
    """A measuring process failed; the message is what it printed last."""


class By(NamedTuple):
    """What multiplies: a kernel, as for `q8a8_evaluation.native.find_kernel`, and its number of threads."""

    kernel: str = NO_KERNEL
    threads: int = 1


class Runner(Protocol):
    """Something that takes its turn in a round."""

    def round(self) -> dict[str, Any]:
        """Read the prompt, generate, and give the times."""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``bench-model``."""
    parser = subparsers.add_parser(
        "bench-model",
        help="time a model in each scheme",
        description="Time the NumPy reference of a Llama model in each scheme: tokens a second for prompt "
        "and generation, time to the first token, resident memory, bytes of the weights. Medians of "
        "interleaved rounds; ratios are speeds over the float scheme's.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--scheme", default="q8_a8", metavar="NAME[,NAME...]", help="[default: %(default)s]")
    parser.add_argument(
        "--prompt", type=_count, default=128, metavar="N", help="tokens [default: %(default)s]"
    )
    parser.add_argument(
        "--generate", type=_count, default=16, metavar="N", help="tokens [default: %(default)s]"
    )
    parser.add_argument("--rounds", type=_rounds, default=3, metavar="N", help="[default: %(default)s]")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="what `q8a8 calibrate` wrote, for schemes that need it",
    )
    parser.add_argument(
        "--llama-cpp", action="store_true", help="time a real llama.cpp too, on the file as it is"
    )
    add_kernel_options(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    parser.set_defaults(func=run)


def _count(word: str) -> int:
    value = int(word)
    if value < 2:
        raise ValueError("expected at least 2: the first token's time is the prompt's")
    return value


def _rounds(word: str) -> int:
    value = int(word)
    if value < 1:
        raise ValueError("expected at least 1")
    return value


def run(options: Any) -> int:  # noqa: ANN401  (argparse's namespace)
    """Measure, print, write the JSON file; return the exit status."""
    schemes = ["float", *(name for name in options.scheme.split(",") if name != "float")]
    try:
        if options.json:
            require_writable(options.json)
        figures = collect(
            options.model,
            schemes,
            prompt=options.prompt,
            generate=options.generate,
            rounds=options.rounds,
            calibration=options.calibration,
            llama_cpp=options.llama_cpp,
            by=By(options.kernel, options.threads),
        )
        if options.json:
            write_text(json.dumps(figures, indent=2) + "\n", options.json)
    except (BenchModelError, FileError, LlamaCppError, Q8A8Error, OSError) as error:
        return refuse(error)
    sys.stdout.write(text(figures))
    return OK


class SchemeRunner:
    """A process with one scheme's model.

    Parameters
    ----------
    name
        The scheme's, for errors.
    child
        The process, `q8a8_evaluation.bench_model_child`.
    """

    def __init__(self, name: str, child: Child) -> None:
        self._name, self._child = name, child

    def loaded(self) -> dict[str, Any]:
        """Wait until the model is loaded, and return what was."""
        with self._named():
            return self._child.read()[0]

    def round(self) -> dict[str, Any]:
        """Run one round, and return its times."""
        with self._named():
            return self._child.ask()[0]

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the scheme in an error, which ends with the last line that the process printed, if any."""
        try:
            yield
        except ChildError as error:
            last = [error.reason, *error.printed.strip().splitlines()][-1]
            raise BenchModelError(f"{self._name}: {last}") from error


class Peer:
    """A real llama.cpp on the same prompt; it is its own process."""

    def __init__(self, model: LlamaCpp, prompt: Sequence[int], generate: int) -> None:
        self._model, self._prompt, self._generate = model, prompt, generate

    def round(self) -> dict[str, Any]:
        """Read the prompt once, then prompt and generation; the difference is the generation's."""
        started = time.perf_counter()
        self._model.generate(self._prompt, 1)
        first = time.perf_counter()
        self._model.generate(self._prompt, self._generate)
        ended = time.perf_counter()
        seconds = first - started
        return {
            "first_token_seconds": seconds,
            "generate_seconds": max(ended - first - seconds, sys.float_info.min),
            "cache_bytes": None,
            "resident_bytes": resident_bytes(self._model.status),
        }


def collect(
    model: Path,
    schemes: Sequence[str],
    *,
    prompt: int,
    generate: int,
    rounds: int,
    calibration: Path | None = None,
    llama_cpp: bool = False,
    by: By | None = None,
) -> dict[str, Any]:
    """Measure.

    Parameters
    ----------
    model
        A GGUF file.
    schemes
        Names; the first is what ratios are to.
    prompt, generate
        Tokens read at once, and tokens generated one by one; the first of these is the prompt's.
    rounds
        How often each takes its turn.
    calibration
        What `q8a8 calibrate` wrote.
    llama_cpp
        Whether a real llama.cpp is timed too.
    by
        A C kernel, with which each scheme that it can multiply for is timed, too, as "SCHEME, KERNEL"; and
        the threads of it and of llama.cpp. The reference has one.

    Returns
    -------
    dict
        `format`, `model`, `file_bytes`, `prompt`, `generate`, `rounds`, `threads`, and `schemes`: for each
        its name, the medians of `first_token_seconds`, `prompt_tokens_per_second`,
        `generate_tokens_per_second`, their ratios to the first scheme's (`prompt_ratio`, `generate_ratio`:
        medians of the rounds' ratios), `resident_bytes`, `cache_bytes`, `weight_bytes`, `weight_bits`, and
        `stored_bytes`, what a file with the scheme's weights and the other tensors as they are would hold.

    Raises
    ------
    UnknownNameError, ArgumentError
        No such scheme, or one that needs a calibration.
    BenchModelError, LlamaCppError, OSError
        A process failed, or the file cannot be read.
    """
    for name in schemes:
        if get_scheme(name, SCHEMES).needs_calibration and calibration is None:
            raise ArgumentError(f"{name}: this scheme needs a calibration, and none is given")
    file_bytes = model.stat().st_size
    kernel, threads = by or By()
    contestants = {name: (name, NO_KERNEL) for name in schemes}
    if kernel != NO_KERNEL:
        by_name = find_kernel(kernel).name
        able = [name for name in schemes if takes_kernel(get_scheme(name, SCHEMES))]
        contestants |= {f"{name}, {by_name}": (name, kernel) for name in able}
    request = {
        "model": str(model),
        "prompt": prompt,
        "generate": generate,
        "calibration": str(calibration) if calibration else None,
    }
    with ExitStack() as stack:
        runners: dict[str, Runner] = {}
        loaded: dict[str, dict[str, Any]] = {}
        for name, (scheme_name, multiplier) in contestants.items():
            child = stack.enter_context(
                Child(
                    "q8a8_evaluation.bench_model_child",
                    {**request, "scheme": scheme_name, "kernel": multiplier, "threads": threads},
                )
            )
            runners[name] = scheme = SchemeRunner(name, child)
            # One after the other: loading is not timed against another's loading.
            loaded[name] = scheme.loaded()
        if llama_cpp:
            peer = stack.enter_context(LlamaCpp(model, n_ctx=prompt + generate, threads=threads))
            runners[PEER] = Peer(peer, prompt_tokens(prompt, peer.n_vocab), generate)
            loaded[PEER] = {
                "weight_bytes": None,
                "stored_bytes": file_bytes,
                "weight_bits": None,
                "load_seconds": None,
            }
        times: dict[str, list[dict[str, Any]]] = {name: [] for name in runners}
        for _ in range(rounds):
            for name, runner in runners.items():
                times[name].append(runner.round())
    first = times[schemes[0]]
    return {
        "format": FORMAT,
        "kind": "bench-model",
        "model": model.name,
        "file_bytes": file_bytes,
        "prompt": prompt,
        "generate": generate,
        "rounds": rounds,
        "threads": threads,
        "schemes": [
            {"scheme": name, **_figures(times[name], first, prompt, generate), **loaded[name]}
            for name in runners
        ],
    }


def _figures(
    mine: list[dict[str, Any]], first: list[dict[str, Any]], prompt: int, generate: int
) -> dict[str, Any]:
    """Return one scheme's medians, and those of its ratios round by round."""

    def median(key: str) -> float:
        return float(statistics.median(each[key] for each in mine))

    def ratio(key: str) -> float:
        return float(statistics.median(b[key] / a[key] for a, b in zip(mine, first, strict=True)))

    return {
        "first_token_seconds": median("first_token_seconds"),
        "prompt_tokens_per_second": prompt / median("first_token_seconds"),
        "generate_tokens_per_second": (generate - 1) / median("generate_seconds"),
        "prompt_ratio": ratio("first_token_seconds"),
        "generate_ratio": ratio("generate_seconds"),
        "resident_bytes": mine[-1]["resident_bytes"],
        "cache_bytes": mine[-1]["cache_bytes"],
    }


_COLUMNS = {
    "scheme": 24,
    "prompt t/s": 11,
    "ratio": 7,
    "gen t/s": 9,
    " ratio": 7,
    "first s": 9,
    "file MB": 9,
    "bits": 6,
    "resident MB": 13,
}


def text(figures: dict[str, Any]) -> str:
    """Return the figures for a reader."""
    lines = [
        f"{figures['model']}, {figures['file_bytes'] / 1e6:.1f} MB, {_threads(figures['threads'])}.",
        f"A prompt of {count(figures['prompt'], 'token')}, {figures['generate']} generated.",
        f"Medians of {count(figures['rounds'], 'interleaved round')}; ratios are speeds over float's.",
        "",
        "  " + "".join(f"{title:>{width}}" for title, width in _COLUMNS.items()),
    ]
    for each in figures["schemes"]:
        cells = (
            _cell(each["stored_bytes"], 1e6, 9),
            _cell(each["weight_bits"], 1, 6),
            _cell(each["resident_bytes"], 1e6, 13),
        )
        lines.append(
            f"  {each['scheme']:>24}{each['prompt_tokens_per_second']:>11.1f}{each['prompt_ratio']:>7.2f}"
            f"{each['generate_tokens_per_second']:>9.1f}{each['generate_ratio']:>7.2f}"
            f"{each['first_token_seconds']:>9.2f}{''.join(cells)}"
        )
    return "\n".join(lines) + "\n"


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads of the kernel and of llama.cpp, one of NumPy"


def _cell(value: float | None, unit: float, width: int) -> str:
    return f"{'' if value is None else f'{value / unit:.1f}':>{width}}"
