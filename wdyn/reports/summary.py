"""What does the card of a run say: what was recorded, and what did recording cost?"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr
from markupsafe import escape

from wdyn.reports.escaping import visible
from wdyn.reports.outline import Block


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


def _cost(summary: Summary) -> str:
    waited = f"training waited {duration(summary.capture_seconds)} for recording"
    share = summary.capture_seconds / summary.seconds if summary.seconds > 0 else float("nan")
    told = waited if np.isnan(share) else f"{waited}, {share:.2%} of its time"
    if np.isnan(summary.write_seconds):
        return told
    return f"{told}; a thread wrote for {duration(summary.write_seconds)} beside it"
