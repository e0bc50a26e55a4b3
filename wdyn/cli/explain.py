"""What does ``wdyn explain`` do?"""

from __future__ import annotations

import click

from wdyn.analysis.machinery import analyzers
from wdyn.analysis.round_trip import ROUND_TRIP
from wdyn.cli import output
from wdyn.reports.catalogue import explanation


@click.command("explain")
@click.argument("code")
def command(code: str) -> None:
    """Explain CODE, such as INI002, or all codes of a family, such as INI."""
    output.show(explanation([*analyzers(), ROUND_TRIP], code))
