"""What did all analyzers say of a run, worst first?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import xarray as xr

from wdyn.analysis.machinery import Analyzer, Answer, examine
from wdyn.errors import InvalidArgument
from wdyn.findings import Finding, Severity
from wdyn.reports.summary import Summary, summaries


@dataclass(frozen=True, eq=False)
class Report:
    """The answers to every question that was asked of a run.

    Attributes
    ----------
    answers
        One for each analyzer, in the order in which they were asked; also those that had nothing to measure.
    runs
        What was recorded: one summary, or one for each of several runs that were joined.
    """

    answers: tuple[Answer, ...]
    runs: tuple[Summary, ...]

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, the worst first, then by code."""
        found = (finding for answer in self.answers for finding in answer.findings)
        return tuple(sorted(found, key=lambda finding: (-finding.severity, finding.code)))

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

    Raises
    ------
    InvalidArgument
        When `run` is not an opened run but the path of one, say.
    UnknownName
        When no analyzer gives a code that was selected or ignored.
    """
    _require_opened(run)
    return Report(examine(run, analyzers=analyzers, select=select, ignore=ignore), summaries(run))


def _require_opened(run: object) -> None:
    if isinstance(run, xr.DataTree):
        return
    call = f"wdyn.open_run({os.fspath(run)!r})" if isinstance(run, str | os.PathLike) else "wdyn.open_run(path)"
    raise InvalidArgument(f"Found is {type(run).__name__}; needed is an opened run: {call}")
