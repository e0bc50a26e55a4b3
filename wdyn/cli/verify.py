"""What does ``wdyn verify`` do?"""

from __future__ import annotations

import json

import click

from wdyn.cli import options, output
from wdyn.comparing.verifying import verify
from wdyn.reports.escaping import visible

NOT_WHOLE = 1


@click.command("verify")
@click.argument("a", metavar="A")
@click.argument("b", metavar="[B]", required=False)
@options.form("text", "json", help="How to print what was found.")
def command(a: str, b: str | None, form: str | None) -> None:
    """Read a run back, all of it, or say whether model B is what model A is.

    Of a run alone: what is damaged or missing, by parameter, step and file. Of two models (runs at a step, files,
    folders, names on the Hugging Face hub, as for diff): weights bit for bit, ties, config, tokenizer, outputs on a
    probe input, and the state of the optimizer, where both have it.

    Exit codes: 0 everything is as it was, 1 something is not, 2 there is no run, or no model.
    """
    with output.counting("Comparing" if b else "Reading back") as progress:
        found = verify(a, b, progress=progress) if b else verify(a, progress=progress)
    if form == "json":
        click.echo(json.dumps(found.as_dict(), indent=2))
    else:
        click.echo("\n".join(map(visible, found.lines())))
    if not found.is_whole:
        click.get_current_context().exit(NOT_WHOLE)
