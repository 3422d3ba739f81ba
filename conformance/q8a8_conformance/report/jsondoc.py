"""The report as JSON, for programs: keys are a contract, new ones may come, none goes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from q8a8_conformance.protocol.hello import hello_document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_conformance.results.bound_use import BoundUse
    from q8a8_conformance.results.record import CallData, Record
    from q8a8_conformance.results.run import Finding, Run, Smallest
    from q8a8_conformance.results.setup import Stage

HEX_LIMIT = 4096
"""Bytes of a buffer that are written out in hex; the case's command gives the rest."""

FORMAT = 1


def document(run: Run) -> dict[str, Any]:
    """Return the report as JSON data.

    ``verdict``, ``sut``, ``profile``, ``rules`` (``id``, ``status``, ``cases``, ``failed``, …) and
    ``diagnosis`` (``function``, ``cause``, ``explained``, ``of``, ``fix``, ``detail``) are what scripts bind
    to.
    """
    judgement = run.judgement
    return {
        "format": FORMAT,
        "verdict": judgement.verdict.value,
        "summary": run.summary(),
        "sut": run.request.sut,
        "profile": run.request.profile,
        "symbols": list(run.request.symbols),
        "init": run.request.init,
        "selection": {"rules": run.request.rules, "case": run.request.case},
        "command": run.request.command(),
        "message": run.message,
        "setup": [_stage(stage) for stage in run.setup],
        "complete": run.complete,
        "rules": [{**asdict(rule), "status": rule.status.value} for rule in judgement.rules],
        "diagnosis": [_finding(finding) for finding in run.diagnosis],
        "failures": [_failure(run, record) for record in judgement.failures],
        "known_failures": [_failure(run, record) for record in judgement.known],
        "stale_known_failures": [asdict(entry) for entry in judgement.stale],
        "not_run": run.not_run(),
        "notes": list(run.notes),
        "bound": [_bound(use) for use in run.bound],
        "warnings": [asdict(warning) for warning in run.warnings],
        "kernel": hello_document(run.hello) if run.hello else {},
        "suite": {"version": run.version, "vectors_sha256": run.manifest},
        "timing": {
            "started": run.started,
            "seconds": round(run.seconds, 3),
            "calls": run.calls,
            "call_seconds": round(run.call_seconds, 3),
        },
        "threads": {"overlap_seconds": round(run.overlap_seconds, 6), "stops": run.stops},
    }


def render(run: Run) -> str:
    """Return the report as JSON text."""
    return json.dumps(document(run), indent=1, ensure_ascii=False) + "\n"


def _stage(stage: Stage) -> dict[str, str]:
    return {"stage": stage.name, "status": stage.status.value, "message": stage.message, "hint": stage.hint}


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        **asdict(replace(finding, where={}, evidence=(), smallest=None)),
        "orders": list(finding.orders),
        "smallest": _smallest(finding.smallest),
        "where": dict(finding.where),
        "evidence": [{**_call(shown.call), "text": shown.text} for shown in finding.evidence],
    }


def _smallest(smallest: Smallest | None) -> dict[str, Any] | None:
    if smallest is None:
        return None
    call = smallest.call
    return {
        "function": call.function,
        "args": dict(call.args),
        "inputs": _hex(call.inputs),
        "expected": _hex(call.expected),
        "actual": _hex(call.actual),
        "text": smallest.text,
    }


def _hex(buffers: Mapping[str, bytes]) -> dict[str, str]:
    return {name: data.hex() for name, data in buffers.items()}


def _failure(run: Run, record: Record) -> dict[str, Any]:
    return {
        "rule": record.rule,
        "case": record.case,
        "function": record.function,
        "status": record.status.value,
        "message": record.message,
        "again": run.again(record),
        "evidence": _call(record.call) if record.call else None,
    }


def _call(call: CallData) -> dict[str, Any]:
    return {
        "function": call.function,
        "args": dict(call.args),
        "inputs": _buffers(call.inputs),
        "expected": _buffers(call.expected),
        "actual": _buffers(call.actual),
    }


def _bound(use: BoundUse) -> dict[str, Any]:
    """Round the fractions to six digits: enough for any plot."""
    return {**asdict(use), "fractions": [round(fraction, 6) for fraction in use.fractions]}


def _buffers(buffers: Mapping[str, bytes]) -> dict[str, Any]:
    return {name: {"length": len(data), "hex": data[:HEX_LIMIT].hex()} for name, data in buffers.items()}
