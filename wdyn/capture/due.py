"""What is the coming step due for? Schedules are asked once for each step, in order, when all before it was logged."""

from __future__ import annotations

from wdyn.capture.schedule import Schedule

_NEVER = -1


class Due:
    """Whether the coming step gives rows, and whether it gives a snapshot.

    Parameters
    ----------
    rows, snapshots
        The schedules.
    first_step
        The step that recording begins with, which gives both anyhow.

    Attributes
    ----------
    row, snapshot
        What was found by the last `look_ahead`.
    keeps_snapshots
        Whether any step gives a snapshot.
    """

    def __init__(self, rows: Schedule, snapshots: Schedule, *, first_step: int) -> None:
        self.row = self.snapshot = False
        self.keeps_snapshots = not snapshots.never
        self._rows, self._snapshots = rows, snapshots
        self._decided_for = _NEVER
        rows(first_step)

    def look_ahead(self, step: int) -> None:
        """Decide what `step`, the coming one, is due for; only the first call for it counts."""
        if self._decided_for != step:
            self._decided_for = step
            self.row = self._rows(step)
            self.snapshot = self._snapshots(step)

    def spent(self, seconds: float) -> None:
        """Tell the schedule of rows what a capture cost."""
        self._rows.spent(seconds)
