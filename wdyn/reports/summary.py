"""What was recorded, and what did recording cost?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from markupsafe import escape

from wdyn import schema
from wdyn.reading.joining import split_runs
from wdyn.reports.escaping import visible
from wdyn.reports.outline import Block, outline
from wdyn.store.lineage import parent
from wdyn.store.lock import holder
from wdyn.store.reader import PATH


@dataclass(frozen=True)
class Attempt:
    """One time that recording began.

    Attributes
    ----------
    number
        0 for the first.
    resumed_from_step
        The step after which it continued; -1 at the start.
    started
        When, in the time of its machine, with the offset from UTC; "" when unknown.
    parent
        The number of the attempt whose rows it continues; -1 at the start.
    host
        The machine; "" when unknown.
    versions
        Of python, torch and wdyn.
    steps
        First and last of its rows that no later attempt superseded; empty when there is none.
    pruned
        Count of its superseded rows that were deleted.
    """

    number: int = 0
    resumed_from_step: int = -1
    started: str = ""
    parent: int = -1
    host: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    steps: tuple[int, ...] = ()
    pruned: int = 0


@dataclass(frozen=True)
class Summary:
    """The card of a run.

    Attributes
    ----------
    source
        Where it lies; "" when it was never on disk.
    label
        What it is called among joined runs; "" when it is alone.
    model
        Class name of the model.
    names, values
        Count of parameters by name, and of distinct elements (a tied weight counts once).
    steps
        First and last recorded step; empty when nothing was.
    rows
        Rows of statistics by quantity.
    snapshots
        Steps with exact weights.
    attempts
        Each time that recording began.
    closed
        Whether it ended in order; false also while it goes on.
    writer
        The process that writes it at this moment; "" when none does.
    seconds
        Time from the first row to the last, summed over attempts; NaN when unknown.
    capture_seconds
        How long the training waited for recording; NaN when unknown.
    write_seconds
        How long the writer worked beside the training; NaN when unknown.
    disk_bytes
        Size of its files; -1 when unknown.
    lost_rows, lost_snapshots
        What could not be written.
    blocks
        What the model is made of.
    scalars
        What was logged: the group ``scalars``, read when it is needed.
    """

    source: str = ""
    label: str = ""
    model: str = ""
    names: int = 0
    values: int = 0
    steps: tuple[int, ...] = ()
    rows: dict[str, int] = field(default_factory=dict)
    snapshots: int = 0
    attempts: tuple[Attempt, ...] = (Attempt(),)
    closed: bool = True
    writer: str = ""
    seconds: float = float("nan")
    capture_seconds: float = float("nan")
    write_seconds: float = float("nan")
    disk_bytes: int = -1
    lost_rows: int = 0
    lost_snapshots: int = 0
    blocks: tuple[Block, ...] = ()
    scalars: xr.Dataset = field(default_factory=xr.Dataset, repr=False, compare=False)

    @property
    def title(self) -> str:
        """What to call it: its label, else the name of its folder, else of its model."""
        return self.label or Path(self.source).name or self.model or "run"

    def _repr_html_(self) -> str:
        told = {escape(visible(name)): escape(visible(said)) for name, said in facts(self).items()}
        lines = (f"<tr><th>{name}</th><td>{said}</td></tr>" for name, said in told.items())
        return f"<table><caption>{escape(visible(self.title))}</caption>{''.join(lines)}</table>"


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
    if not source or not Path(source).is_dir():
        return -1
    return sum(file.stat().st_size for file in Path(source).rglob("*") if file.is_file())


def facts(summary: Summary) -> dict[str, str]:
    """Say the card in words, one line each; what is unknown is left out."""
    lines = {
        "Model": f"{summary.model or 'unnamed'}, {summary.names} parameters, {summary.values:,} values",
        "Steps": "–".join(map(str, dict.fromkeys(summary.steps))) or "none recorded",
        "Rows": ", ".join(f"{count} of {name}" for name, count in summary.rows.items()) or "none",
        "Snapshots": str(summary.snapshots),
        "Attempts": _began(summary),
    }
    if not np.isnan(summary.seconds):
        lines["Duration"] = duration(summary.seconds)
    if not np.isnan(summary.capture_seconds):
        lines["Cost"] = _cost(summary)
    if summary.disk_bytes >= 0:
        lines["On disk"] = size(summary.disk_bytes)
    if summary.lost_rows or summary.lost_snapshots:
        lines["Lost"] = f"{summary.lost_rows} rows, {summary.lost_snapshots} snapshots could not be written"
    return lines


def duration(seconds: float) -> str:
    """Write a time for people: ``3 h 20 min``, ``42 s``."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60} min"


def size(count: float) -> str:
    """Write a number of bytes for people: ``14 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _began(summary: Summary) -> str:
    steps = [one.resumed_from_step for one in summary.attempts]
    began = [f"from step {step}" if step >= 0 else "from the start" for step in steps]
    ended = "" if summary.closed else "; ended without closing (killed?)"
    if summary.writer:
        ended = f"; being written by {summary.writer}"
    return f"{len(began)}: {', '.join(began)}{ended}" if len(began) > 1 else f"1{ended}"


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


def _cost(summary: Summary) -> str:
    waited = f"training waited {duration(summary.capture_seconds)} for recording"
    share = summary.capture_seconds / summary.seconds if summary.seconds > 0 else float("nan")
    told = waited if np.isnan(share) else f"{waited}, {share:.2%} of its time"
    if np.isnan(summary.write_seconds):
        return told
    return f"{told}; a thread wrote for {duration(summary.write_seconds)} beside it"


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
