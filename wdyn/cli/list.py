"""What does ``wdyn list`` do?"""

from __future__ import annotations

import click

from wdyn.analysis.machinery import analyzers
from wdyn.cli import output
from wdyn.reports.catalogue import catalogue


@click.command("list")
def command() -> None:
    """List the questions that can be asked of a run, and the codes of their findings."""
    output.show(catalogue(analyzers()))
