"""What does ``wdyn analyze`` do?"""

from __future__ import annotations

from pathlib import Path

import click

from wdyn.cli import options, output
from wdyn.findings import Severity
from wdyn.reports import text
from wdyn.reports.report import analyze
from wdyn.store.reader import open_run


@click.command("analyze")
@options.run
@click.option("--only", multiple=True, metavar="NAME", help="Ask this analyzer only; see: wdyn list.")
@options.form("text", "json", help="How to print the findings.")
@options.codes
@options.fail_on
def command(
    run: Path,
    only: tuple[str, ...],
    form: str | None,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    fail_on: Severity | None,
) -> None:
    """Print the findings of RUN, and nothing else.

    Exit codes: 0 clean, 1 findings at or above --fail-on, 2 could not run.
    """
    with output.questions() as begin:
        found = analyze(open_run(run), only or None, select=select, ignore=ignore, on_progress=begin)
    if form == "json":
        click.echo(found.to_json())
    else:
        output.show(text.findings(found.findings))
    output.leave(found, fail_on)
