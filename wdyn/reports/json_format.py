"""How does a report read to a program?

::

    {"format": 1,
     "worst": "WARNING" | null,
     "runs": [{source, label, model, names, values, steps, rows, snapshots,
               attempts: [{number, resumed_from_step, started, parent, host, versions, steps, pruned}],
               closed, writer, seconds, capture_seconds, write_seconds, disk_bytes, lost_rows, lost_snapshots, blocks,
               scalars: [{name, count, first, last, min, max, silent_after, spark}]}],
     "findings": [{code, severity, message, advice, reproduce, evidence}],
     "answers": [{analyzer, family, question, skipped, remedy, codes}],
     "comparison": {coords, attrs, dims, data_vars} | null}

What ``wdyn info`` writes has ``format source model run storage parameters``: ``run`` is one of the ``runs`` above (null
for a model that is no run), ``storage`` is ``{disk_bytes, dtypes: [{dtype, values, nbytes, disk_bytes}], groups,
snapshots}`` (null where nothing is on disk), ``parameters`` the whole table, a list with one object of all columns for
each name.

`Summary`, `Attempt` and `Logged` of this package say what the keys of a run mean: ``resumed_from_step`` is -1 for an
attempt that began anew, ``writer`` is "" unless a process writes the run at this moment.

``comparison`` is what `wdyn.compare_runs` says of joined runs, as `xarray.Dataset.to_dict` gives it, without what lies
along curves. ``evidence`` is the same of a finding (``coords attrs dims data_vars``), with a ``note``: "" where it is
whole. Of more than 1,000 values the first and the last step are kept, then as many labels of the longest other
dimension as fit, and the note says so. JSON has no word for NaN and infinity: they are the strings ``"NaN"``,
``"Infinity"`` and ``"-Infinity"``, never null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.findings import Finding
from wdyn.reports.comparison import content as comparison
from wdyn.reports.logged import logged
from wdyn.reports.storage import Storage
from wdyn.reports.summary import Summary

if TYPE_CHECKING:
    from wdyn.analysis.machinery import Answer
    from wdyn.reports.report import Report

FORMAT = 1
"""Version of the keys. A key may be added; one that is there keeps its meaning."""

_LONGEST_EVIDENCE = 1000
_JSON_COLUMNS = {"shape", "dims", "parts"}


def render(report: Report) -> str:
    """Write a report as JSON."""
    content = {
        "format": FORMAT,
        "worst": None if report.worst is None else str(report.worst),
        "runs": [_run(run) for run in report.runs],
        "findings": [_finding(finding) for finding in report.findings],
        "answers": [_answer(answer) for answer in report.answers],
        "comparison": comparison(report.answers),
    }
    return written(content)


def table(
    parameters: xr.Dataset, *, source: str = "", run: Summary | None = None, storage: Storage | None = None
) -> str:
    """Write a table of parameters as JSON, with the card of the run that it is of, and what takes its room."""
    content = {
        "format": FORMAT,
        "source": source,
        "model": run.model if run else parameters.attrs.get("model", ""),
        "run": _run(run) if run else None,
        "storage": asdict(storage) if storage else None,
        "parameters": list(_rows(parameters)),
    }
    return written(content)


def written(content: object) -> str:
    """Write anything that a result consists of as JSON; NaN and infinity become strings."""
    return json.dumps(_plain(content), indent=2, allow_nan=False)


def _run(run: Summary) -> dict[str, Any]:
    told = asdict(replace(run, scalars=xr.Dataset()))
    return told | {"scalars": [asdict(one) for one in logged(run.scalars)]}


def _rows(parameters: xr.Dataset) -> Iterator[dict[str, Any]]:
    columns = {str(name): values.values.tolist() for name, values in parameters.data_vars.items()}
    for name in columns.keys() & _JSON_COLUMNS:
        columns[name] = [json.loads(text) if text else None for text in columns[name]]
    for name, *values in zip(parameters[schema.PARAMETER].values.tolist(), *columns.values(), strict=True):
        yield {"name": name, **dict(zip(columns, values, strict=True))}


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
    cut, notes = evidence, []
    if _count(cut) > _LONGEST_EVIDENCE and cut.sizes.get(schema.STEP, 0) > 2:
        notes.append(f"the first and the last of {cut.sizes[schema.STEP]} steps")
        cut = cut.isel({schema.STEP: [0, -1]})
    while (count := _count(cut)) > _LONGEST_EVIDENCE and (cut.sizes[longest := _longest(cut)]) > 1:
        size = cut.sizes[longest]
        cut = cut.isel({longest: slice(max(1, size * _LONGEST_EVIDENCE // count))})
        notes.append(f"the first {cut.sizes[longest]} of {size} along {longest}")
    return {**cut.to_dict(), "note": ", ".join(notes)}


def _count(evidence: xr.Dataset) -> int:
    return sum(variable.size for variable in evidence.data_vars.values())


def _longest(evidence: xr.Dataset) -> Hashable:
    """Name the dimension to cut: the first and the last step stay."""
    sizes = {dim: size for dim, size in evidence.sizes.items() if dim != schema.STEP} or evidence.sizes
    return max(sizes, key=lambda dim: sizes[dim])


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
