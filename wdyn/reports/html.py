"""How does a report read in a browser?

One page that loads nothing: styles and figures stand inside, no script runs, and its policy forbids the rest.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from wdyn._version import __version__
from wdyn.errors import WdynError
from wdyn.findings import Finding
from wdyn.plots.scalars import plot
from wdyn.reading.curves import curves
from wdyn.reports.comparison import comparisons
from wdyn.reports.escaping import visible
from wdyn.reports.figures import Picture, framed, pictures
from wdyn.reports.numbers import Table, tables
from wdyn.reports.summary import Summary, facts
from wdyn.reports.text import verdict

if TYPE_CHECKING:
    from wdyn.analysis.machinery import Answer
    from wdyn.reports.report import Report

_EVIDENCE_ROWS = 12


@dataclass(frozen=True)
class Section:
    """What the page says of one analyzer.

    Attributes
    ----------
    answer
        What it found.
    pictures
        Its figure, or one for each of several joined runs.
    failure
        Why there is none.
    tables
        The numbers behind it.
    """

    answer: Answer
    pictures: tuple[Picture, ...]
    failure: str
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Card:
    """What the page says of one run.

    Attributes
    ----------
    run
        What was recorded.
    facts
        The same in words.
    pictures
        How what was logged went; none where nothing was.
    failure
        Why there is none.
    """

    run: Summary
    facts: dict[str, str]
    pictures: tuple[Picture, ...]
    failure: str


def page(report: Report) -> str:
    """Write a report as one HTML file."""
    return _render("page.html.j2", report)


def fragment(report: Report) -> str:
    """Write a report for a cell of a notebook."""
    return _render("fragment.html.j2", report)


def _render(template: str, report: Report) -> str:
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    return (
        _environment()
        .get_template(template)
        .render(
            report=report,
            cards=[_card(run) for run in report.runs],
            verdict=verdict(report.findings),
            comparisons=comparisons(report.answers),
            sections=[_section(answer) for answer in report.answers if not answer.skipped],
            skipped=[answer for answer in report.answers if answer.skipped],
            style=Markup(style),
            style_hash=f"sha256-{digest}",
            version=__version__,
        )
    )


def _section(answer: Answer) -> Section:
    return Section(answer, *_drawn(lambda: pictures(answer.result)), tables(answer.result))


def _card(run: Summary) -> Card:
    return Card(run, facts(run), *_drawn(lambda: (framed(plot(run.scalars)),) if curves(run.scalars) else ()))


def _drawn(draw: Callable[[], tuple[Picture, ...]]) -> tuple[tuple[Picture, ...], str]:
    """Draw, or say why not."""
    try:
        return draw(), ""
    except WdynError as error:
        return (), str(error)
    except Exception as error:  # one figure that fails must not take the page with it
        return (), f"{type(error).__name__}: {error}"


def _evidence(finding: Finding) -> tuple[Table, ...]:
    return tables(finding.evidence, limit=_EVIDENCE_ROWS)


@lru_cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("wdyn.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters.update(evidence=_evidence, verdict=verdict)
    return environment


def _finalize(value: object) -> object:
    """Make control characters visible in everything that a template prints; jinja escapes it afterwards."""
    return value if hasattr(value, "__html__") else visible(value)


def _style() -> str:
    return files("wdyn.reports").joinpath("templates/report.css").read_text(encoding="utf-8")
