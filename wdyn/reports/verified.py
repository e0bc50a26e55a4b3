"""How does it read whether a run, or a model, is as it was: in a terminal, a browser, a pull request, a program?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from wdyn.findings import Finding
from wdyn.naming import examples
from wdyn.reports import html, markdown
from wdyn.reports.escaping import visible
from wdyn.reports.numbers import Table
from wdyn.reports.round_trip import RoundTrip
from wdyn.reports.summary import size
from wdyn.store.damage import Damage, Verification

_ROWS = 500
"""Damages on a page: the JSON lists all."""


@dataclass(frozen=True)
class Verified:
    """What `wdyn.verify` found, of a run that was read back or of two models, to be written in several forms.

    Attributes
    ----------
    found
        What it found.
    """

    found: RoundTrip | Verification

    @property
    def title(self) -> str:
        """What was verified."""
        if isinstance(self.found, Verification):
            return str(self.found.path)
        about = self.found.compared.parameters.attrs
        return f"{about['a']} → {about['b']}"

    @property
    def sentence(self) -> str:
        """What it adds up to."""
        if isinstance(self.found, Verification):
            count = len(self.found.damages)
            said = f"{count:,} {'file is' if count == 1 else 'files are'} damaged or missing"
            return said if count else "Each file is as it was written"
        return "The same, as far as was compared" if self.found.is_whole else "Not the same"

    @property
    def facts(self) -> dict[str, str]:
        """What was read, in words."""
        if isinstance(self.found, Verification):
            return {
                "Run": str(self.found.path),
                "Files read back": f"{self.found.files:,}",
                "Size": size(self.found.nbytes),
            }
        about = self.found.compared.parameters.attrs
        return {"a": str(about["a"]), "b": str(about["b"])}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What differs between two models, the worst first."""
        return () if isinstance(self.found, Verification) else self.found.findings

    def to_text(self) -> str:
        """Write it as plain text, one line for each thing said."""
        return "\n".join(map(visible, self.found.lines())) + "\n"

    def to_json(self) -> str:
        """Write it as JSON, for programs."""
        return json.dumps(self.found.as_dict(), indent=2) + "\n"

    def to_markdown(self) -> str:
        """Write it as Markdown, for a pull request or a log book."""
        said = [self.sentence, *(f"{one}{f' → {one.advice}' if one.advice else ''}" for one in self.findings)]
        return markdown.page(self.title, said, self.facts, tuple(self._tables()))

    def to_html(self) -> str:
        """Write it as one HTML page, which loads nothing from anywhere."""
        content = {"heading": self.title, "sentence": self.sentence, "facts": self.facts, "findings": self.findings}
        title = f"{self.title}: {self.sentence}"
        return html.page_of("verified.html.j2", title=title, tables=tuple(self._tables()), **content)

    def _tables(self) -> Iterator[Table]:
        if isinstance(self.found, Verification):
            columns = ("array", "of", "steps", "what was found", "file")
            yield from _table("Damaged or missing", columns, map(_cells, self.found.damages))
            return
        yield from _table("Equal", ("what",), ((words,) for words in self.found.equal))
        yield from _table("Not compared", ("what", "why"), self.found.compared.left.items())


def _table(caption: str, columns: tuple[str, ...], cells: Iterable[tuple[str, ...]]) -> Iterator[Table]:
    rows = tuple(cells)
    more = f", the first {_ROWS} of {len(rows):,}" if len(rows) > _ROWS else ""
    if rows:
        yield Table(caption + more, columns, rows[:_ROWS], (False,) * len(columns))


def _cells(damage: Damage) -> tuple[str, ...]:
    steps = "–".join(dict.fromkeys(map(str, damage.steps)))
    return damage.array or "the run", examples(damage.parameters), steps, damage.reason, damage.file
