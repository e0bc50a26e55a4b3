"""Which form does a report take in a file, and where does the file go?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wdyn.errors import InvalidArgument

if TYPE_CHECKING:
    from wdyn.reports.difference import Difference
    from wdyn.reports.report import Report
    from wdyn.reports.verified import Verified

SUFFIXES = {".html": "html", ".htm": "html", ".md": "markdown", ".json": "json", ".txt": "text"}
FORMS = ("text", "html", "markdown", "json")


def form_of(path: Path) -> str:
    """Tell the form from the suffix of a file.

    Raises
    ------
    InvalidArgument
        When the suffix is that of no form.
    """
    form = SUFFIXES.get(path.suffix.lower())
    if form is None:
        known = ", ".join(SUFFIXES)
        raise InvalidArgument(f"'{path.name}' does not say which form to write. Its suffix must be one of {known}.")
    return form


def beside(run: Path) -> Path:
    """Tell where the page of a run goes: ``run.zarr`` has ``run.html`` beside it."""
    run = run.absolute()
    return run.with_name(f"{run.name.removesuffix('.zarr')}.html")


def rendered(report: Report | Difference | Verified, form: str) -> str:
    """Write a report in one of the `FORMS`."""
    text: str = getattr(report, f"to_{form}")()
    return text


def write(content: str, *, to: Path) -> None:
    """Write a file, in UTF-8 and with the same bytes on every system."""
    to.write_text(content, encoding="utf-8", newline="\n")
