"""What do columns of words stand in, in a terminal? A table without lines, which folds words and cuts none."""

from __future__ import annotations

from rich.table import Table


def grid_of(columns: int) -> Table:
    """Begin a table of so many columns."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(columns):
        grid.add_column(overflow="fold")
    return grid
