"""How does a question become numbers and findings? Analyzers: one measurement, one check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import xarray as xr

from wdyn import schema
from wdyn.analysis.joined import concatenate
from wdyn.analysis.skipping import skip, skipped
from wdyn.errors import BrokenAnalyzer
from wdyn.findings import Finding
from wdyn.reading.joining import split_runs

ANALYZER = "analyzer"
"""Attribute of every result: the name of the analyzer that made it."""
QUESTION = "question"
"""Attribute of every result: what was asked."""
TOGETHER = "together"
"""Attribute of a result that is of several runs at once, and so cannot be taken apart along `run`."""

Measure = Callable[..., xr.Dataset]
"""``measure(run, **options) -> Dataset``: reads what it needs; judges, prints and draws nothing."""
Check = Callable[..., Iterable[Finding]]
"""``check(result, **limits)``: reads the result only; thresholds are keyword defaults."""


@dataclass(frozen=True, eq=False)
class Analyzer:
    """A question that can be asked of a run. Calling it measures.

    Attributes
    ----------
    name
        The public name of its measurement, such as ``depth_growth``.
    family
        The letters that its finding codes begin with.
    question
        What it answers, as a person would ask it.
    measure
        ``measure(run, **options) -> Dataset``.
    check
        ``check(result, **limits)`` yields findings.
    codes
        Each code that its check may give, with a line that explains it.
    joint
        Whether it looks at several joined runs at once, rather than at each by itself.
    """

    name: str
    family: str
    question: str
    measure: Measure = field(repr=False)
    check: Check = field(repr=False)
    codes: Mapping[str, str] = field(default_factory=dict, repr=False)
    joint: bool = False

    def __post_init__(self) -> None:
        # help() and signature() of an analyzer show its measurement, which is what calling it does.
        self.__dict__.update(__doc__=self.measure.__doc__, __name__=self.name, __wrapped__=self.measure)

    def __call__(self, run: xr.DataTree, /, **options: Any) -> xr.Dataset:
        """Measure a run; a `run` dimension passes through. One that is `joint` skips a single run.

        Raises
        ------
        BrokenAnalyzer
            If the measurement returns something that is no Dataset.
        """
        several = schema.RUN in dimensions(run)
        if self.joint:
            return self._measured(run, options).assign_attrs({TOGETHER: 1}) if several else self._skipped()
        if not several:
            return self._measured(run, options)
        each = {label: self._measured(one, options) for label, one in split_runs(run).items()}
        return concatenate(each)

    def given(self, **options: Any) -> Analyzer:
        """Make the same analyzer with other defaults for the options of its measurement."""
        return replace(self, measure=partial(self.measure, **options))

    def _skipped(self) -> xr.Dataset:
        lacking = skip("it compares several runs, and this is one", remedy="join them: wdyn.join_runs(a=one, b=other)")
        return lacking.assign_attrs({ANALYZER: self.name, QUESTION: self.question})

    def _measured(self, run: xr.DataTree, options: Mapping[str, Any]) -> xr.Dataset:
        result = self.measure(run, **options)
        if not isinstance(result, xr.Dataset):
            raise BrokenAnalyzer(
                f"The analyzer '{self.name}' returned {type(result).__name__} where an xarray.Dataset is needed. "
                "Return a Dataset, or wdyn.analysis.machinery.skip(reason, remedy=...) when the input is missing."
            )
        return result.assign_attrs({ANALYZER: self.name, QUESTION: self.question})

    def judge(self, result: xr.Dataset, /, **limits: Any) -> tuple[Finding, ...]:
        """Check a result, of one run or of several together; a skipped one has no findings.

        Raises
        ------
        BrokenAnalyzer
            If the check yields something that is no Finding.
        """
        if skipped(result):
            return ()
        findings = tuple(self.check(result, **limits))
        for finding in findings:
            if not isinstance(finding, Finding):
                raise BrokenAnalyzer(
                    f"The check of analyzer '{self.name}' yielded {type(finding).__name__} where a wdyn.Finding is "
                    "needed. Yield Finding(code, severity, message, ...)."
                )
        return findings


def analyzer(
    *,
    family: str,
    question: str,
    check: Check,
    codes: Mapping[str, str] | None = None,
    name: str = "",
    joint: bool = False,
) -> Callable[[Measure], Analyzer]:
    """Turn a measurement into an `Analyzer`. It registers nothing.

    Pass the analyzer to ``wdyn.analyze(run, [mine])``, or declare it as an entry point in the group
    ``wdyn.analyzers`` of your package.

    >>> @analyzer(family="ROW", question="How many rows?", check=lambda result: ())
    ... def rows(run):
    ...     '''Count the rows.'''
    ...     return xr.Dataset({"rows": run["scalars"].sizes["step"]})
    >>> rows.name, rows.family
    ('rows', 'ROW')
    """

    def wrap(measure: Measure) -> Analyzer:
        called = name or getattr(measure, "__name__", "unnamed")
        return Analyzer(called, family.upper(), question, measure, check, dict(codes or {}), joint)

    return wrap


def dimensions(run: xr.DataTree) -> frozenset[str]:
    """Name every dimension that any group of the run has."""
    return frozenset(str(dim) for node in run.subtree for dim in node.dims)
