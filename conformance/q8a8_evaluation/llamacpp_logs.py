"""Read what llama.cpp's own tools print: llama-perplexity and llama-bench.

Formats as of llama.cpp in llama-cpp-python 0.3.36 (`tools/perplexity/perplexity.cpp`: `perplexity()`;
`tools/llama-bench/llama-bench.cpp`: `markdown_printer`, `json_printer`, `jsonl_printer`, `csv_printer`), and
the older forms without a time in front of a line. Document 002 searched these outputs for text that is not in
them, and printed None; here, what does not match is refused, with what was looked for.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import dataclass
from typing import Any

__all__ = [
    "BenchRow",
    "LogError",
    "PerplexityLog",
    "is_bench_output",
    "is_perplexity_log",
    "parse_bench",
    "parse_perplexity",
]

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|nan|inf)"
_ESTIMATE = re.compile(rf"Final estimate: PPL = ({_NUMBER}) \+/- ({_NUMBER})")
_CHUNK = re.compile(rf"\[(\d+)\]({_NUMBER}),")
_SETUP = re.compile(r"calculating perplexity over (\d+) chunks, n_ctx=(\d+)")
_COLUMNS = ("model", "size", "params", "backend", "threads", "test", "t/s")
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_COUNTS = {"K": 10**3, "M": 10**6, "B": 10**9}


class LogError(ValueError):
    """An output is not what the tool is known to print; the text names the file and what is missing."""


@dataclass(frozen=True)
class PerplexityLog:
    """The figures that llama-perplexity printed.

    Attributes
    ----------
    perplexity, error
        The final estimate and its standard error (over tokens), as printed: four and five decimals.
    running
        The running estimates, one a chunk.
    n_ctx
        Tokens of a chunk; 0 where the log does not say.
    """

    perplexity: float
    error: float
    running: tuple[float, ...]
    n_ctx: int

    def chunk_log_likelihoods(self) -> tuple[float, ...]:
        """Return each chunk's mean negative log-likelihood, recovered from the running estimates.

        The estimate after i chunks is the exponential of the mean of their means (every chunk counts the same
        number of tokens), so chunk i has i·ln p_i − (i − 1)·ln p_(i−1). The estimates have four decimals:
        what is recovered is off by up to (2i − 1)·5·10⁻⁵/p.
        """
        sums = [index * math.log(estimate) for index, estimate in enumerate(self.running, 1)]
        return tuple(after - before for before, after in zip([0.0, *sums], sums, strict=False))


@dataclass(frozen=True)
class BenchRow:
    """One test of llama-bench.

    Attributes
    ----------
    model, backend, test
        As printed: `llama 1B Q8_0`, `CPU`, `pp512` (a prompt of 512 tokens) or `tg128` (128 generated).
    size, parameters
        Bytes of the tensors, and weights. In a table they have two decimals of MiB and of millions.
    threads
        Threads; 0 where the output does not say.
    tokens_per_second, deviation
        Mean and standard deviation of the repetitions.
    """

    model: str
    size: int
    parameters: int
    backend: str
    threads: int
    test: str
    tokens_per_second: float
    deviation: float


def is_perplexity_log(text: str) -> bool:
    """Return whether a text is, or was to be, llama-perplexity's output."""
    return bool(_ESTIMATE.search(text) or _SETUP.search(text) or re.search(r"^\[1\]\d", text, re.MULTILINE))


def is_bench_output(text: str) -> bool:
    """Return whether a text is llama-bench's output in one of the forms that are read here."""
    return bool(
        re.search(r"^\|\s*model\s*\|\s*size\s*\|", text, re.MULTILINE)
        or re.match(r"\s*\[?\s*\{\s*\"build_commit\"", text)
        or text.startswith("build_commit,")
    )


