"""What does a run hold, and how long did it take? Counted, for its card."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.reading.joining import split_runs
from wdyn.reports.outline import outline
from wdyn.reports.summary import Attempt, Summary
from wdyn.store.lineage import parent
from wdyn.store.lock import holder
from wdyn.store.reader import PATH


def summaries(run: xr.DataTree) -> tuple[Summary, ...]:
    """Count what a run holds, or each of several that were joined."""
    if schema.RUN not in run[schema.PARAMETERS].dims:
        return (summarize(run),)
    return tuple(replace(summarize(one), label=label) for label, one in split_runs(run).items())


def summarize(run: xr.DataTree) -> Summary:
    """Count what one run holds."""
    about = run.attrs.get(schema.ATTRIBUTES, {})
    lost = about.get("lost", {})
    source = str(run.attrs.get(PATH, ""))
    parameters = run[schema.PARAMETERS].to_dataset()
    steps = _steps(run)
    return Summary(
        source=source,
        model=str(about.get("model", "")),
        names=parameters.sizes[schema.PARAMETER],
        values=_values(parameters),
        steps=(steps[0], steps[-1]) if steps else (),
        rows={name: node.sizes.get(schema.STEP, 0) for name, node in _children(run, schema.STATISTICS).items()},
        snapshots=len(_snapshots(run)),
        attempts=_attempts(run, about.get("attempts", ({},))),
        closed=bool(about.get("closed", True)),
        writer=holder(Path(source)) if source else "",
        seconds=_seconds(run),
        capture_seconds=_sum_of(run, "capture_seconds"),
        write_seconds=_sum_of(run, "write_seconds"),
        disk_bytes=disk_bytes(source),
        lost_rows=int(lost.get("rows", 0)),
        lost_snapshots=int(lost.get("snapshots", 0)),
        blocks=outline(parameters),
        scalars=_scalars(run),
    )


def disk_bytes(source: str) -> int:
    """Size of all files below a folder; -1 when there is none."""
    return _bytes_below(source) if source and Path(source).is_dir() else -1


def _bytes_below(folder: str) -> int:
    # A long run has a hundred thousand files: what the folder tells of each is enough.
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += _bytes_below(entry.path)
            elif entry.is_file():
                total += entry.stat().st_size
    return total


def _attempts(run: xr.DataTree, told: Sequence[Mapping[str, Any]]) -> tuple[Attempt, ...]:
    states = run[schema.STATES].to_dataset() if schema.STATES in run.children else xr.Dataset()
    by = states[schema.ATTEMPT].values if schema.ATTEMPT in states.variables else np.array([])
    found = []
    for number, one in enumerate(told):
        own = states[schema.STEP].values[by == number].tolist() if by.size else []
        step = int(one.get("resumed_from_step", -1))
        attempt = Attempt(
            number=number,
            resumed_from_step=step,
            started=str(one.get("started", "")),
            parent=int(one.get("parent", parent(told[:number], step))),
            host=str(one.get("host", "")),
            versions={str(name): str(version) for name, version in one.get("versions", {}).items()},
            steps=(own[0], own[-1]) if own else (),
            pruned=int(one.get("pruned", 0)),
        )
        found.append(attempt)
    return tuple(found)


def _children(run: xr.DataTree, group: str) -> dict[str, xr.DataTree]:
    return {str(name): node for name, node in run[group].children.items()} if group in run.children else {}


def _values(parameters: xr.Dataset) -> int:
    names = parameters[schema.PARAMETER].values
    own = [tied in ("", name) for name, tied in zip(names, parameters["tied_to"].values, strict=True)]
    return int(parameters["numel"].values[own].sum())


def _snapshots(run: xr.DataTree) -> set[int]:
    return set().union(*(_recorded(node) for node in _children(run, schema.WEIGHTS).values()))


def _steps(run: xr.DataTree) -> list[int]:
    return sorted(set().union(*(_recorded(node) for node in run.subtree)))


def _recorded(node: xr.DataTree) -> list[int]:
    steps: list[int] = node.coords[schema.STEP].values.tolist() if schema.STEP in node.coords else []
    return steps


def _scalars(run: xr.DataTree) -> xr.Dataset:
    return run[schema.SCALARS].to_dataset() if schema.SCALARS in run.children else xr.Dataset()


def _scalar(run: xr.DataTree, name: str) -> xr.DataArray:
    return _scalars(run).get(name, xr.DataArray(np.array([]), dims=schema.STEP))


def _seconds(run: xr.DataTree) -> float:
    """How long the run took: every attempt from when its block was entered, which its first row waited for."""
    clock = _scalar(run, "wall_time").dropna(schema.STEP, how="all")
    if not clock.size:
        return float("nan")
    entering = _scalar(run, "capture_seconds")
    entering = entering.fillna(0.0).reindex_like(clock) if entering.size else xr.zeros_like(clock)
    attempts = clock.coords.get(schema.ATTEMPT, xr.zeros_like(clock))
    # Between two attempts nobody trained: that time does not count.
    own = [np.flatnonzero(attempts.values == number) for number in np.unique(attempts.values)]
    return float(sum(np.ptp(clock.values[at]) + entering.values[at[0]] for at in own))


def _sum_of(run: xr.DataTree, name: str) -> float:
    # A step without the value spent nothing; without any, the sum is not known.
    return float(_scalar(run, name).sum(min_count=1))
