"""Does the figure of two models show each cell as what it is, and say what changed?"""

import math

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from wdyn.plots.cells import Cells
from wdyn.plots.difference import plot


def table(rows):
    """One parameter for each row of (stack, role, layer, change)."""
    stacks, roles, layers, changes = zip(*rows, strict=True)
    change = np.array(changes, dtype=float)
    count = len(rows)
    columns = {
        "stack": list(stacks), "role": list(roles), "layer": list(layers), "change": change, "group": [0] * count,
        "norm_a": np.ones(count), "norm_b": np.ones(count), "relative": change, "counted": [True] * count,
        "changed": (change != 0).astype(int), "numel": [1] * count, "dot": np.ones(count), "max_abs": change,
        "ulps": change, "stable_rank": [math.nan] * count, "rank": [math.nan] * count,
        **{name: [0] * count for name in ("nans_a", "infs_a", "nans_b", "infs_b")},
    }  # fmt: skip
    names = [f"p{at}" for at in range(count)]
    return xr.Dataset({name: ("parameter", values) for name, values in columns.items()}, {"parameter": names})


GRID = [("decoder", "q", 0, 0.0), ("decoder", "q", 1, 0.5), ("decoder", "v", 0, 0.01), ("decoder", "v", 2, math.nan)]


def test_plot__maps_role_and_layer():
    figure = plot(table(GRID))
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["q", "v"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "2"]
    drawn = ax.collections[0].get_array().reshape(2, 3)
    np.testing.assert_allclose(drawn.filled(np.nan), [[np.nan, 0.5, np.nan], [0.01, np.nan, np.nan]])


def test_plot__marks_what_is_unchanged_absent_and_nan():
    ax = plot(table(GRID)).axes[0]
    assert ax.get_xlabel() == "layer (grey: unchanged, hatched: nothing there, red: NaN)"
    marks = {patch.get_xy(): patch for patch in ax.patches if isinstance(patch, Rectangle)}
    assert marks[0, 0].get_facecolor() == to_rgba("0.75")
    assert marks[2, 0].get_hatch() == marks[1, 1].get_hatch() == "////"
    assert marks[2, 1].get_facecolor() == to_rgba("#D55E00")


@pytest.mark.parametrize(
    ("rows", "title"),
    [
        (GRID, "NaN in 1 parameter; the most by role: q, by 0.35"),
        (GRID[:3], "Changed by 0.29 of its norm; the most by role: q, by 0.35"),
        ([("decoder", "q", 0, 0.0)], "Nothing changed"),
    ],
)
def test_plot__says_how_far(rows, title):
    assert plot(table(rows)).get_suptitle() == title


def test_plot__names_stacks_where_there_are_several():
    ax = plot(table([("text", "q", 0, 0.1), ("vision", "q", 0, 0.2)])).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["text q", "vision q"]


def test_plot__without_blocks_shows_the_parameters_that_changed_most():
    figure = plot(table([("root", "linear", -1, 0.1), ("root", "linear", -1, 0.4), ("root", "linear", -1, math.nan)]))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["p2 (NaN)", "p1", "p0"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0, 0.4, 0.1]


def test_plot__tells_what_stands_in_each_cell():
    (cells,) = (one for one in plot(table(GRID)).findobj(Cells) if isinstance(one, Cells))
    assert ([row.label for row in cells.rows], cells.columns, cells.what) == (
        ["q", "v"], (0, 1, 2), "change / norm of a",
    )  # fmt: skip
    np.testing.assert_allclose(cells.values, [[0, 0.5, np.nan], [0.01, np.nan, np.nan]])


def test_plot__draws_into_an_axes_that_is_given():
    figure = Figure()
    ax = figure.subplots()
    assert plot(table(GRID[:3]), ax=ax) is figure
    assert ax.get_title(loc="left").replace("\n", " ").startswith("Changed by 0.29 of its norm")
