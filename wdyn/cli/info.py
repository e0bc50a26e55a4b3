"""What does ``wdyn info`` do?"""

from __future__ import annotations

from pathlib import Path

import click

from wdyn.cli import options, output
from wdyn.reports.summary import summarize
from wdyn.reports.text import describe
from wdyn.store.reader import open_run


@click.command("info")
@options.run
def command(run: Path) -> None:
    """Say what RUN holds: its model, each block once, its steps, attempts, cost and size."""
    output.show(describe(summarize(open_run(run))))
