"""How does a report read in a pull request or a log book?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from wdyn.findings import Finding
from wdyn.reports.comparison import comparisons
from wdyn.reports.escaping import code_block, markdown
from wdyn.reports.logged import lines, logged
from wdyn.reports.numbers import Table
from wdyn.reports.outline import Block
from wdyn.reports.summary import Summary, facts
from wdyn.reports.text import verdict

if TYPE_CHECKING:
    from wdyn.analysis.machinery import Answer
    from wdyn.reports.report import Report


def render(report: Report) -> str:
    """Write a report as Markdown."""
    paragraphs = [
        f"# {markdown(report.title)}",
        f"**{verdict(report.findings).capitalize()}**",
        *(paragraph for finding in report.findings for paragraph in _finding(finding)),
        *(part for one in comparisons(report.answers) for part in (f"## {one.caption}", _table(one.columns, one.rows))),
        *(paragraph for run in report.runs for paragraph in _run(run)),
        "## Questions",
        _table(("Question", "Findings"), (_outcome(answer) for answer in report.answers)),
    ]
    return "\n\n".join(paragraphs) + "\n"


def page(title: str, said: Iterable[str], facts: Mapping[str, str], tables: Iterable[Table]) -> str:
    """Write sentences, the first of which is the answer, facts and tables as Markdown."""
    answer, *others = said
    paragraphs = [
        f"# {markdown(title)}",
        f"**{markdown(answer)}**",
        *(f"- {markdown(one)}" for one in others),
        _table(("", ""), facts.items()),
        *(part for one in tables for part in (f"## {markdown(one.caption)}", _table(one.columns, one.rows))),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _finding(finding: Finding) -> Iterator[str]:
    yield f"## {finding.severity} {markdown(finding.code)}"
    yield markdown(finding.message)
    if finding.advice:
        yield f"**What to do:** {markdown(finding.advice)}"
    if finding.reproduce:
        yield code_block(finding.reproduce)


def _run(run: Summary) -> Iterator[str]:
    yield f"## The run {markdown(run.title)}"
    yield _table(("", ""), facts(run).items())
    if curves := lines(logged(run.scalars)):
        yield "**What was logged:** " + "; ".join(f"{markdown(name)} {markdown(went)}" for name, went in curves.items())
    yield from _model(run.blocks)


def _model(blocks: Iterable[Block]) -> Iterator[str]:
    for block in blocks:
        yield f"### {markdown(block.title)}"
        yield _table(
            ("Role", "Module", "Tensors", "Parts", "Notes"),
            ((member.role, member.name, member.tensors, member.parts, member.notes) for member in block.members),
        )


def _outcome(answer: Answer) -> tuple[str, str]:
    if answer.skipped:
        return answer.analyzer.question, f"not answered: {answer.skipped} {answer.remedy}".rstrip()
    return answer.analyzer.question, verdict(answer.findings)


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *(tuple(map(markdown, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
