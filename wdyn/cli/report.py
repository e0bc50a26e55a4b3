"""What does ``wdyn report`` do?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from wdyn.cli import options, output
from wdyn.findings import Severity
from wdyn.reports import files
from wdyn.reports.escaping import visible
from wdyn.reports.report import analyze
from wdyn.reports.text import render
from wdyn.store.reader import open_run


@click.command("report")
@options.run
@options.to_file
@options.codes
@options.fail_on
def command(
    run: Path,
    to: Path | None,
    form: str | None,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    fail_on: Severity | None,
) -> None:
    """Say what happened in RUN: findings and summary here, and a page beside it (run.zarr: run.html).

    Exit codes: 0 clean, 1 findings at or above --fail-on, 2 could not run.
    """
    printed_only = form is not None and to is None
    if printed_only and form == "html" and sys.stdout.isatty():
        raise click.UsageError("A page of HTML is not for a terminal. Pipe it, or name a file with -o.")
    to = to or files.beside(run)
    # Known before the work begins: a suffix that means nothing should not cost a minute.
    form = form or files.form_of(to)
    with output.questions() as begin:
        found = analyze(open_run(run), select=select, ignore=ignore, draw=form == "html", on_progress=begin)
        content = files.rendered(found, form)
    if printed_only and form != "text":
        click.echo(content, nl=not content.endswith("\n"))
    else:
        output.show(render(found))
    if not printed_only:
        files.write(content, to=to)
        click.echo(f"\nWrote {visible(to)}", err=True)
    output.leave(found, fail_on)
