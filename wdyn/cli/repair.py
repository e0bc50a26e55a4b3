"""What does ``wdyn repair`` do?"""

from __future__ import annotations

from pathlib import Path

import click

from wdyn.cli import options
from wdyn.reports.escaping import visible
from wdyn.store.repairing import repair


@click.command("repair")
@options.run
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
def command(run: Path, dry_run: bool) -> None:
    """Cut a damaged RUN back to its last whole row; what it loses is kept in RUN/removed.

    Exit codes: 0 RUN is whole now, or was before, 2 it could not be repaired.
    """
    done = repair(run, dry_run=dry_run)
    click.echo("\n".join(map(visible, done.lines())))
    if dry_run and done.damages:
        click.echo("Nothing was changed.")
