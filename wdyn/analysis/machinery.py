"""What do the analyzers say of a run? Each measures and judges; one that fails costs a warning, not the rest."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import xarray as xr

from wdyn import schema
from wdyn.analysis.analyzer import Analyzer, analyzer, dimensions
from wdyn.analysis.catalogue import analyzers, chosen, selected, wanted_code
from wdyn.analysis.joined import concatenate
from wdyn.analysis.skipping import REMEDY, skip, skipped
from wdyn.findings import Finding
from wdyn.reading.joining import split_runs

__all__ = ["Analyzer", "Answer", "analyzer", "analyzers", "examine", "skip", "skipped"]


@dataclass(frozen=True, eq=False)
class Answer:
    """What one analyzer said of one run.

    Attributes
    ----------
    analyzer
        Who was asked.
    result
        What it measured; without variables when it was skipped.
    findings
        What its check concluded.
    """

    analyzer: Analyzer
    result: xr.Dataset
    findings: tuple[Finding, ...] = ()

    @property
    def skipped(self) -> str:
        """Why nothing could be measured; "" when it was."""
        return skipped(self.result)

    @property
    def remedy(self) -> str:
        """What to record so that it can be measured."""
        return str(self.result.attrs.get(REMEDY, ""))


def examine(
    run: xr.DataTree,
    *,
    analyzers: Iterable[Analyzer | str] | None = None,
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
) -> tuple[Answer, ...]:
    """Ask every analyzer, or those given, about a run.

    Parameters
    ----------
    run
        As `wdyn.open_run` or `wdyn.join_runs` gives it.
    analyzers
        Analyzers, or their names; all by default, of one run those that a single run can answer.
    select, ignore
        Families (``"INI"``) or codes (``"INI002"``) to keep and to drop.

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
    several = schema.RUN in dimensions(run)
    if not several and analyzers is None and not select:
        asked = tuple(one for one in asked if not one.joint)
    apart = several and not all(one.joint for one in asked)
    parts = split_runs(run) if apart else None  # once, for all of them
    answers = [_answer(one, run, parts) for one in asked]
    return tuple(
        replace(one, findings=tuple(f for f in one.findings if wanted_code(f.code, select=select, ignore=ignore)))
        for one in answers
    )


def _codes(given: Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _answer(one: Analyzer, run: xr.DataTree, parts: Mapping[str, xr.DataTree] | None) -> Answer:
    try:
        if parts is None or one.joint:
            result = one(run)
            return Answer(one, result, one.judge(result))
        results = {label: one(part) for label, part in parts.items()}
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