def parse_perplexity(text: str, name: str) -> PerplexityLog:
    """Read llama-perplexity's output, both its streams.

    Parameters
    ----------
    text
        The output.
    name
        What errors call it: the file.

    Raises
    ------
    LogError
        There is not exactly one final estimate, it is no positive number, or chunks are missing.
    """
    found = _ESTIMATE.findall(text)
    running = tuple(float(value) for _, value in _CHUNK.findall(text))
    if not found and running:
        raise LogError(
            f"{name}: {len(running)} chunks and no `Final estimate: PPL = …`: it goes to the standard error, "
            f"and was not kept, or the run did not finish; run llama-perplexity … > {name} 2>&1"
        )
    if len(found) != 1:
        raise LogError(f"{name}: {len(found)} lines `Final estimate: PPL = … +/- …`; one is expected")
    perplexity, error = (float(value) for value in found[0])
    if not (math.isfinite(perplexity) and perplexity > 0 and math.isfinite(error)):
        raise LogError(f"{name}: the final estimate is {found[0][0]} +/- {found[0][1]}")
    setup = _SETUP.search(text)
    numbers = [int(index) for index, _ in _CHUNK.findall(text)]
    expected = int(setup[1]) if setup else len(numbers)
    if numbers != list(range(1, expected + 1)):
        raise LogError(f"{name}: {len(numbers)} chunks are numbered {_few(numbers)}, of {expected}")
    if running and abs(running[-1] - perplexity) > 1e-4:
        raise LogError(f"{name}: the last chunk says {running[-1]}, the final estimate {perplexity}")
    return PerplexityLog(perplexity, error, running, int(setup[2]) if setup else 0)


def parse_bench(text: str, name: str) -> tuple[BenchRow, ...]:
    """Read llama-bench's output: its table, or what `-o json`, `-o jsonl` or `-o csv` print.

    Parameters
    ----------
    text
        The output.
    name
        What errors call it: the file.

    Raises
    ------
    LogError
        It is none of these, lacks a column or a row, or a speed is no positive number.
    """
    try:
        if text.lstrip().startswith("["):
            rows = [_record(each) for each in json.loads(text)]
        elif text.lstrip().startswith("{"):
            rows = [_record(json.loads(line)) for line in text.splitlines() if line.strip()]
        elif text.startswith("build_commit,"):
            rows = [_record(each) for each in csv.DictReader(io.StringIO(text))]
        else:
            rows = _table(text)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LogError(f"{name}: not the output of llama-bench: {type(error).__name__}: {error}") from error
    if not rows:
        raise LogError(f"{name}: no row of llama-bench's: a table with the columns {', '.join(_COLUMNS)}")
    for row in rows:
        if not (math.isfinite(row.tokens_per_second) and row.tokens_per_second > 0):
            raise LogError(f"{name}: {row.test} of {row.model}: {row.tokens_per_second} tokens a second")
    return tuple(rows)


def _few(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:4])) + (", …" if len(numbers) > 4 else "") or "not at all"


def _record(values: dict[str, Any]) -> BenchRow:
    """Read one test of the forms that name every field."""
    prompt, generated, depth = (int(values[key]) for key in ("n_prompt", "n_gen", "n_depth"))
    if prompt and generated:
        test = f"pp{prompt}+tg{generated}"
    else:
        test = f"pp{prompt}" if prompt else f"tg{generated}"
    return BenchRow(
        model=values["model_type"],
        size=int(values["model_size"]),
        parameters=int(values["model_n_params"]),
        backend=values["backends"],
        threads=int(values["n_threads"]),
        test=test + (f" @ d{depth}" if depth else ""),
        tokens_per_second=float(values["avg_ts"]),
        deviation=float(values["stddev_ts"]),
    )


def _table(text: str) -> list[BenchRow]:
    """Read the table; its columns vary with what was asked for, their names do not."""
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("|")]
    header, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines] or [[]]
    absent = [column for column in _COLUMNS if column not in header and column != "threads"]
    if absent:
        raise ValueError(f"no column {', '.join(absent)}")
    rows = []
    for cells in body:
        if all(set(cell) <= set("-: ") for cell in cells):
            continue
        if len(cells) != len(header):
            raise ValueError(f"{len(cells)} cells under {len(header)} columns")
        values = dict(zip(header, cells, strict=True))
        speed, deviation = re.fullmatch(rf"({_NUMBER}) ± ({_NUMBER})", values["t/s"]).groups()  # type: ignore[union-attr] # no match: AttributeError, which says that this is no llama-bench table
        size, unit = values["size"].split()
        parameters, thousands = values["params"].split()
        rows.append(
            BenchRow(
                model=values["model"],
                size=round(float(size) * _UNITS[unit]),
                parameters=round(float(parameters) * _COUNTS[thousands]),
                backend=values["backend"],
                threads=int(values.get("threads", 0)),
                test=values["test"],
                tokens_per_second=float(speed),
                deviation=float(deviation),
            )
        )
    return rows
