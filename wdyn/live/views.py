"""What is known of a run at one moment, for whoever shows it?"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import xarray as xr

from wdyn.findings import Finding
from wdyn.reports.logged import Logged, logged
from wdyn.reports.report import Report
from wdyn.reports.strips import Strip, recorded, strips
from wdyn.reports.summarizing import summarize
from wdyn.reports.summary import Summary


class Phase(StrEnum):
    """How it stands with the run."""

    WAITING = "waiting"
    RECORDING = "recording"
    ENDED = "ended"
    STOPPED = "stopped"
    GONE = "gone"
    UNREADABLE = "unreadable"


WORDS = {
    Phase.WAITING: "Waiting: nothing is recorded here yet.",
    Phase.RECORDING: "Recording.",
    Phase.ENDED: "Recording ended in order.",
    Phase.STOPPED: "Recording did not end in order, and no process of this machine goes on with it.",
    Phase.GONE: "The run is no longer there. Shown is what was last seen of it.",
    Phase.UNREADABLE: "The run cannot be read at this moment.",
}
"""Each phase as a sentence."""


@dataclass(frozen=True, eq=False)
class Glance:
    """What can be told of a run without asking the analyzers.

    Attributes
    ----------
    summary
        Its card.
    curves
        What was logged.
    strips
        The update ratio of its layers.
    """

    summary: Summary
    curves: tuple[Logged, ...]
    strips: tuple[Strip, ...]

    @property
    def step(self) -> int:
        """The last step that was recorded; -1 for none."""
        return self.summary.steps[-1] if self.summary.steps else -1


@dataclass(frozen=True, eq=False)
class Seen:
    """A finding, and when it came up.

    Attributes
    ----------
    finding
        The finding.
    step
        Last step of the run when it was seen first.
    """

    finding: Finding
    step: int


@dataclass(frozen=True, eq=False)
class View:
    """What is known at one moment.

    Attributes
    ----------
    name
        What the run is called.
    version
        Rises with each change of anything here.
    phase
        How it stands.
    trouble
        Why the last look failed; "" when it did not.
    failure
        Why there are no answers to what is new; "" when there are, or will be.
    glance
        The newest; None before there was one.
    report
        The last answers of all analyzers; None before there were any. They may be older than the glance.
    as_of
        The last step that the report knows; -1 for none.
    seen
        Its findings, the newest first.
    page, pages
        The report as a page, and how often it was drawn; it may be older than the report.
    """

    name: str
    version: int = 0
    phase: Phase = Phase.WAITING
    trouble: str = ""
    failure: str = ""
    glance: Glance | None = None
    report: Report | None = field(default=None, repr=False)
    as_of: int = -1
    seen: tuple[Seen, ...] = ()
    page: str = field(default="", repr=False)
    pages: int = 0


def glance(run: xr.DataTree) -> Glance:
    """Look at an opened run."""
    summary = summarize(run)
    return Glance(summary, logged(summary.scalars), strips(recorded(run)))
