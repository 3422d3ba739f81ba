"""Encode cases as JSON and decode them.

One entry of a file may be for several functions of the same signature (``quantize_row_q8_a8`` and its
``_ref`` must give the same bytes, Q8A8-QNT-8): it is stored once and loaded as one case each, with different
last parts of the id. Kills are stored for each function: a mutant may be wrong in only one of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from q8a8_golden import segments
from q8a8_golden.cases import FUNCTIONS, Bound, Case, DotResult, Exact, Outcome, Unspecified, Written
from q8a8_golden.edges import Edges

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from q8a8_golden.cases import Outputs

__all__ = ["FORMAT", "from_json", "to_json"]

FORMAT: Final = 2
"""The version of the files' format, incremented by incompatible changes."""

_SUFFIX: Final = {"quantize_row_q8_a8": "row", "quantize_row_q8_a8_ref": "row-ref"}
_ID: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*(/[a-z0-9]+(-[a-z0-9]+)*)+")


def to_json(case: Case, kills: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the JSON object of a case; `kills` has the slugs for each of its functions."""
    document: dict[str, Any] = {
        "id": case.id,
        "functions": list(kills),
        "rules": list(case.rules),
        "why": case.why,
        "args": dict(case.args),
        "inputs": {name: segments.encode(data) for name, data in case.inputs.items()},
        "outputs": dict(case.outputs),
    }
    if case.before:
        document["before"] = {name: segments.encode(data) for name, data in case.before.items()}
    document["outcome"] = _outcome_to_json(case.outcome)
    document["kills"] = {function: list(slugs) for function, slugs in kills.items()}
    return document


def _outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Exact):
        document: dict[str, Any] = {"kind": "exact", "written": _written_to_json(outcome.outputs)}
        if outcome.alternatives:
            document["alternatives"] = {
                name: _written_to_json(outputs) for name, outputs in outcome.alternatives.items()
            }
        return document
    if isinstance(outcome, Bound):
        results = [
            {
                "offset": r.offset,
                "scalar": f"{r.bits:08x}",
                "exact": str(r.exact),
                "magnitude": str(r.magnitude),
                "m": r.m,
                "inside": [f"{bits:08x}" for bits in r.edges.inside],
                "outside": [f"{bits:08x}" for bits in r.edges.outside],
            }
            for r in outcome.results
        ]
        return {"kind": "bound", "results": results}
    return {"kind": "unspecified"}


def _written_to_json(outputs: Outputs) -> dict[str, Any]:
    return {
        name: [{"offset": run.offset, "bytes": segments.encode(run.data)} for run in runs]
        for name, runs in outputs.items()
    }


def from_json(document: Mapping[str, Any]) -> list[Case]:
    """Decode the cases of one JSON object; ValueError, KeyError or TypeError if it is malformed."""
    identity = document["id"]
    if not isinstance(identity, str) or not _ID.fullmatch(identity):
        raise ValueError(f"{identity!r} is not an id")
    functions = document["functions"]
    cases = []
    for name in functions:
        function = FUNCTIONS[name]
        inputs = {key: segments.decode(document["inputs"][key]) for key in function.inputs}
        outputs = {key: int(document["outputs"][key]) for key in function.outputs}
        outcome = _outcome_from_json(document["outcome"], outputs)
        before = {key: segments.decode(runs) for key, runs in document.get("before", {}).items()}
        for key, data in before.items():
            if len(data) != outputs.get(key):
                raise ValueError(f"before the call {key} holds {len(data)} bytes, it has {outputs.get(key)}")
        cases.append(
            Case(
                id=f"{identity}/{_SUFFIX[name]}" if len(functions) > 1 else identity,
                function=name,
                rules=tuple(document["rules"]),
                why=document["why"],
                args={key: int(number) for key, number in document["args"].items()},
                inputs=inputs,
                outputs=outputs,
                outcome=outcome,
                before=before,
                kills=_slugs(document["kills"][name]),
            )
        )
    if not cases:
        raise ValueError("the case names no function")
    return cases


def _slugs(names: object) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{names!r:.80} is not a list of slugs")
    return tuple(names)


def _outcome_from_json(document: Mapping[str, Any], lengths: Mapping[str, int]) -> Outcome:
    kind = document["kind"]
    if kind == "exact":
        alternatives = document.get("alternatives", {})
        return Exact(
            outputs=_written_from_json(document["written"], lengths),
            alternatives={name: _written_from_json(runs, lengths) for name, runs in alternatives.items()},
        )
    if kind == "bound":
        ((name, length),) = lengths.items()
        return Bound(tuple(_result_from_json(result, name, length) for result in document["results"]))
    if kind == "unspecified":
        return Unspecified()
    raise ValueError(f"{kind!r} is not a kind of outcome")


def _written_from_json(document: Mapping[str, Any], lengths: Mapping[str, int]) -> Outputs:
    if set(document) != set(lengths):
        raise ValueError(f"the outcome names {sorted(document)}, the buffers are {sorted(lengths)}")
    outputs = {}
    for name, runs in document.items():
        written = tuple(Written(int(run["offset"]), segments.decode(run["bytes"])) for run in runs)
        end = 0
        for run in written:
            if run.offset < end or run.offset + len(run.data) > lengths[name]:
                raise ValueError(
                    f"a run at offset {run.offset} of {name} overlaps another, or leaves the buffer"
                )
            end = run.offset + len(run.data)
        outputs[name] = written
    return outputs


def _result_from_json(document: Mapping[str, Any], name: str, length: int) -> DotResult:
    result = DotResult(
        offset=int(document["offset"]),
        bits=int(document["scalar"], 16),
        exact=int(document["exact"]),
        magnitude=int(document["magnitude"]),
        m=int(document["m"]),
        edges=Edges(_pair(document["inside"]), _pair(document["outside"])),
    )
    if not 0 <= result.offset <= length - 4:
        raise ValueError(f"a result at offset {result.offset} leaves {name}, which has {length} bytes")
    return result


def _pair(patterns: Sequence[str]) -> tuple[int, int]:
    below, above = (int(bits, 16) for bits in patterns)
    return below, above
