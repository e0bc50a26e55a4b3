"""How does a run that is being recorded read in a terminal?"""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from wdyn.live.views import WORDS, Phase, Seen, View
from wdyn.reports.escaping import visible
from wdyn.reports.grids import grid_of
from wdyn.reports.text import STYLES, heading, verdict
from wdyn.reports.trends import OVER_TIME, curves, layers

_TONES: Final = {
    Phase.WAITING: "dim",
    Phase.RECORDING: "green",
    Phase.ENDED: "green",
    Phase.STOPPED: "yellow",
    Phase.GONE: "red",
    Phase.UNREADABLE: "red",
}
_MOST_CURVES: Final = 8
_MOST_FINDINGS: Final = 6
"""So that something else fits a terminal too."""


def screen(view: View) -> RenderableType:
    """Lay out what is known of a run: how it stands, the newest findings, curves and layers."""
    return Group(*_stand(view), *_found(view), *_went(view))


def farewell(view: View) -> str:
    """Say in one line how it was last."""
    step = f", step {view.glance.step}" if view.glance and view.glance.step >= 0 else ""
    found = f": {verdict(view.report.findings)} as of step {view.as_of}" if view.report else ""
    return visible(f"{view.name}{step}{found}")


def _stand(view: View) -> list[RenderableType]:
    step = f" Step {view.glance.step}." if view.glance and view.glance.step >= 0 else ""
    tone = _TONES[view.phase]
    line = Text.assemble((visible(view.name), "bold"), "  ", ("● ", tone), f"{WORDS[view.phase]}{step}")
    return [line, *(Text(visible(words), style="red") for words in (view.trouble, view.failure) if words)]


def _went(view: View) -> list[RenderableType]:
    if view.glance is None:
        return []
    parts: list[RenderableType] = []
    if view.glance.curves:
        parts += [heading("What was logged"), curves(view.glance.curves, most=_MOST_CURVES)]
    if view.glance.strips:
        parts += [heading(OVER_TIME), layers(view.glance.strips)]
    return parts


def _found(view: View) -> list[RenderableType]:
    if view.report is None:
        return [Text("\nAsking the questions …", style="dim")] if view.glance else []
    title = heading(f"{verdict(view.report.findings).capitalize()}, as of step {view.as_of}")
    return [title, _findings(view.seen)]


def _findings(seen: tuple[Seen, ...]) -> Table:
    first = min((one.step for one in seen), default=-1)
    grid = grid_of(3)
    for one in seen[:_MOST_FINDINGS]:
        message = Text(visible(one.finding.message))
        if one.step > first:
            message = Text.assemble((f"since step {one.step}: ", "bold"), message)
        severity = one.finding.severity
        grid.add_row(Text(str(severity), style=STYLES[severity]), Text(visible(one.finding.code)), message)
    if len(seen) > _MOST_FINDINGS:
        grid.add_row("", "", Text(f"and {len(seen) - _MOST_FINDINGS} more", style="dim"))
    return grid
