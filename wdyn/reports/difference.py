"""How do the differences between two models read: in a terminal, a browser, a pull request, a program?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Group, RenderableType
from rich.text import Text

from wdyn import schema
from wdyn.analysis.difference import WAYS, everything, summed
from wdyn.analysis.likeness import Verdict, judge
from wdyn.plots.difference import plot
from wdyn.reports import html, json_format, markdown, text
from wdyn.reports.difference_tables import facts, tables
from wdyn.reports.escaping import visible
from wdyn.reports.figures import framed

FORMAT = 1
"""Version of the keys of the JSON. A key may be added; one that is there keeps its meaning."""


@dataclass(frozen=True, eq=False)
class Difference:
    """What differs between two models, and what is said of it.

    Attributes
    ----------
    parameters
        All numbers, over ``parameter``; `wdyn.diff` tells the variables.
    """

    parameters: xr.Dataset

    @cached_property
    def verdict(self) -> Verdict:
        """How the two are related, in words."""
        return judge(self.parameters)

    def by(self, way: str) -> xr.Dataset:
        """Add the numbers up by ``role``, ``layer``, ``group``, ``stack`` or ``kind``; a shared tensor counts once."""
        return summed(self.parameters, by=way)

    @property
    def title(self) -> str:
        """What was compared."""
        return f"{self.parameters.attrs['a']} → {self.parameters.attrs['b']}"

    def __repr__(self) -> str:
        return f"Difference {self.title}: {self.verdict.sentence}"

    def to_text(self) -> str:
        """Write it as plain text, one line for each thing said, whatever its length."""
        return text.plain(render(self))

    def to_markdown(self) -> str:
        """Write it as Markdown, for a pull request or a log book."""
        said = [self.verdict.sentence, *self.verdict.notes]
        return markdown.page(self.title, said, facts(self.parameters), tables(self.parameters))

    def to_html(self) -> str:
        """Write it as one HTML page, which loads nothing from anywhere."""
        return html.page_of("difference.html.j2", title=f"{self.title}: {self.verdict.likeness}", **self._content())

    def _repr_html_(self) -> str:
        return html.fragment_of("difference.html.j2", **self._content())

    def to_json(self) -> str:
        """Write it as JSON, for programs: ``verdict total by parameters``, with NaN as the string ``"NaN"``."""
        said = asdict(self.verdict) | {"extent": self.verdict.extent.name.lower()}
        return json_format.written(
            {
                "format": FORMAT,
                "a": self.parameters.attrs["a"],
                "b": self.parameters.attrs["b"],
                "verdict": said,
                "total": everything(self.parameters),
                "by": {way: _rows(self.by(way), way) for way in WAYS},
                "parameters": _rows(self.parameters, schema.PARAMETER),
            }
        )

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """Draw where they differ, the relative change of each role in each layer: by default in its own figure."""
        return plot(self.parameters, ax=ax)

    def _content(self) -> dict[str, Any]:
        changed = bool((self.parameters["changed"] > 0).any())
        pictures, failure = html.drawn(lambda: (framed(self.plot()),) if changed else ())
        return {
            "a": self.parameters.attrs["a"],
            "b": self.parameters.attrs["b"],
            "verdict": self.verdict,
            "facts": facts(self.parameters),
            "pictures": pictures,
            "failure": failure,
            "tables": tables(self.parameters),
        }


def render(found: Difference) -> RenderableType:
    """Lay the differences out for a terminal."""
    verdict = found.verdict
    return Group(
        Text(visible(verdict.sentence), style="bold"),
        *(Text(f"• {visible(note)}") for note in verdict.notes),
        text.heading("The two models"),
        text.card(facts(found.parameters)),
        *(part for one in tables(found.parameters) for part in (text.heading(one.caption), text.numbers(one))),
    )


def _rows(table: xr.Dataset, dim: str) -> list[dict[str, Any]]:
    columns = {dim: table[dim].values.tolist()} | {str(name): its.values.tolist() for name, its in table.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
