"""What does ``wdyn info`` do?"""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Group

from wdyn.cli import options, output
from wdyn.errors import InvalidArgument
from wdyn.reports import json_format, storage, text
from wdyn.reports.anatomy import anatomy
from wdyn.reports.summarizing import summarize
from wdyn.store.reader import open_run
from wdyn.store.root import is_run


@click.command("info")
@click.argument("source", metavar="MODEL_OR_CHECKPOINT_OR_RUN")
@options.form("text", "json", help="How to print it; json has the whole table of parameters.")
@click.option("--key", metavar="NAME", help="Which model, where a file holds several.")
def command(source: str, form: str | None, key: str | None) -> None:
    """Say what a model is made of, each block once, and what takes the room; of a run also its steps and cost.

    Give a run; a checkpoint (.safetensors, .pt, .pth, .bin, an index of shards, a folder with one of them, or with a
    config.json alone); or the name of a model on the Hugging Face hub, of which only the config is read.
    """
    if is_run(Path(source)):
        run = open_run(source)
        parameters, summary = run["parameters"].to_dataset(), summarize(run)
        content, stored = text.describe(summary), storage.of_run(run)
    else:
        from wdyn.checkpoints.describing import describe  # torch is not needed for a run

        try:
            parameters, summary = describe(source, key=key), None
        except InvalidArgument as error:
            raise InvalidArgument(f"{source} is no run, and no model could be read: {error}") from error
        found = anatomy(parameters, source=source)
        content, stored = text.anatomy(found), storage.of_model(found, files=_files(Path(source)))
    if form == "json":
        held = stored if stored.disk_bytes else None
        click.echo(json_format.table(parameters, source=source, run=summary, storage=held))
        return
    room = storage.tables(stored) if stored.disk_bytes else ()
    output.show(Group(content, *(part for one in room for part in (text.heading(one.caption), text.numbers(one)))))


def _files(place: Path) -> list[Path]:
    """The files that hold the weights; none for what is on the hub, or a config alone."""
    from wdyn.checkpoints.files import files_of, has_only_a_config

    if not place.exists() or (place.is_dir() and has_only_a_config(place)):
        return []
    try:
        return files_of(place)
    except InvalidArgument:  # a layout of another library, such as many files of one model
        return [file for file in place.iterdir() if file.is_file()]
