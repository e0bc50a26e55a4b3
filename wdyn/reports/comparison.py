"""How do several runs compare, in tables that have a column for each?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis.analyzer import TOGETHER
from wdyn.reports.numbers import Table, cell

if TYPE_CHECKING:
    from wdyn.analysis.machinery import Answer

_ROWS = 20
_NUMBERS = {
    "rank": "rank",
    "score": "{metric}, median of the last {last}",
    "metric_first": "{metric}, first",
    "metric_last": "{metric}, last",
    "metric_lowest": "{metric}, lowest",
    "silent_after": "{metric} silent after step",
    "steps": "last step",
    "group": "group of equal settings",
    "same_start": "same first weights as the first run",
    "moved_in_all": "change of all weights / first norm",
}


def comparisons(answers: Iterable[Answer]) -> tuple[Table, ...]:
    """Write what an analyzer of several runs at once measured; nothing where none was asked, or it was skipped."""
    return tuple(
        table
        for answer in answers
        if TOGETHER in answer.held.attrs and not answer.skipped and "score" in answer.result
        for table in _tables(answer.result)
    )


def content(answers: Iterable[Answer]) -> dict[str, Any] | None:
    """Give the same for programs: every variable that is not along a curve, as `xarray.Dataset.to_dict` has it."""
    for answer in answers:
        if TOGETHER in answer.held.attrs and not answer.skipped:
            return answer.result.drop_dims("at", errors="ignore").to_dict()
    return None


def _tables(result: xr.Dataset) -> Iterator[Table]:
    """Lay out what there is; a setting is words, the rest numbers."""
    order = result[["rank"]].sortby("rank")[schema.RUN].values.tolist()
    ranked = result.sel({schema.RUN: order})
    yield _table("The runs, the lowest first", ranked, dict(_about(ranked)))
    told = ranked["settings"].isel(setting=np.flatnonzero(ranked["differs"].values))
    settings = _table("Settings that differ", ranked, _rows(told, "setting"))
    yield replace(settings, numeric=(False,) * len(settings.columns))
    yield _table("Last values of what was logged", ranked, _rows(ranked["final"], "logged"))
    if "moved" in ranked:
        yield _table("Change of the weights / first norm, by role", ranked, _rows(ranked["moved"], "role"))


def _about(ranked: xr.Dataset) -> Iterator[tuple[str, list[str]]]:
    for name, words in _NUMBERS.items():
        if name not in ranked or (name == "silent_after" and (ranked[name] < 0).all()):
            continue
        values = ["–" if name == "silent_after" and value < 0 else cell(value) for value in ranked[name].values]
        yield words.format(**ranked.attrs), values


def _rows(values: xr.DataArray, dim: str) -> dict[str, list[str]]:
    return {
        str(label): [cell(value) for value in values.sel({dim: label}).values.tolist()]
        for label in values[dim].values.tolist()
    }


def _table(caption: str, ranked: xr.Dataset, rows: Mapping[str, list[str]]) -> Table:
    labels = tuple(map(str, ranked[schema.RUN].values.tolist()))
    left_out = f", the first {_ROWS} of {len(rows)} rows" if len(rows) > _ROWS else "" if rows else ": none"
    listed = tuple((name, *cells) for name, cells in rows.items())[:_ROWS]
    return Table(caption + left_out, ("", *labels), listed, (False, *[True] * len(labels)))
