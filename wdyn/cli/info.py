"""What does ``wdyn info`` do?"""

from __future__ import annotations

from pathlib import Path

import click

from wdyn.cli import options, output
from wdyn.errors import InvalidArgument
from wdyn.reports import json_format, text
from wdyn.reports.anatomy import anatomy
from wdyn.reports.summary import summarize
from wdyn.store.reader import open_run
from wdyn.store.root import is_run


@click.command("info")
@click.argument("source", metavar="MODEL_OR_CHECKPOINT_OR_RUN")
@options.form("text", "json", help="How to print it; json has the whole table of parameters.")
def command(source: str, form: str | None) -> None:
    """Say what a model is made of, each block once; of a run also its steps, attempts, cost and size.

    Give a run; a checkpoint (.safetensors, .pt, .pth, .bin, an index of shards, a folder with one of them, or with a
    config.json alone); or the name of a model on the Hugging Face hub, of which only the config is read.
    """
    if is_run(Path(source)):
        run = open_run(source)
        parameters, summary = run["parameters"].to_dataset(), summarize(run)
        content = text.describe(summary)
    else:
        from wdyn.checkpoints.describing import describe  # torch is not needed for a run

        try:
            parameters, summary = describe(source), None
        except InvalidArgument as error:
            raise InvalidArgument(f"{source} is no run, and no model could be read: {error}") from error
        content = text.anatomy(anatomy(parameters, source=source))
    if form == "json":
        click.echo(json_format.table(parameters, source=source, run=summary))
    else:
        output.show(content)
