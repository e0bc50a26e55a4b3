"""What does the page of a report say, and in which order? Findings, the run, then each question with its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wdyn.findings import Finding, Severity
from wdyn.plots.scalars import plot
from wdyn.reading.curves import curves
from wdyn.reports import attempts
from wdyn.reports.comparison import comparisons
from wdyn.reports.figures import Picture, framed
from wdyn.reports.html import drawn, fragment_of, page_of
from wdyn.reports.numbers import Table
from wdyn.reports.sections import Section
from wdyn.reports.summary import Summary, facts
from wdyn.reports.text import verdict

if TYPE_CHECKING:
    from wdyn.reports.report import Report

_OPEN = 24
"""Modules up to which the template of a model stands open."""


@dataclass(frozen=True)
class Said:
    """A finding, the section that it comes from, and the figure that shows it, where no finding above has it."""

    finding: Finding
    section: Section | None
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Card:
    """What the page says of one run.

    Attributes
    ----------
    run
        What was recorded.
    facts
        The same in words.
    attempts
        Each time that recording began, where that was more than once.
    is_short
        Whether the model can be told without filling the page.
    pictures
        How what was logged went; none where nothing was.
    failure
        Why there is none.
    """

    run: Summary
    facts: dict[str, str]
    attempts: tuple[Table, ...]
    is_short: bool
    pictures: tuple[Picture, ...]
    failure: str


def page(report: Report) -> str:
    """Write a report as one HTML file."""
    return page_of("report.html.j2", title=f"{report.title}: {verdict(report.findings)}", **_content(report))


def fragment(report: Report) -> str:
    """Write a report for a cell of a notebook."""
    return fragment_of("report.html.j2", **_content(report))


def _content(report: Report) -> dict[str, Any]:
    return {
        "report": report,
        "cards": [_card(run) for run in report.runs],
        "verdict": verdict(report.findings),
        "said": _said(report),
        "comparisons": comparisons(report.answers),
        "sections": report.sections,
        "skipped": [answer for answer in report.answers if answer.skipped],
    }


def _said(report: Report) -> list[Said]:
    """Give each finding the way to its section, and the first serious one of each section its figure."""
    section_of = {id(finding): section for section in report.sections for finding in section.answer.findings}
    listed, shown = [], set()
    for finding in report.findings:
        section = section_of.get(id(finding))
        first = section is not None and finding.severity > Severity.INFO and section.number not in shown
        if section is not None and first:
            shown.add(section.number)
        listed.append(Said(finding, section, section.pictures if section is not None and first else ()))
    return listed


def _card(run: Summary) -> Card:
    began = (attempts.table(run),) if len(run.attempts) > 1 else ()
    is_short = sum(len(block.members) for block in run.blocks) <= _OPEN
    drawings = drawn(lambda: (framed(plot(run.scalars)),) if curves(run.scalars) else ())
    return Card(run, facts(run), began, is_short, *drawings)
