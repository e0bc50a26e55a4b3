"""What did all analyzers say of a run, worst first?"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import xarray as xr

from wdyn.analysis.machinery import Analyzer, Answer, OnProgress, examine
from wdyn.errors import InvalidArgument
from wdyn.findings import Finding, Severity
from wdyn.reports.summarizing import summaries
from wdyn.reports.summary import Summary

if TYPE_CHECKING:
    from wdyn.reports.sections import Section

_KEPT_BYTES = 2**26
"""Of one result: a larger one is measured anew, should anyone ask for it."""


@dataclass(frozen=True, eq=False)
class Report:
    """The answers to every question that was asked of a run.

    Attributes
    ----------
    answers
        One for each analyzer, in the order in which they were asked; also those that had nothing to measure. A result
        of more than 64 MiB is not kept: it is measured anew when it is asked for.
    runs
        What was recorded: one summary, or one for each of several runs that were joined.
    drawn
        What a page says of each answer, where that was prepared at once.
    """

    answers: tuple[Answer, ...]
    runs: tuple[Summary, ...]
    drawn: tuple[Section, ...] | None = field(default=None, repr=False)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, the worst first, then by code."""
        found = (finding for answer in self.answers for finding in answer.findings)
        return tuple(sorted(found, key=lambda finding: (-finding.severity, finding.code)))

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """What a page says of each answer, figures included."""
        from wdyn.reports.sections import sections

        return tuple(sections(self.answers)) if self.drawn is None else self.drawn

    @property
    def title(self) -> str:
        """What it is a report of."""
        return ", ".join(run.title for run in self.runs)

    @property
    def worst(self) -> Severity | None:
        """The highest severity that was found; None when nothing was."""
        return self.findings[0].severity if self.findings else None

    def __repr__(self) -> str:
        from wdyn.reports.text import verdict

        return f"Report of {self.title}: {verdict(self.findings)}"

    def to_text(self) -> str:
        """Write it as plain text, one line for each thing said, whatever its length."""
        from wdyn.reports import text

        return text.plain(text.render(self))

    def to_markdown(self) -> str:
        """Write it as Markdown, for a pull request or a log book."""
        from wdyn.reports import markdown

        return markdown.render(self)

    def to_html(self) -> str:
        """Write it as one HTML page with its figures inside, which loads nothing from anywhere."""
        from wdyn.reports import page

        return page.page(self)

    def to_json(self) -> str:
        """Write it as JSON, for programs; `wdyn.reports.json_format` tells the keys."""
        from wdyn.reports import json_format

        return json_format.render(self)

    def _repr_html_(self) -> str:
        from wdyn.reports import page

        return page.fragment(self)


def analyze(
    run: xr.DataTree,
    analyzers: Iterable[Analyzer | str] | None = None,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    draw: bool = False,
    on_progress: OnProgress = lambda number, count, question: None,
) -> Report:
    """What is there to know about this run?

    Parameters
    ----------
    run
        As `open_run` gives it.
    analyzers
        Whom to ask; by default all that are installed.
    select, ignore
        Codes of findings, or the letters that they begin with, to keep and to leave out.
    draw
        Draw each answer as soon as it is there: a page of a long run then needs no result a second time.
    on_progress
        Called before each question with its number, from 1 on, with how many there are, and with the question.

    Raises
    ------
    InvalidArgument
        When `run` is not an opened run but the path of one, say.
    UnknownName
        When no analyzer gives a code that was selected or ignored.
    """
    _require_opened(run)
    asked = examine(run, analyzers=analyzers, select=select, ignore=ignore, on_progress=on_progress)
    answers: list[Answer] = []
    drawn: list[Section] = []
    for answer in asked:  # not counted by `enumerate`, which would hold the last one meanwhile
        kept = answer.let_go(run) if answer.held.nbytes > _KEPT_BYTES else answer
        if draw and not answer.skipped:
            drawn.append(_section(len(answers) + 1, answer, kept))
        answers.append(kept)
        del answer  # before the next one is measured
        if kept.again:
            gc.collect()  # figures refer to themselves, and to what they show
    return Report(tuple(answers), summaries(run), tuple(drawn) if draw else None)


def _section(number: int, answer: Answer, kept: Answer) -> Section:
    from wdyn.reports.sections import section

    return replace(section(number, answer), answer=kept)


def _require_opened(run: object) -> None:
    if isinstance(run, xr.DataTree):
        return
    call = f"wdyn.open_run({os.fspath(run)!r})" if isinstance(run, str | os.PathLike) else "wdyn.open_run(path)"
    raise InvalidArgument(f"Found is {type(run).__name__}; needed is an opened run: {call}")
