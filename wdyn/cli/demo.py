"""What does ``wdyn demo`` do?"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import click

from wdyn.cli import output
from wdyn.reports import files
from wdyn.reports.escaping import visible
from wdyn.reports.report import analyze
from wdyn.reports.text import render
from wdyn.store.reader import open_run

DIRECTORY = "wdyn-demo"


@click.command("demo")
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--steps", type=click.IntRange(min=1), default=600, show_default=True, help="How long to train.")
def command(directory: Path | None, steps: int) -> None:
    """Train a small GPT on the text that Python carries, watched, and write the report.

    DIR is made if needed; by default it is wdyn-demo, or wdyn-demo-2 and so on where that is taken.
    """
    from wdyn.demo.loop import train

    run = train(directory or _free(), steps=steps, progress=sys.stderr.isatty())
    page = files.beside(run)
    with output.stages(2) as begin:
        begin("Asking the questions")
        found = analyze(open_run(run))
        begin("Drawing the answers")
        files.write(found.to_html(), to=page)
    output.show(render(found))
    click.echo(f"\nThe run: {visible(run)}\nThe report: {visible(page)}", err=True)


def _free() -> Path:
    names = (DIRECTORY if number == 1 else f"{DIRECTORY}-{number}" for number in count(1))
    return next(path for path in map(Path, names) if not path.exists())
