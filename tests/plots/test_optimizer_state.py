"""Does the figure of the optimizer's state say the answer, and show the numbers?"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure

import wdyn
from loops import Tiny, loss_of
from wdyn.plots.palette import BAD, layer_colours
from wdyn.testing import make_run

WHAT = ("weights", "updates", "gradients", "moments")


def record(
    to: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, *, reset: bool = True, **how: Any
) -> Any:
    with wdyn.watch(model, optimizer, to=to, every=1, snapshots=None, **{"what": WHAT} | how):
        for step in range(12):
            if reset:
                optimizer.zero_grad()
            loss_of(model, step).backward()
            optimizer.step()
    return wdyn.optimizer_state(wdyn.open_run(to))


@pytest.fixture(scope="module")
def adam(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    torch.manual_seed(0)
    model = Tiny(layers=3)
    return record(tmp_path_factory.mktemp("adam") / "run.zarr", model, torch.optim.AdamW(model.parameters(), lr=0.01))


def panel(figure: Figure, ylabel: str) -> Any:
    (found,) = [ax for ax in figure.axes if ax.get_ylabel() == ylabel and ax.get_xlabel() == "step"]
    return found


def words(figure: Figure) -> str:
    figure.savefig(io.BytesIO(), format="svg")
    return figure.get_suptitle().replace("\n", " ")


def test_figure__says_how_far_the_optimizer_steps_and_draws_each_layer(adam: xr.Dataset) -> None:
    figure = wdyn.plot(adam)
    last = adam["effective_step"].isel(step=-1)
    assert f"steps by {float(last.min()):.2g} to {float(last.max()):.2g} (rms of a weight)" in words(figure)
    lines = {line.get_color(): line for line in panel(figure, "effective step").get_lines()}
    for layer, colour in layer_colours([0, 1, 2]).items():
        true = adam["effective_step"].isel(parameter=(adam["layer"] == layer).values).median("parameter")
        np.testing.assert_allclose(lines[colour].get_ydata(), true)
    (norms,) = panel(figure, "gradient norm,\nas used").get_lines()
    np.testing.assert_allclose(norms.get_ydata(), adam["gradient_norm"])
    (cells,) = [ax for ax in figure.axes if ax.get_xlabel() == "layer, at step 12"]
    shown = cells.collections[0].get_array().reshape(-1, 3)
    qkv = [text.get_text() for text in cells.get_yticklabels()].index("qkv")
    assert shown[qkv, 1] == pytest.approx(float(last.sel(parameter="blocks.1.attn.qkv.weight")))


def test_figure__marks_gradients_that_pile_up(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Tiny()
    slow = torch.optim.SGD(model.parameters(), lr=1e-5)
    figure = wdyn.plot(record(tmp_path / "run.zarr", model, slow, reset=False))
    assert words(figure).startswith("Gradients pile up: their norm grew ×")
    assert BAD in {line.get_color() for line in panel(figure, "gradient norm,\nas used").get_lines()}


def test_figure__says_what_is_broken_or_not_held(tmp_path: Path, adam: xr.Dataset) -> None:
    broken = adam.copy(deep=True)
    broken["nonfinite"][3:, 2] = 5
    assert words(wdyn.plot(broken)) == "The moments of 1 parameter hold NaN or infinity"
    model = torch.nn.Sequential(torch.nn.Embedding(11, 8), torch.nn.Linear(8, 11))
    loose = record(tmp_path / "run.zarr", model, torch.optim.SGD(model[1].parameters(), lr=0.1))
    assert words(wdyn.plot(loose)) == "No optimizer holds 1 trainable parameter"


@pytest.mark.parametrize(("what", "label"), [(WHAT, "effective step"), (WHAT[:3], "rms of the update")])
def test_figure__of_a_model_without_blocks_has_lines_by_name(what: Any, label: str, tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(11, 8), torch.nn.Linear(8, 11))
    result = record(tmp_path / "run.zarr", model, torch.optim.Adam(model.parameters(), lr=0.01), what=what)
    figure = wdyn.plot(result.assign_coords(layer=("parameter", [-1, -1, -1])))
    assert "optimizer" in words(figure)
    named = {line.get_label(): line for line in panel(figure, label).get_lines()}
    source = "effective_step" if label == "effective step" else "update"
    np.testing.assert_allclose(named["1.weight"].get_ydata(), result[source].sel(parameter="1.weight").dropna("step"))


def test_figure__into_an_axes_is_the_steps_over_time(adam: xr.Dataset) -> None:
    figure = Figure(figsize=(6, 4))
    ax = figure.subplots()
    assert wdyn.plot(adam, ax=ax) is figure
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "effective step")
    assert "The optimizer steps by" in ax.get_title(loc="left")


def test_figure__of_many_parameters_without_layers_is_a_band(adam: xr.Dataset) -> None:
    flat = adam.assign_coords(layer=adam["layer"] * 0 - 1)
    figure = wdyn.plot(flat)
    (median,) = [one for one in panel(figure, "effective step").get_lines() if one.get_label() == "median"]
    np.testing.assert_allclose(median.get_ydata(), adam["effective_step"].median("parameter"))


def test_figure__without_any_step_says_so(adam: xr.Dataset) -> None:
    nothing = adam.assign(effective_step=adam["effective_step"] * np.nan, update=adam["update"] * np.nan)
    assert words(wdyn.plot(nothing)) == "How far the optimizer steps cannot be told"


def test_equal_steps__have_colours_and_axes_that_reach_around_them() -> None:
    planted = make_run(layers=2, steps=range(20), what=("weights", "gradients", "moments"))
    figure = wdyn.plot(wdyn.optimizer_state(planted))
    low, high = figure.axes[0].collections[0].get_clim()
    assert high / low == pytest.approx(1.5)
    assert low < 1e-3 < high  # every step is that of a gradient that never changes: the learning rate
    bottom, top = figure.axes[1].get_ylim()
    assert top / bottom == pytest.approx(10)
