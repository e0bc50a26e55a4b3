"""How does a report read to a program?

::

    {"format": 1,
     "worst": "WARNING" | null,
     "runs": [{source, label, model, names, values, steps, rows, snapshots, attempts, closed, seconds, capture_seconds,
             disk_bytes, lost_rows, lost_snapshots, blocks}],
     "findings": [{code, severity, message, advice, reproduce, evidence}],
     "answers": [{analyzer, family, question, skipped, remedy, codes}]}

``evidence`` is what `xarray.Dataset.to_dict` gives; its values are left out where they are more than 1,000. JSON has no
word for NaN and infinity: they are the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, never null.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from wdyn.findings import Finding

if TYPE_CHECKING:
    from wdyn.analysis.machinery import Answer
    from wdyn.reports.report import Report

FORMAT = 1
"""Version of the keys. A key may be added; one that is there keeps its meaning."""

_LONGEST_EVIDENCE = 1000


def render(report: Report) -> str:
    """Write a report as JSON."""
    content = {
        "format": FORMAT,
        "worst": None if report.worst is None else str(report.worst),
        "runs": [asdict(run) for run in report.runs],
        "findings": [_finding(finding) for finding in report.findings],
        "answers": [_answer(answer) for answer in report.answers],
    }
    return json.dumps(_plain(content), indent=2, allow_nan=False)


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "severity": str(finding.severity),
        "message": finding.message,
        "advice": finding.advice,
        "reproduce": finding.reproduce,
        "evidence": _evidence(finding.evidence),
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "analyzer": answer.analyzer.name,
        "family": answer.analyzer.family,
        "question": answer.analyzer.question,
        "skipped": answer.skipped,
        "remedy": answer.remedy,
        "codes": [finding.code for finding in answer.findings],
    }


def _evidence(evidence: xr.Dataset) -> dict[str, Any]:
    count = sum(variable.size for variable in evidence.variables.values())
    return evidence.to_dict(data="list" if count <= _LONGEST_EVIDENCE else False)


def _plain(value: object) -> object:
    """Replace what JSON cannot say."""
    match value:
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case np.generic() | np.ndarray():
            return _plain(value.tolist())
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case str() | int() | float() | None:
            return value
        case _:
            return str(value)
