"""Does the figure of distributions say the answer, and show densities and distances?"""

from __future__ import annotations

import io

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

import wdyn
from wdyn import bins
from wdyn.plots.distribution import answer, density, shapes
from wdyn.testing import make_run


@pytest.fixture(scope="module")
def result() -> xr.Dataset:
    return wdyn.distribution(make_run(layers=3, width=24, growth_by_layer=[1.2, 3.0, 1.5], steps=(0, 10, 20, 40)))


def words(figure: Figure) -> str:
    figure.savefig(io.BytesIO(), format="svg")
    return " ".join(figure.get_suptitle().split())


def test_figure__names_what_moved_most_and_draws_each_distance(result: xr.Dataset) -> None:
    figure = wdyn.plot(result)
    assert "Distributions widened, most in " in words(figure)
    assert ", layer 1: std ×3." in words(figure)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    matrices = ["q", "k", "v", "o", "mlp_up", "mlp_down"]
    assert [one for one in titles if one] == ["embedding", "pos_embedding", *matrices, *matrices]  # no norm, no whole
    panels = dict(zip(titles, figure.axes, strict=True))  # the later of two: the map
    (cells,) = [one for one in panels["q"].collections if isinstance(one, QuadMesh)]
    first = result["std"].sel(role="q", step=0)
    true = (result["wasserstein"].sel(role="q") / first).sel(layer=[0, 1, 2]).transpose("layer", "step")
    assert_allclose(np.asarray(cells.get_array()).reshape(true.shape), true)


def test_figure__of_a_still_run_says_so() -> None:
    still = wdyn.distribution(make_run(layers=2, still=["*"]))
    assert words(wdyn.plot(still)) == "No distribution has changed"


def test_axes_that_are_given__hold_the_ridges_of_one_role(result: xr.Dataset) -> None:
    figure = Figure(figsize=(6, 4))
    ax = figure.subplots()
    assert wdyn.plot(result, ax=ax) is figure
    assert ax.get_xlabel().startswith("value, in ")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0", "10", "20", "40"]


def test_density__is_that_of_a_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(0, 0.02, 200_000)
    count = np.bincount(bins.bin_of(values), minlength=bins.COUNT).astype(float)
    counted = xr.DataArray(count[None], {"step": [0]}, dims=("step", "bin"))
    at, found = density(counted, 0.07)
    true = np.exp(-(at**2) / (2 * 0.02**2)) / (0.02 * np.sqrt(2 * np.pi))
    assert_allclose(found[0], true, atol=0.06 * true.max())


def test_figure__of_weights_with_nan_says_that_they_are_left_out() -> None:
    sick = make_run(layers=2, nan_at={"blocks.1.mlp.up.weight": 10, "blocks.0.attn.qkv.weight": 10})
    assert words(wdyn.plot(wdyn.distribution(sick))).endswith("; NaN in 2 weights left out")  # mlp_up, and q of qkv


def test_maps__begin_with_the_first_layer_at_the_top(result: xr.Dataset) -> None:
    maps = [ax for ax in wdyn.plot(result).axes if any(isinstance(one, QuadMesh) for one in ax.collections)]
    drawn = [ax for ax in maps if ax.get_title(loc="left")]
    assert len(drawn) == 6
    assert all(ax.get_ylim()[0] > ax.get_ylim()[1] for ax in drawn)


def test_figure__of_a_run_that_ended_in_nan_tells_of_the_steps_before():
    run = make_run(growth_by_layer=3.0, steps=(0, 10, 20, 30, 40), nan_at={})
    result = wdyn.distribution(run)
    lost = result.copy(deep=True)
    spoilt = lost["step"].values > 20
    for name in ("wasserstein", "std", "std_ratio", "kurtosis"):
        lost[name][spoilt] = np.nan
    counts = lost["histogram"].values
    counts[spoilt, :, -1] = counts[spoilt].sum(-1)
    counts[spoilt, :, :-1] = 0
    kept = result.sel(step=slice(None, 20))
    assert answer(lost) == answer(kept)
    assert "widened" in answer(lost)
    assert [one["steps"].tolist() for one in shapes(lost, most=40)] == [[0, 10, 20]] * len(shapes(lost, most=40))
