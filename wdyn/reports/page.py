"""What does the page of a report say, and in which order? Findings, the run, then each question with its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from wdyn.findings import Finding, Severity
from wdyn.plots.scalars import plot
from wdyn.reading.curves import curves
from wdyn.reports import attempts
from wdyn.reports.comparison import comparisons
from wdyn.reports.figures import Picture, framed, pictures
from wdyn.reports.html import drawn, fragment_of, page_of
from wdyn.reports.numbers import Table, tables
from wdyn.reports.pointing import embedded, shapes_of
from wdyn.reports.summary import Summary, facts
from wdyn.reports.text import verdict

if TYPE_CHECKING:
    from wdyn.analysis.machinery import Answer
    from wdyn.reports.report import Report

_ROWS = 160
"""Of a table on the page: all parameters of a model like GPT-2 small."""

_OPEN = 24
"""Modules up to which the template of a model stands open."""


@dataclass(frozen=True)
class Section:
    """What the page says of one analyzer.

    Attributes
    ----------
    number
        Its place on the page.
    title
        The answer in words; the question where nobody put it into words.
    answer
        What it found.
    pictures
        Its figure, or one for each of several joined runs.
    failure
        Why there is none.
    tables
        The numbers behind it.
    shapes
        Distributions to go through by step, for the script; "" where there are none.
    """

    number: int
    title: str
    answer: Answer
    pictures: tuple[Picture, ...]
    failure: str
    tables: tuple[Table, ...]
    shapes: Markup | str


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
    sections = [_section(number, answer) for number, answer in enumerate(report.answers, 1) if not answer.skipped]
    return {
        "report": report,
        "cards": [_card(run) for run in report.runs],
        "verdict": verdict(report.findings),
        "said": _said(report, sections),
        "comparisons": comparisons(report.answers),
        "sections": sections,
        "skipped": [answer for answer in report.answers if answer.skipped],
    }


def _said(report: Report, sections: list[Section]) -> list[Said]:
    """Give each finding the way to its section, and the first serious one of each section its figure."""
    section_of = {id(finding): section for section in sections for finding in section.answer.findings}
    listed, shown = [], set()
    for finding in report.findings:
        section = section_of.get(id(finding))
        first = section is not None and finding.severity > Severity.INFO and section.number not in shown
        if section is not None and first:
            shown.add(section.number)
        listed.append(Said(finding, section, section.pictures if section is not None and first else ()))
    return listed


def _section(number: int, answer: Answer) -> Section:
    drawings, failure = drawn(lambda: pictures(answer.result))
    answers = [picture.answer for picture in drawings]
    title = answers[0] if len(answers) == 1 and answers[0] else answer.analyzer.question
    told = shapes_of(answer.result)
    return Section(
        number, title, answer, drawings, failure, tables(answer.result, limit=_ROWS), embedded(told) if told else ""
    )


def _card(run: Summary) -> Card:
    began = (attempts.table(run),) if len(run.attempts) > 1 else ()
    is_short = sum(len(block.members) for block in run.blocks) <= _OPEN
    drawings = drawn(lambda: (framed(plot(run.scalars)),) if curves(run.scalars) else ())
    return Card(run, facts(run), began, is_short, *drawings)
