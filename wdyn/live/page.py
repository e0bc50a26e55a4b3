"""How does a run that is being recorded read in a browser?

The page around the report is made here, all of it: the script of the page only exchanges what became old. Nothing
that has a name in the run reaches that script as anything but finished, escaped HTML.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from wdyn._version import __version__
from wdyn.live.serving import Reply, Routes
from wdyn.live.views import WORDS, View
from wdyn.reports.escaping import visible
from wdyn.reports.text import verdict

MOST_FINDINGS: Final = 8
"""Findings that stand above the report, which has them all."""

_HTML: Final = "text/html; charset=utf-8"
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_REPORT_POLICY: Final = "connect-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
"""What the report's own policy, inside it, cannot say or might not."""


def routes(view: Callable[[], View]) -> Routes:
    """Answer with what is known of a run: the page, its parts, and which of them are new."""
    answers: dict[str, Callable[[], Reply | None]] = {
        "": lambda: _document("page.html.j2", view(), _POLICY),
        "top": lambda: _document("top.html.j2", view(), _POLICY),
        "state": lambda: _state(view()),
        "report": lambda: _report(view()),
        "live.css": lambda: Reply(_file("live.css"), "text/css; charset=utf-8"),
        "live.js": lambda: Reply(_file("live.js"), "text/javascript; charset=utf-8"),
    }
    return lambda name: answers[name]() if name in answers else None


def _state(view: View) -> Reply:
    content = json.dumps({"version": view.version, "pages": view.pages})
    return Reply(content.encode(), "application/json")


def _report(view: View) -> Reply | None:
    return Reply(view.page.encode(), _HTML, _REPORT_POLICY) if view.pages else None


def _document(template: str, view: View, policy: str) -> Reply:
    judged = verdict(view.report.findings) if view.report else ""
    known = {
        "view": view,
        "title": " · ".join(filter(None, (judged, view.name))),
        "words": WORDS[view.phase],
        "verdict": judged,
        "seen": view.seen[:MOST_FINDINGS],
        "more": len(view.seen) - MOST_FINDINGS,
        "first": min((one.step for one in view.seen), default=-1),
        "version": __version__,
    }
    return Reply(_environment().get_template(template).render(known).encode(), _HTML, policy)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("wdyn.live"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if hasattr(value, "__html__") else visible(value),
    )


@cache
def _file(name: str) -> bytes:
    return files("wdyn.live").joinpath("templates", name).read_bytes()
