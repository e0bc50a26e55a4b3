"""Do the figures show the numbers, say the answer, and leave nothing behind?"""

from __future__ import annotations

import io
from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

import wdyn
from wdyn.errors import InvalidArgument
from wdyn.plots.canvas import thinned
from wdyn.plots.depth import round_factors
from wdyn.plots.dispatch import plot
from wdyn.plots.palette import layer_colours
from wdyn.testing import make_run

NAMES = ["init_audit", "tied_weights", "depth_growth", "movement"]


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    settings = dict(mpl.rcParams)
    yield
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == settings


@pytest.fixture(scope="module")
def run() -> xr.DataTree:
    return make_run(growth_by_layer=[3.0, 2.0, 1.5, 1.1], width=32, steps=(0, 10, 20, 40))


@pytest.fixture(scope="module")
def deep() -> xr.DataTree:
    return make_run(layers=48, width=8, growth_by_layer=np.linspace(2, 1, 48).tolist(), frozen=["blocks.0.*"])


def drawn(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return figure.get_suptitle() or " ".join(ax.get_title(loc="left") for ax in figure.axes)


def words(figure: Figure) -> str:
    return " ".join(drawn(figure).split())


def axes_labelled(figure: Figure, label: str) -> list[Axes]:
    return [ax for ax in figure.axes if label in (ax.get_xlabel(), ax.get_ylabel())]


@pytest.mark.parametrize("name", NAMES)
def test_plot__draws_every_analyzer_of_shallow_and_deep_runs(name: str, run: xr.DataTree, deep: xr.DataTree) -> None:
    for one in (run, deep):
        figure = plot(getattr(wdyn, name)(one))
        assert isinstance(figure, Figure)
        assert words(figure)
        assert max(len(line) for line in figure.get_suptitle().split("\n")) <= 60
        assert any(ax.get_xlabel() for ax in figure.axes)


@pytest.mark.parametrize("name", NAMES)
def test_plot__draws_into_an_axes_that_is_given(name: str, run: xr.DataTree) -> None:
    figure = Figure(figsize=(8, 4))
    ax = figure.subplots()
    assert plot(getattr(wdyn, name)(run), ax=ax) is figure
    assert ax.get_title(loc="left")
    assert ax.has_data()
    drawn(figure)


def test_depth_figure__says_which_layers_widen_and_draws_each_layer_in_its_colour(run: xr.DataTree) -> None:
    result = wdyn.depth_growth(run)
    figure = plot(result)
    assert "Layers widen unequally" in words(figure)
    assert "in layer 0" in words(figure)
    panel = next(ax for ax in figure.axes if ax.get_title(loc="left") == "mlp_up")
    colours = list(layer_colours(range(4)).values())
    assert [line.get_color() for line in panel.get_lines()] == colours
    for layer, line in enumerate(panel.get_lines()):
        np.testing.assert_array_equal(line.get_ydata(), result["std"].sel(role="mlp_up", layer=layer))


def test_depth_figure__leaves_out_fused_weights_whose_parts_are_there(run: xr.DataTree) -> None:
    titles = [ax.get_title(loc="left") for ax in plot(wdyn.depth_growth(run)).axes]
    assert {"q", "k", "v"} <= set(titles)
    assert "qkv" not in titles


def test_depth_figure__says_so_when_layers_are_alike() -> None:
    same = make_run(growth_by_layer=1.5, width=8).copy()
    result = wdyn.depth_growth(same).sel(role=["mlp_up", "mlp_down"])
    assert "Layers widen about alike: std went ×1.50" in words(plot(result))


def test_init_figure__counts_what_follows_no_rule(run: xr.DataTree) -> None:
    assert "follow a known rule" in words(plot(wdyn.init_audit(run)))
    odd = wdyn.init_audit(make_run(std={"blocks.1.mlp.up.*": 0.0337, "*": 0.02}, width=64))
    assert words(plot(odd)).startswith("1 of ")


def test_tying_figure__says_when_a_tie_broke_or_that_there_is_none(run: xr.DataTree) -> None:
    assert words(plot(wdyn.tied_weights(run))) == "head.weight and tok.weight stayed one weight"
    broken = wdyn.tied_weights(make_run(steps=(0, 10, 20), tie_breaks_at=20))
    assert words(plot(broken)) == "The tie of head.weight to tok.weight broke at step 20"
    assert words(plot(wdyn.tied_weights(make_run(tied=False)))) == "No two names share one weight"


def test_movement_figure__says_what_stayed_and_what_moved(run: xr.DataTree, deep: xr.DataTree) -> None:
    result = wdyn.movement(run)
    share = float(result["cohort_relative"].sel(cohort="tuned").isel(step=-1))
    assert words(plot(result)) == f"Tuned weights moved by {share:.2g} of their norm"
    assert words(plot(wdyn.movement(deep))).startswith("6 frozen weights stayed, tuned weights moved by")
    assert words(plot(wdyn.movement(make_run(moved=["blocks.0.mlp.*"])))) == "2 frozen weights moved"
    still = wdyn.movement(make_run(still=["blocks.*"]))
    assert "24 trainable ones did not move" in words(plot(still))


def test_movement_figure__of_a_model_without_blocks_is_bars(run: xr.DataTree) -> None:
    result = wdyn.movement(run)
    flat = result.isel(parameter=(result["layer"] < 0).values)
    (upper,) = axes_labelled(plot(flat), "change / first norm, step 40")
    assert len(upper.patches) == flat.sizes["parameter"]


def test_layer_colours__run_from_dark_to_light_and_do_not_depend_on_gaps() -> None:
    colours = layer_colours([0, 5, 11])
    assert colours[5] == layer_colours(range(12))[5]
    light = [np.dot(colour[:3], [0.299, 0.587, 0.114]) for colour in colours.values()]
    assert light == sorted(light)
    assert -1 not in layer_colours([-1, 0])


def test_names__with_a_dollar_or_of_any_length_are_drawn_as_they_are() -> None:
    states = xr.Dataset(
        {
            "declared": ("pair", [True]),
            "shared": (("step", "pair"), [[1.0], [1.0]]),
            "equal": (("step", "pair"), [[1.0], [1.0]]),
            "broke_at": ("pair", [np.nan]),
            "appeared_at": ("pair", [np.nan]),
        },
        {"step": [0, 1], "pair": ["p"], "name": ("pair", ["$a_{x$"]), "partner": ("pair", ["b" * 300])},
        attrs={"analyzer": "tied_weights"},
    )
    text = drawn(plot(states))
    assert r"\$a_{x\$" in text
    assert "b" * 31 not in text


@pytest.mark.parametrize(
    ("result", "match"),
    [
        ("unknown", "No figure for a result of 'no analyzer'"),
        ("skipped", "movement was skipped, for only one step was recorded, step 0"),
        ("joined", r"holds 2 runs\. Draw one: result\.sel\(run="),
    ],
)
def test_plot__of_what_cannot_be_drawn_says_what_to_do(result: str, match: str, run: xr.DataTree) -> None:
    results = {
        "skipped": lambda: wdyn.movement(make_run(steps=(0,))),
        "joined": lambda: wdyn.tied_weights(wdyn.join_runs(a=run, b=run)),
    }
    with pytest.raises(InvalidArgument, match=match):
        plot(results.get(result, xr.Dataset)())


def test_plot__of_one_of_several_runs_is_drawn(run: xr.DataTree) -> None:
    joined = wdyn.join_runs(a=run, b=make_run(width=32, seed=1))
    for name in ("init_audit", "movement"):
        assert words(plot(getattr(wdyn, name)(joined).sel(run="a")))


def test_movement_figure__of_nan_says_since_when_and_leaves_no_empty_panel() -> None:
    result = wdyn.movement(make_run(steps=(0, 10, 20, 30), nan_at={}))
    assert "NaN" not in words(plot(result))
    struck = wdyn.movement(make_run(steps=(0, 10, 20, 30), nan_at={"blocks.1.mlp.up.weight": 20, "tok.weight": 30}))
    figure = plot(struck)
    assert words(figure) == "2 weights hold NaN or infinity from step 20"
    (upper,) = [ax for ax in figure.axes if "red: NaN" in ax.get_xlabel()]
    assert [patch.get_xy() for patch in upper.patches if patch.get_label() == "red: NaN"] == [(1, 3)]
    lower = figure.axes[-1]
    assert lower.get_title(loc="right") == "NaN from step 20"


def test_movement_figure__without_snapshots_is_one_sentence() -> None:
    bare = make_run(nan_at={"tok.weight": 10}).copy()
    del bare["weights"]
    figure = plot(wdyn.movement(bare))
    assert words(figure) == "1 weight holds NaN or infinity from step 10"
    assert len(figure.axes) == 1
    assert figure.get_figheight() < 3


def test_movement_figure__tells_still_from_absent() -> None:
    result = wdyn.movement(make_run(still=["blocks.0.mlp.up.*"]))
    figure = plot(result.isel(parameter=(result["parameter"] != "blocks.2.attn.proj.weight").values))
    (upper,) = [ax for ax in figure.axes if ax.get_xlabel().startswith("layer")]
    looks = {patch.get_label(): patch for patch in upper.patches}
    assert set(looks) == {"grey: did not move", "hatched: nothing there"}
    assert looks["hatched: nothing there"].get_hatch()
    assert not looks["grey: did not move"].get_hatch()
    assert all(text in upper.get_xlabel() for text in looks)


def test_init_figure__names_and_marks_a_head_that_is_too_wide() -> None:
    result = wdyn.init_audit(make_run(std={"tok.*": 1.0, "head.*": 1.0, "*": 0.02}, width=64))
    assert "INI002" in {one.code for one in wdyn.init_audit.judge(result)}
    figure = plot(result)
    assert words(figure).startswith("head.weight is so wide that logits start with a spread of 8.0;")
    legend = figure.axes[0].get_legend()
    assert "too wide" in [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("growth", [[1.5, 1.5, 1.5, 1.5], [3.0, 2.0, 1.5, 1.1], [1.5, 1.52, 1.49, 1.55]])
def test_depth_figure__and_findings_agree_on_what_is_unequal(growth: list[float]) -> None:
    result = wdyn.depth_growth(make_run(growth_by_layer=growth))
    found = any(one.code == "DEP001" for one in wdyn.depth_growth.judge(result))
    assert ("unequally" in words(plot(result))) == found
    assert ("about alike" in words(plot(result))) != found


@given(st.floats(0.01, 12))
def test_round_factors__are_short_rising_and_within_reach(reach: float) -> None:
    found = round_factors(reach)
    assert 3 <= len(found) <= 11
    assert found == sorted(found)
    assert 1 in found
    assert all(2**-reach * 0.999 <= one <= 2**reach * 1.001 for one in found)
    assert all(len(f"{one:g}") <= 5 for one in found)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9000), st.integers(1, 4))
def test_thinned__keeps_ends_and_extremes_and_nothing_but_points_of_the_line(values: list[float], times: int) -> None:
    line = xr.DataArray(np.tile(values, times), dims="step", coords={"step": np.arange(len(values) * times)})
    thin = thinned(line)
    assert thin.size <= 1600
    assert (thin.step[0], thin.step[-1]) == (0, line.size - 1)
    assert (thin.min(), thin.max()) == (line.min(), line.max())
    assert (np.diff(thin.step) > 0).all()
    np.testing.assert_array_equal(thin, line.sel(step=thin.step))


@pytest.mark.parametrize("name", ["init_audit", "tied_weights"])
def test_plot__into_an_axes_puts_its_title_above_its_legend(name: str, run: xr.DataTree) -> None:
    figure = Figure(figsize=(8, 5))
    ax = figure.subplots()
    plot(getattr(wdyn, name)(run), ax=ax)
    drawn(figure)
    (title,) = (text for text in ax.findobj(Text) if text.get_text() and text.get_text() == ax.get_title(loc="left"))
    assert title.get_window_extent().y0 >= ax.get_legend().get_window_extent().y1 - 1
