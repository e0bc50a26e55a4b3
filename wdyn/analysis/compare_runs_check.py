"""Which runs differ in a setting, went wrong, or are the same run twice?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis.evidence import sel_line
from wdyn.findings import Finding, Severity
from wdyn.naming import examples

CODES = {
    "CMP001": "The runs differ in settings.",
    "CMP002": "A run diverged: its metric is NaN, or far above that of the others.",
    "CMP003": "Two runs are the same, bit for bit.",
}

_SHOWN = 8  # settings that a sentence may list


def check(result: xr.Dataset, *, factor: float = 3.0) -> Iterator[Finding]:
    """Judge what `compare_runs` measured.

    Parameters
    ----------
    result
        From `compare_runs`.
    factor
        How many times the median score of the other runs one may have; more, and it diverged if it also ended above
        its own first value.
    """
    yield from _settings(result)
    yield from _diverged(result, factor)
    yield from _twins(result)


def _settings(result: xr.Dataset) -> Iterator[Finding]:
    names = result["setting"].values[result["differs"].values].tolist()
    if not names:
        return
    words = [f"{name} ({_values(result['settings'].sel(setting=name))})" for name in names]
    noun = "setting" if len(names) == 1 else "settings"
    yield Finding(
        "CMP001",
        Severity.INFO,
        f"The runs differ in {len(names)} {noun}: {_listed(words)}",
        result[["settings"]].sel(setting=names),
        "What is not meant to differ here makes the comparison one of several things at once.",
        _line(result, "settings", setting=names),
    )


def _values(setting: xr.DataArray) -> str:
    """Write each value with the runs that have it: ``0.1 in a, b; 0.2 in c``."""
    runs: dict[str, list[str]] = {}
    for label, value in zip(setting[schema.RUN].values.tolist(), setting.values.tolist(), strict=True):
        runs.setdefault(value or "none", []).append(label)
    return "; ".join(f"{value} in {examples(labels)}" for value, labels in runs.items())


def _listed(words: list[str]) -> str:
    more = f"; and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return "; ".join(words[:_SHOWN]) + more


def _diverged(result: xr.Dataset, factor: float) -> Iterator[Finding]:
    metric = result.attrs["metric"]
    for at, label in enumerate(result[schema.RUN].values.tolist()):
        one = result.isel({schema.RUN: at})
        silent, score = int(one["silent_after"]), float(one["score"])
        others = np.delete(result["score"].values, at)
        usual = float(np.median(others[np.isfinite(others)])) if np.isfinite(others).any() else np.nan
        if silent >= 0:
            words = f"its {metric} is NaN or not logged after step {silent}, though recording went on"
        elif np.isinf(score):
            words = f"its {metric} is infinite at the end"
        elif usual > 0 and score > factor * usual and score > float(one["metric_first"]):
            words = f"its {metric} rose to {score:.3g}, {score / usual:.3g} times that of the others ({usual:.3g})"
        else:
            continue
        names = ["metric_first", "metric_last", "metric_lowest", "score", "silent_after", "rank"]
        yield Finding(
            "CMP002",
            Severity.WARNING,
            f"The run {label} diverged: {words}",
            result[names].isel({schema.RUN: [at]}),
            "Look at its learning rate, its clipping and its data; leave it out of means over runs.",
            _line(result, repr(names), run=[label]),
        )


def _twins(result: xr.Dataset) -> Iterator[Finding]:
    labels, twins = result[schema.RUN].values.tolist(), result["twin"].values.tolist()
    alike = [label for label, twin in zip(labels, twins, strict=True) if twin]
    if not alike:
        return
    pairs = examples(f"{label} is {twin}" for label, twin in zip(labels, twins, strict=True) if twin)
    yield Finding(
        "CMP003",
        Severity.WARNING,
        f"The same run more than once, by the statistics of its weights bit for bit: {pairs}",
        result[["twin", "same_start"]].sel({schema.RUN: alike}),
        "Was the same seed used, or the same folder given twice? As repeats they say nothing about chance.",
        _line(result, "twin", run=alike),
    )


def _line(result: xr.Dataset, name: str, **labels: list[str]) -> str:
    """Write the line that measures again, as it was asked for."""
    defaults = {"on": "step", "metric": "loss", "last": 5}
    given = [f"{key}={result.attrs[key]!r}" for key, usual in defaults.items() if result.attrs[key] != usual]
    call = f"wdyn.compare_runs({', '.join(['run', *given])})"
    return sel_line(f"{call}.{name}" if name.isidentifier() else f"{call}[{name}]", where="", **labels)
