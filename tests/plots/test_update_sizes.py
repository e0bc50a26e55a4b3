"""Does the figure of updates say the answer, draw the numbers, and tell what it cannot draw?"""

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
from wdyn.plots.palette import INK, layer_colours
from wdyn.testing import make_run

pytestmark = pytest.mark.filterwarnings("ignore:what=:wdyn.errors.WdynWarning")


def record(to: Path, optimizer: Any, *, model: torch.nn.Module | None = None, **how: Any) -> xr.Dataset:
    torch.manual_seed(0)
    model = model or Tiny(layers=3)
    steps_with = optimizer(model.parameters())
    with wdyn.watch(model, steps_with, to=to, snapshots=None, **{"every": 1, "what": "all"} | how):
        for step in range(14):
            steps_with.zero_grad()
            loss_of(model, step).backward()
            steps_with.step()
    return wdyn.update_sizes(wdyn.open_run(to))


@pytest.fixture(scope="module")
def adamw(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    to = tmp_path_factory.mktemp("adamw") / "run.zarr"
    return record(to, lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1))


def words(figure: Figure) -> str:
    figure.savefig(io.BytesIO(), format="svg")
    return figure.get_suptitle().replace("\n", " ")


def notes(figure: Figure) -> str:
    return " ".join(text.get_text() for part in figure.subfigs for text in part.texts)


def panel(figure: Figure, title: str) -> Any:
    (found,) = [ax for ax in figure.axes if ax.get_title(loc="left") == title]
    return found


def test_figure__says_how_far_each_step_goes_and_maps_it_by_layer_and_step(adamw: xr.Dataset) -> None:
    figure = wdyn.plot(adamw)
    late = adamw["late_ratio"].where(adamw["matrix"], drop=True)
    assert f"Each step moves the matrices by {float(late.min()):.2g} to {float(late.max()):.2g}" in words(figure)
    mesh = panel(figure, "qkv").collections[0]
    true = adamw["update_ratio"].sel(parameter=[f"blocks.{layer}.attn.qkv.weight" for layer in range(3)])
    np.testing.assert_allclose(mesh.get_array().reshape(3, -1), np.log10(true.transpose("parameter", "step")))
    assert [label.get_text() for label in panel(figure, "outside blocks").get_yticklabels()] == ["tok.weight"]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("cosine with the update before", "update_cosine"),
        ("displacement / path length", "efficiency"),
        ("decay / whole update", "decay_share"),
        ("rotation / balance of AdamW", "rotation_ratio"),
    ],
)
def test_figure__draws_the_median_matrix_of_each_layer_in_its_colour(title: str, name: str, adamw: xr.Dataset) -> None:
    lines = {line.get_color(): line for line in panel(wdyn.plot(adamw), title).get_lines()}
    matrices = adamw[name].where(adamw["matrix"], drop=True)
    for layer, colour in {-1: INK, **layer_colours([0, 1, 2])}.items():
        true = matrices.isel(parameter=(matrices["layer"] == layer).values).median("parameter").dropna("step")
        np.testing.assert_allclose(lines[colour].get_ydata(), true)


def test_figure__tells_what_it_cannot_draw_and_why(tmp_path: Path) -> None:
    sparse = record(tmp_path / "run.zarr", lambda p: torch.optim.SGD(p, lr=0.05), every=2, what=("weights", "updates"))
    figure = wdyn.plot(sparse)
    words(figure)
    assert "the path has gaps" in notes(figure)
    assert "(SGD) is not AdamW" in notes(figure)
    titles = {ax.get_title(loc="left") for ax in figure.axes}
    assert not titles & {"decay / whole update", "displacement / path length", "cosine with the update before"}


def test_figure__says_what_is_wrong_as_the_findings_do(adamw: xr.Dataset) -> None:
    struck = adamw.copy(deep=True)
    struck["nonfinite"][5:, 0] = 3
    figure = wdyn.plot(struck)
    assert words(figure) == "Updates hold NaN or infinity from step 6"
    assert "Red: NaN or infinite." in notes(figure)
    assert len(panel(figure, "outside blocks").collections) == len(panel(figure, "qkv").collections) + 1
    still = adamw.assign(late_still=adamw["late_still"] + 1, still=~adamw["still"])
    assert words(wdyn.plot(still)) == f"{adamw.sizes['parameter']} trainable weights got no update"
    swings = adamw.assign(late_cosine=adamw["late_cosine"] * 0 - 0.8, late_undone=adamw["late_undone"] * 0 + 0.75)
    assert "take back up to 75% of the one before" in words(wdyn.plot(swings))


def test_figure__into_an_axes_is_one_map(adamw: xr.Dataset) -> None:
    figure = Figure(figsize=(6, 4))
    ax = figure.subplots()
    assert wdyn.plot(adamw, ax=ax) is figure
    assert ax.get_xlabel() == "step"
    assert "Each step moves the matrices" in ax.get_title(loc="left").replace("\n", " ")
    words(figure)


def test_figure__of_a_model_without_matrices_draws_what_there_is(tmp_path: Path) -> None:
    class One(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

    one = One()
    optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
    with wdyn.watch(one, optimizer, to=tmp_path / "run.zarr", every=1, what="all"):
        for _ in range(3):
            optimizer.zero_grad()
            (one.weight - 3).square().backward()
            optimizer.step()
    figure = wdyn.plot(wdyn.update_sizes(wdyn.open_run(tmp_path / "run.zarr")))
    assert words(figure) == "How far a step moves the matrices cannot be told"
    assert panel(figure, "all").collections[0].get_array().size == 3


def test_figure__of_many_layers_labels_some_and_of_one_row_draws_it(adamw: xr.Dataset) -> None:
    deep = adamw.isel(parameter=np.resize(np.flatnonzero(adamw["role"] == "o"), 40))
    names = [f"blocks.{layer}.o.weight" for layer in range(40)]
    deep = deep.assign_coords(parameter=names, layer=("parameter", np.arange(40)), matrix=("parameter", [True] * 40))
    figure = wdyn.plot(deep)
    words(figure)
    assert len(panel(figure, "o").get_yticks()) <= 6
    words(wdyn.plot(adamw.isel(step=[0])))


def test_lines__of_shares_begin_at_0_and_a_ratio_of_decades_has_an_axis_of_decades() -> None:
    run = make_run(layers=2, steps=range(60), what=("weights", "updates", "displacement", "moments"))
    figure = wdyn.plot(wdyn.update_sizes(run))
    assert panel(figure, "displacement / path length").get_ylim() == pytest.approx((0, 1.08), rel=1e-6)
    assert panel(figure, "decay / whole update").get_ylim()[0] == 0
    assert panel(figure, "rotation / balance of AdamW").get_yscale() == "log"


def test_figure__into_an_axes_names_its_rows_as_many_as_can_be_read(adamw: xr.Dataset) -> None:
    ax = Figure().subplots()
    wdyn.plot(adamw, ax=ax)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == adamw["parameter"].values[adamw["matrix"].values].tolist()
    many = adamw.isel(parameter=np.resize(np.flatnonzero(adamw["matrix"]), 200))
    ax = Figure().subplots()
    wdyn.plot(many, ax=ax)
    assert 1 < len(ax.get_yticks()) <= 16
