"""How do curves and layers go over time, in a terminal: one line of characters each, in colours where it has them?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from wdyn.reports.escaping import visible
from wdyn.reports.grids import grid_of
from wdyn.reports.logged import LEVELS, Logged
from wdyn.reports.strips import INFINITE, Strip

OVER_TIME: Final = "Update / weights by layer over time, and the last (·: none, or NaN)"

_HEAT: Final = ("#5a4fa0", "#3f5f9f", "#2f7f9f", "#2f9f8f", "#4fb56f", "#8fc94f", "#cfd53f", "#f5e04f")
"""From small to large; lightness rises, so that it reads without colours too."""


def curves(told: Sequence[Logged], *, most: int) -> Table:
    """Write the shape of each curve, and in words how it went."""
    grid = grid_of(3)
    for one in told[:most]:
        grid.add_row(Text(visible(one.name), style="dim"), Text(one.spark, style="cyan"), Text(one.words))
    if len(told) > most:
        grid.add_row(Text(f"and {len(told) - most} more", style="dim"))
    return grid


def layers(told: Sequence[Strip]) -> Table:
    """Write each layer as a strip of heights, coloured from small to large, and its newest value."""
    grid = grid_of(3)
    for one in told:
        cells = Text.assemble(*((cell, _heat(cell)) for cell in one.cells))
        grid.add_row(Text(visible(one.label), style="dim"), cells, Text(f"{one.last:.1e}"))
    return grid


def _heat(cell: str) -> str:
    if cell in LEVELS:
        return _HEAT[LEVELS.index(cell)]
    return "bold red" if cell == INFINITE else "dim"
