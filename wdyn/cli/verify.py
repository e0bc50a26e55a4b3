"""What does ``wdyn verify`` do?"""

from __future__ import annotations

from pathlib import Path

import click

from wdyn.cli import options, output
from wdyn.comparing.verifying import verify
from wdyn.reports import files
from wdyn.reports.escaping import visible
from wdyn.reports.verified import Verified

NOT_WHOLE = 1


@click.command("verify")
@click.argument("a", metavar="A")
@click.argument("b", metavar="[B]", required=False)
@options.to_file
def command(a: str, b: str | None, to: Path | None, form: str | None) -> None:
    """Read a run back, all of it, or say whether model B is what model A is.

    Of a run alone: what is damaged or missing, by parameter, step and file. Of two models (runs at a step, files,
    folders, names on the Hugging Face hub, as for diff): weights bit for bit, ties, config, tokenizer, outputs on a
    probe input, and the state of the optimizer, where both have it.

    Exit codes: 0 everything is as it was, 1 something is not, 2 there is no run, or no model.
    """
    form = form or (files.form_of(to) if to else None)
    with output.counting("Comparing" if b else "Reading back") as progress:
        found = verify(a, b, progress=progress) if b else verify(a, progress=progress)
    report = Verified(found)
    content = files.rendered(report, form or "text")
    click.echo(report.to_text() if to else content, nl=False)
    if to:
        files.write(content, to=to)
        click.echo(f"\nWrote {visible(to)}", err=True)
    if not found.is_whole:
        click.get_current_context().exit(NOT_WHOLE)
