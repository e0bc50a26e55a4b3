"""Does a map of role and layer show each cell where it belongs, and its number where there is room?"""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from wdyn.plots.role_map import bars, grid, logarithmic, role_map


def table(rows):
    """Parameters from (stack, role, layer)."""
    stacks, roles, layers = zip(*rows, strict=True)
    columns = {"stack": list(stacks), "role": list(roles), "layer": list(layers)}
    return xr.Dataset({name: ("parameter", values) for name, values in columns.items()})


def drawn(values, **how):
    layers = list(range(values.shape[1]))
    labelled = xr.DataArray(values, {"role": [f"r{at}" for at in range(len(values))], "layer": layers})
    figure = Figure(figsize=(6.4, 3))
    ax = figure.subplots()
    bar = role_map(ax, labelled, scale=LogNorm(0.01, 10), what="change", **how)
    return ax, bar


def test_grid__adds_up_what_shares_a_cell_and_keeps_stacks_apart():
    where = grid(table([("a", "q", 3), ("a", "q", 0), ("b", "q", 0), ("a", "q", 3)]))
    assert (where.roles, where.layers) == (("a q", "b q"), (0, 3))
    np.testing.assert_array_equal(where.total(np.array([1, 2, 4, 8])), [[2, 9], [4, 0]])
    assert np.isnan(where.total(np.array([np.nan, 2, 4, 8])).sel(role="a q", layer=3))
    assert grid(table([("a", "q", 0)])).roles == ("q",)


@given(st.lists(st.floats(1e-30, 1e30), min_size=1), st.floats(1.01, 10))
def test_logarithmic__holds_all_that_is_known_and_reaches_far_enough(values, least):
    scale = logarithmic(np.array([*values, np.nan, np.inf, 0.0]), least=least)
    assert scale.vmin <= min(values) * 1.0001
    assert scale.vmax >= max(values) * 0.9999
    assert scale.vmax / scale.vmin >= least * 0.9999


def test_logarithmic__of_nothing_positive_is_none():
    assert logarithmic(np.array([0.0, np.nan])) is None


def test_role_map__writes_numbers_where_there_is_room():
    roomy, _ = drawn(np.full((1, 4), 0.5))
    narrow, _ = drawn(np.full((1, 48), 0.5))
    long, _ = drawn(np.full((1, 12), 0.00012))
    assert [text.get_text() for text in roomy.texts] == ["0.5"] * 4
    assert not narrow.texts
    assert not long.texts
    assert len(narrow.get_xticks()) == 12


def test_role_map__gives_cells_without_a_number_their_look_and_says_which():
    values = np.array([[0.5, 0.0, np.nan]])
    ax, _ = drawn(values, looks={"grey: still": values == 0, "red: NaN": np.isnan(values)}, when=", at step 3")
    assert ax.get_xlabel() == "layer, at step 3 (grey: still, red: NaN)"
    assert {patch.get_label(): patch.get_xy() for patch in ax.patches} == {"grey: still": (1, 0), "red: NaN": (2, 0)}
    assert [text.get_text() for text in ax.texts] == ["0.5"]


def test_role_map__names_round_numbers_beside_its_colours():
    _, bar = drawn(np.full((1, 2), 0.5))
    assert [label.get_text() for label in bar.ax.get_yticklabels()] == ["0.01", "0.1", "1", "10"]


def test_bars__put_nan_first_and_what_has_no_bound_next():
    figure = Figure()
    ax = figure.subplots()
    bars(ax, xr.DataArray([1.0, np.nan, 3.0], {"parameter": ["a", "b", "c"]}), what="change")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b (NaN)", "c", "a"]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([0, 3, 1])
