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
from wdyn.reports.explanations import EXPLANATIONS
from wdyn.reports.text import card, heading


def catalogue(known: Iterable[Analyzer]) -> RenderableType:
    """Write each question with who answers it and the codes that it may give."""
    return Group(*(_entry(one, dict(one.codes)) for one in known))


def explanation(known: Iterable[Analyzer], code: str) -> RenderableType:
    """Write what a code, or each code of a family, means, when it is given, what causes it and what to do.

    Raises
    ------
    UnknownName
        When no analyzer gives it.
    """
    known, wanted = list(known), code.upper()
    found = {one: {c: line for c, line in one.codes.items() if wanted in (c, one.family)} for one in known}
    if not wanted or not any(found.values()):
        codes = [code for one in known for code in (one.family, *one.codes)]
        near = closest(wanted, codes, 3)
        words = f"Closest: {', '.join(near)}" if near else f"Families: {', '.join(one.family for one in known)}"
        raise UnknownName(f"No finding has the code '{code}'. {words}. List them with: wdyn list")
    return Group(*(_explained(one, codes) for one, codes in found.items() if codes))


def _entry(one: Analyzer, codes: dict[str, str]) -> RenderableType:
    return Group(*_head(one), Padding(card(codes), (0, 0, 0, 2)))


def _explained(one: Analyzer, codes: dict[str, str]) -> RenderableType:
    parts: list[RenderableType] = []
    for code, line in codes.items():
        parts.append(heading(f"{code}  {line}"))
        # A plug-in explains its codes in one line each.
        if code in EXPLANATIONS:
            parts.append(Padding(card(EXPLANATIONS[code].lines(one.check)), (0, 0, 0, 2)))
    return Group(*_head(one), *parts)


def _head(one: Analyzer) -> tuple[RenderableType, ...]:
    return heading(one.question), Text(visible(f"{one.name} ({one.family})"), style="dim")
