"""With which settings were runs made, in which do they differ, and which are repeats of each other?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis.compare_runs_curves import LR, Logged
from wdyn.reading.curves import is_rate
from wdyn.reading.tables import parameters

SETTING = "setting"
_RATES = (LR, "initial_lr", "parameters")
"""Of the optimizer's own settings: the rate is told by its curve, and the parameters by their table."""


def settings(runs: Mapping[str, xr.DataTree], each: Mapping[str, Logged]) -> xr.DataArray:
    """Write every recorded setting of every run as text, "" where a run has no such: (run, setting)."""
    starts = [one.steps[-1] for one in each.values() if one.steps.size]
    common = min(starts) if starts else 0
    told = {label: dict(_of_run(run, each[label], common)) for label, run in runs.items()}
    names = list(dict.fromkeys(name for one in told.values() for name in one))
    text = np.array([[one.get(name, "") for name in names] for one in told.values()], dtype=np.str_)
    return xr.DataArray(text, {schema.RUN: list(told), SETTING: np.array(names, dtype=np.str_)}, (schema.RUN, SETTING))


def differing(told: xr.DataArray) -> xr.DataArray:
    """Say which settings are not the same in all runs: (setting), bool."""
    return (told != told.isel({schema.RUN: 0}, drop=True)).any(schema.RUN)


def repeats(told: xr.DataArray) -> npt.NDArray[np.int64]:
    """Number the runs by their settings, from 0: those with one number are repeats of one another, (run)."""
    rows = [tuple(row) for row in told.transpose(schema.RUN, SETTING).values.tolist()]
    number = {row: at for at, row in enumerate(dict.fromkeys(rows))}
    return np.array([number[row] for row in rows], dtype=np.int64)


def _of_run(run: xr.DataTree, logged: Logged, common: int) -> Iterator[tuple[str, str]]:
    about = run.attrs.get(schema.ATTRIBUTES, {})
    yield "model", str(about.get("model", ""))
    yield from _of_parameters(parameters(run))
    optimizers = about.get("optimizers", [])
    yield "optimizer", " + ".join(str(one.get("name", "")) for one in optimizers)
    yield from _of_groups([group for one in optimizers for group in one.get("groups", [])])
    for name, curve in logged.curves.items():
        if is_rate(name):
            yield name, _course(curve.where(curve[schema.STEP] <= common, drop=True))
    for name, version in (about.get("attempts") or [{}])[-1].get("versions", {}).items():
        yield f"version of {name}", str(version)


def _of_parameters(table: xr.Dataset) -> Iterator[tuple[str, str]]:
    own = table.isel({schema.PARAMETER: np.flatnonzero(table["tied_to"].values == "")})
    yield "parameters", f"{table.sizes[schema.PARAMETER]}"
    yield "values", f"{int(own['numel'].sum()):,}"
    yield "trainable values", f"{int(own['numel'].where(own['trainable'], 0).sum()):,}"
    yield "layers", f"{len(set(table['layer'].values[table['layer'].values >= 0].tolist()))}"
    yield "tied names", f"{int((table['tied_to'] != '').sum())}"
    yield "dtype", ", ".join(sorted(set(own["dtype"].values.tolist())))


def _of_groups(groups: list[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Name each setting once where all groups have it alike, else once for each group."""
    yield "parameter groups", str(len(groups))
    for name in dict.fromkeys(name for group in groups for name in group if name not in _RATES):
        values = [str(group.get(name, "")) for group in groups]
        if len(set(values)) == 1:
            yield name, values[0]
        else:
            yield from ((f"{name}, group {at}", value) for at, value in enumerate(values))


def _course(rate: xr.DataArray) -> str:
    """Write the course of a learning rate over the steps that all runs have: its sum tells what its ends do not."""
    known = rate.values[~np.isnan(rate.values)]  # none was used before the first step
    if not known.size:
        return ""
    if (known == known[0]).all():
        return f"{known[0]:.6g}"
    return f"{known[0]:.4g} to {known[-1]:.4g}, highest {known.max():.4g}, mean {known.mean():.6g}"
