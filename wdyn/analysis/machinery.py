"""What do the analyzers say of a run? Each measures and judges; one that fails costs a warning, not the rest."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import xarray as xr

from wdyn import schema
from wdyn.analysis.analyzer import Analyzer, analyzer, dimensions
from wdyn.analysis.catalogue import analyzers, chosen, selected, wanted_code
from wdyn.analysis.joined import concatenate
from wdyn.analysis.skipping import REMEDY, concerns, skip, skipped
from wdyn.findings import Finding
from wdyn.reading.joining import split_runs

__all__ = ["Analyzer", "Answer", "analyzer", "analyzers", "examine", "skip", "skipped"]


OnProgress = Callable[[int, int, str], None]
"""Is told before each question its number, from 1 on, of how many, and what is asked."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What one analyzer said of one run.

    Attributes
    ----------
    analyzer
        Who was asked.
    held
        What it measured; without variables when it was skipped, or when they were let go.
    findings
        What its check concluded.
    again
        Measures it anew, where it was let go.
    """

    analyzer: Analyzer
    held: xr.Dataset
    findings: tuple[Finding, ...] = ()
    again: Callable[[], xr.Dataset] | None = None

    @property
    def result(self) -> xr.Dataset:
        """What it measured; measured anew, each time, where it was too large to be kept."""
        return self.held if self.again is None else self.again()

    @property
    def skipped(self) -> str:
        """Why nothing could be measured; "" when it was."""
        return skipped(self.held)

    @property
    def remedy(self) -> str:
        """What to record so that it can be measured."""
        return str(self.held.attrs.get(REMEDY, ""))

    def let_go(self, run: xr.DataTree) -> Answer:
        """Keep the findings with copies of what proves them, and no more; the rest can be had from the run again."""
        kept = tuple(replace(one, evidence=one.evidence.copy(deep=True)) for one in self.findings)
        return Answer(self.analyzer, xr.Dataset(attrs=self.held.attrs), kept, partial(_measured, self.analyzer, run))


def examine(
    run: xr.DataTree,
    *,
    analyzers: Iterable[Analyzer | str] | None = None,
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    on_progress: OnProgress = lambda number, count, question: None,
) -> Iterator[Answer]:
    """Ask every analyzer, or those given, about a run: one after the other, as their answers are taken.

    Each reads what it needs for itself, and nothing of that stays in memory: its result alone may be large.

    Parameters
    ----------
    run
        As `wdyn.open_run` or `wdyn.join_runs` gives it.
    analyzers
        Analyzers, or their names; all by default, of one run those that a single run can answer. Nor are those answers
        given by default that say that the question does not concern such a run.
    select, ignore
        Families (``"INI"``) or codes (``"INI002"``) to keep and to drop.
    on_progress
        Called before each question.

    Raises
    ------
    UnknownName
        If a name, family or code is not known.

    Warns
    -----
    RuntimeWarning
        For each analyzer that failed. Its answer is skipped, with the error as the reason.
    """
    select, ignore = _codes(select), _codes(ignore)
    asked = selected(chosen(analyzers), select=select, ignore=ignore)
    several, by_name = schema.RUN in dimensions(run), analyzers is not None or bool(select)
    if not several and not by_name:
        asked = tuple(one for one in asked if not one.joint)
    apart = several and not all(one.joint for one in asked)
    parts = split_runs(run) if apart else None  # once, for all of them
    given = _answers(asked, run, parts, lambda code: wanted_code(code, select=select, ignore=ignore), on_progress)
    # A filter holds no answer back, as a loop would while the next one is measured.
    return given if by_name else filter(lambda answer: concerns(answer.held), given)


def _answers(
    asked: Sequence[Analyzer],
    run: xr.DataTree,
    parts: Mapping[str, xr.DataTree] | None,
    wanted: Callable[[str], bool],
    on_progress: OnProgress,
) -> Iterator[Answer]:
    for number, one in enumerate(asked, 1):
        on_progress(number, len(asked), one.question)
        answer = _answer(one, run, parts)
        yield replace(answer, findings=tuple(finding for finding in answer.findings if wanted(finding.code)))
        del answer  # before the next one is measured


def _measured(one: Analyzer, run: xr.DataTree) -> xr.Dataset:
    """Measure a run, and let all that was read for it go: what a copy reads, the run itself does not keep."""
    return one(run.copy())


def _codes(given: Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _answer(one: Analyzer, run: xr.DataTree, parts: Mapping[str, xr.DataTree] | None) -> Answer:
    try:
        if parts is None or one.joint:
            result = _measured(one, run)
            return Answer(one, result, one.judge(result))
        results = {label: _measured(one, part) for label, part in parts.items()}
        findings = [_of_run(f, label) for label, result in results.items() for f in one.judge(result)]
        return Answer(one, concatenate(results), tuple(findings))
    except Exception as error:  # a broken analyzer must not take the others' answers with it
        reason = f"the analyzer '{one.name}' failed with {type(error).__name__}: {error}"
        warnings.warn(f"Skipped: {reason}", RuntimeWarning, stacklevel=3)
        return Answer(one, skip(reason, remedy=f"See the whole error with: wdyn.{one.name}(run)"))


def _of_run(finding: Finding, label: str) -> Finding:
    return replace(
        finding,
        message=f"{label}: {finding.message}",
        evidence=finding.evidence.expand_dims({schema.RUN: [label]}),
        reproduce=_line_of_run(finding.reproduce, label),
    )


def _line_of_run(line: str, label: str) -> str:
    """Choose the run as soon as the measurement gives it, so that what follows sees one run."""
    call, closed, rest = line.partition(").")
    chosen = f".sel(run={label!r})"
    return f"{call}){chosen}.{rest}" if closed else line and line + chosen
