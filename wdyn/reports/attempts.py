"""Which attempts does a run consist of: when, where and with what did each begin, and what of it stands?"""

from __future__ import annotations

from wdyn.reports.numbers import Table
from wdyn.reports.summary import Attempt, Summary

_COLUMNS = ("Attempt", "Continues", "From step", "Its steps", "Host", "Started", "Versions")


def table(summary: Summary) -> Table:
    """Write the attempts of a run, one line each."""
    rows = tuple(_cells(one) for one in summary.attempts)
    return Table("Attempts", _COLUMNS, rows, (True, True, True, False, False, False, False))


def _cells(one: Attempt) -> tuple[str, ...]:
    return (
        str(one.number),
        f"attempt {one.parent}" if one.parent >= 0 else "nothing",
        str(one.resumed_from_step) if one.resumed_from_step >= 0 else "the start",
        _steps(one),
        one.host or "unknown",
        one.started or "unknown",
        ", ".join(f"{name} {version}" for name, version in one.versions.items()) or "unknown",
    )


def _steps(one: Attempt) -> str:
    shown = "–".join(map(str, dict.fromkeys(one.steps))) or "all superseded"
    return f"{shown}; {one.pruned:,} superseded rows pruned" if one.pruned else shown
