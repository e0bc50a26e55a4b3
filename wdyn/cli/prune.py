"""What does ``wdyn prune`` do?"""

from __future__ import annotations

from pathlib import Path

import click

from wdyn.cli import options
from wdyn.reports.summary import size
from wdyn.store.pruning import prune


@click.command("prune")
@options.run
@click.option("--dry-run", is_flag=True, help="Say what would go, and delete nothing.")
def command(run: Path, dry_run: bool) -> None:
    """Delete the rows of a run that a later attempt superseded; what is shown of it stays as it is."""
    gone = prune(run, dry_run=dry_run)
    if not gone.rows:
        click.echo("Nothing to delete: no row was superseded.")
        return
    count = sum(gone.rows.values())
    of = ", ".join(f"{rows} of attempt {number}" for number, rows in sorted(gone.attempts.items()))
    words = "Would delete" if dry_run else "Deleted"
    about = "about " if dry_run else ""
    click.echo(f"{words} {count} superseded rows in {len(gone.rows)} groups ({of}): {about}{size(gone.nbytes)}.")
