"""How does a page stand on its own? It loads nothing, and one style and one script act: those written here.

Whatever else would run, because a name was not escaped, is refused by the browser.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from wdyn._version import __version__
from wdyn.errors import WdynError
from wdyn.findings import Finding
from wdyn.reports.escaping import visible
from wdyn.reports.figures import Picture
from wdyn.reports.numbers import Table, tables
from wdyn.reports.pointing import embedded_maps
from wdyn.reports.text import verdict

_EVIDENCE_ROWS = 12


def page_of(body: str, *, title: str, **content: Any) -> str:
    """Write a template as one HTML file that loads nothing."""
    style, script = _text("report.css"), _text("report.js")
    page = _environment().get_template("page.html.j2")
    shared = {
        "style": Markup(style),
        "style_hash": _hash(style),
        "script": Markup(script),
        "script_hash": _hash(script),
        "version": __version__,
        "acts": True,
    }
    return page.render(body=body, title=title, **shared, **content)


def fragment_of(body: str, **content: Any) -> str:
    """Write a template for a cell of a notebook, where no script of ours runs."""
    shared = {"style": Markup(_text("report.css")), "version": __version__, "acts": False}
    return _environment().get_template("fragment.html.j2").render(body=body, **shared, **content)


def drawn(draw: Callable[[], tuple[Picture, ...]]) -> tuple[tuple[Picture, ...], str]:
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
    environment.filters.update(evidence=_evidence, verdict=verdict, cells=embedded_maps)
    return environment


def _finalize(value: object) -> object:
    """Make control characters visible in everything that a template prints; jinja escapes it afterwards."""
    return value if hasattr(value, "__html__") else visible(value)


def _text(name: str) -> str:
    return files("wdyn.reports").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Name a text in a policy: it acts as long as not one sign of it is another."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
