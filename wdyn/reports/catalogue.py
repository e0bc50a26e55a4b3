"""Which questions are there, and what does a code mean?"""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from wdyn.analysis.machinery import Analyzer
from wdyn.errors import UnknownName
from wdyn.naming import closest
from wdyn.reports.escaping import visible
from wdyn.reports.text import card, heading


def catalogue(known: Iterable[Analyzer]) -> RenderableType:
    """Write each question with who answers it and the codes that it may give."""
    return Group(*(_entry(one, dict(one.codes)) for one in known))


def explanation(known: Iterable[Analyzer], code: str) -> RenderableType:
    """Write what a code, or each code of a family, means.

    Raises
    ------
    UnknownName
        When no analyzer gives it.
    """
    known, wanted = list(known), code.upper()
    found = {one: {c: line for c, line in one.codes.items() if wanted in (c, one.family)} for one in known}
    if not wanted or not any(found.values()):
        codes = [code for one in known for code in (one.family, *one.codes)]
        near = ", ".join(closest(wanted, codes) or codes)
        raise UnknownName(f"No finding has the code '{code}'. Closest: {near}. List them with: wdyn list")
    return Group(*(_entry(one, codes) for one, codes in found.items() if codes))


def _entry(one: Analyzer, codes: dict[str, str]) -> RenderableType:
    measured = Text(visible(f"{one.name} ({one.family})"), style="dim")
    return Group(heading(one.question), measured, Padding(card(codes), (0, 0, 0, 2)))
