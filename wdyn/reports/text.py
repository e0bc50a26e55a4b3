"""How does a report read in a terminal?

Every word goes through `Text`, never through rich's markup: a parameter called ``[red]`` stays one.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from wdyn import schema
from wdyn.findings import Finding, Severity
from wdyn.reports import attempts
from wdyn.reports.anatomy import Anatomy
from wdyn.reports.anatomy import facts as anatomy_facts
from wdyn.reports.comparison import comparisons
from wdyn.reports.escaping import visible
from wdyn.reports.grids import grid_of
from wdyn.reports.logged import MOST, logged
from wdyn.reports.numbers import Table as Numbers
from wdyn.reports.outline import Block
from wdyn.reports.strips import strips
from wdyn.reports.summary import Summary, facts
from wdyn.reports.trends import OVER_TIME, curves, layers

if TYPE_CHECKING:
    from wdyn.analysis.machinery import Answer
    from wdyn.reports.report import Report

STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.INFO: "cyan"}

_LONG = 200
"""Characters of a line of code beyond which it is for programs, and for the page, rather than for a terminal."""

_ENDLESS = 100_000
"""A width that no line reaches: what is piped into another program is not to be broken."""


def render(report: Report) -> RenderableType:
    """Lay a whole report out for a terminal."""
    return Group(
        *(part for run in report.runs for part in _run(run)),
        *(part for answer in report.answers for part in _layers(answer)),
        heading(f"Findings: {verdict(report.findings)}" if report.findings else "No findings"),
        *([findings(report.findings)] if report.findings else []),
        *(part for one in comparisons(report.answers) for part in (heading(one.caption), numbers(one))),
        heading("Questions"),
        questions(report.answers),
    )


def _run(run: Summary) -> tuple[RenderableType, ...]:
    told = logged(run.scalars)
    went = (heading("What was logged"), curves(told, most=MOST)) if told else ()
    return heading(run.title), card(facts(run)), *went


def _layers(answer: Answer) -> Iterator[RenderableType]:
    """Draw how far updates moved each layer, for each run that was asked about them."""
    if answer.analyzer.name != "update_sizes" or answer.skipped:
        return
    ratios = answer.result[schema.UPDATE_RATIO]
    labels = ratios[schema.RUN].values.tolist() if schema.RUN in ratios.dims else [""]
    for label in labels:
        told = strips(ratios.sel({schema.RUN: label}) if label else ratios)
        if told:
            yield heading(f"{OVER_TIME}: {label}" if label else OVER_TIME)
            yield layers(told)


def plain(content: RenderableType) -> str:
    """Write it without colours, and without breaking lines."""
    buffer = io.StringIO()
    Console(file=buffer, width=_ENDLESS, color_system=None, force_terminal=False, legacy_windows=False).print(content)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n") + "\n"


def verdict(found: Iterable[Finding]) -> str:
    """Count findings by severity: ``1 error, 2 warnings, 6 info``, or ``no findings``."""
    counts = Counter(finding.severity for finding in found)
    words = [f"{counts[severity]} {_plural(severity, counts[severity])}" for severity in sorted(counts, reverse=True)]
    return ", ".join(words) or "no findings"


def _plural(severity: Severity, count: int) -> str:
    return f"{severity.name.lower()}{'s' if count > 1 and severity > Severity.INFO else ''}"


def heading(words: str) -> RenderableType:
    """Write a heading with a line of space around it."""
    return Padding(Text(visible(words), style="bold"), (1, 0, 0, 0))


def card(lines: dict[str, str]) -> RenderableType:
    """Write facts as two columns."""
    grid = grid_of(2)
    for name, value in lines.items():
        grid.add_row(Text(visible(name), style="dim"), Text(visible(value)))
    return grid


def numbers(table: Numbers) -> RenderableType:
    """Write a table with its headings; one without rows says so in its caption."""
    if not table.rows:
        return Group()
    grid = grid_of(len(table.columns))
    grid.add_row(*(Text(visible(name), style="bold") for name in table.columns))
    for row in table.rows:
        grid.add_row(*(Text(visible(value)) for value in row))
    return grid


def findings(found: Iterable[Finding]) -> RenderableType:
    """Write each finding with what to do about it."""
    listed = list(found)
    if not listed:
        return Text("No findings.")
    grid = grid_of(3)
    for finding in listed:
        grid.add_row(
            Text(str(finding.severity), style=STYLES[finding.severity]),
            Text(visible(finding.code)),
            Text(visible(finding.message)),
        )
        if finding.advice:
            grid.add_row("", "", Text(f"→ {visible(finding.advice)}"))
        if finding.reproduce:
            grid.add_row("", "", _prompt(finding.reproduce))
    return grid


def _prompt(code: str) -> Text:
    """Write a line of code: one that would fill a terminal is cut at its edge, others are folded."""
    line = Text(f">>> {visible(code)}", style="dim")
    if len(line) > _LONG:
        line.no_wrap, line.overflow = True, "ellipsis"
    return line


def questions(answers: Iterable[Answer]) -> RenderableType:
    """Write each question and what became of it."""
    grid = grid_of(2)
    for answer in answers:
        outcome = f"not answered: {answer.skipped}" if answer.skipped else verdict(answer.findings)
        grid.add_row(Text(visible(answer.analyzer.question)), Text(visible(outcome)))
        if answer.remedy:
            grid.add_row("", Text(f"→ {visible(answer.remedy)}", style="dim"))
    return grid


def model(blocks: Iterable[Block]) -> RenderableType:
    """Write what a model is made of, each block once."""
    parts: list[RenderableType] = []
    for block in blocks:
        grid = grid_of(6)
        for member in block.members:
            notes = f"→ {member.notes}" if member.notes else ""
            count = short(member.values) if member.values else ""
            words = ("", member.role, member.name, member.tensors, count, f"{member.parts}  {notes}".strip())
            grid.add_row(*(Text(visible(word)) for word in words))
        parts += [Padding(Text(visible(_title(block)), style="bold"), (1, 0, 0, 0)), grid]
    return Group(*parts)


def anatomy(found: Anatomy) -> RenderableType:
    """Write the card of a model and what it is made of."""
    return Group(heading(found.source or found.model or "model"), card(anatomy_facts(found)), model(found.blocks))


def describe(summary: Summary) -> RenderableType:
    """Write the card of a run and its model."""
    began = (heading("Attempts"), numbers(attempts.table(summary))) if len(summary.attempts) > 1 else ()
    return Group(*_run(summary), *began, model(summary.blocks))


def short(count: int) -> str:
    """Write a count for people: ``7.09 M``."""
    number = float(count)
    for unit in ("", " k", " M", " G"):
        if number < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g} T"


def _title(block: Block) -> str:
    if block.count == 1:
        return f"{block.title}: {short(block.values)} values"
    return f"{block.title} ({block.count} ×): {short(block.values)} values each"
