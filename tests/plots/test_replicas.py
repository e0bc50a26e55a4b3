"""Does the figure of copies say since when they differ, and show the shares?"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

import wdyn
from wdyn.plots.cells import Cells
from wdyn.testing import make_run

STEPS = (0, 4, 5, 6, 9)


def measured(differ: Mapping[str, Sequence[int]], *, layers: int = 2) -> xr.Dataset:
    return wdyn.replicas(make_run(layers=layers, width=4, steps=STEPS, replicas_differ=differ))


def words(figure: Figure) -> str:
    figure.savefig(io.BytesIO(), format="svg")
    return " ".join(figure.get_suptitle().split())


def cells(figure: Figure) -> list[Cells]:
    return [artist for ax in figure.axes for artist in ax.artists if isinstance(artist, Cells)]


def test_figure__shows_shares_by_role_and_by_layer() -> None:
    result = measured({"blocks.1.mlp.*.weight": (0, 0, 1, 1, 1), "tok.weight": (-1, 0, 0, 1, 1)})
    figure = wdyn.plot(result)
    assert words(figure) == "Copies of 3 of 14 parameters differ since step 5"
    roles, layers = cells(figure)
    np.testing.assert_array_equal(roles.values, result["by_role"].transpose("roles", "step"))
    np.testing.assert_array_equal(layers.values, result["by_layer"].transpose("layers", "step"))
    assert [row.layer for row in layers.rows] == [-1, 0, 1]
    assert [row.role for row in roles.rows] == result["roles"].values.tolist()
    assert "white: not compared" in figure.axes[-1].get_ylabel()


def test_figure__has_one_colour_for_what_agrees_and_none_for_what_was_not_compared() -> None:
    figure = wdyn.plot(measured({"tok.weight": (-1, 0, 0, 1, 1)}))
    figure.savefig(io.BytesIO(), format="png")
    (mesh,) = [one for one in figure.axes[0].collections if isinstance(one, QuadMesh)]
    embedding = mesh.get_facecolor().reshape(-1, len(STEPS), 4)[0]
    np.testing.assert_allclose(embedding[0, :3], 1)
    np.testing.assert_allclose(embedding[1:3, :3], 0.93)
    assert (embedding[3:, :3].max(axis=1) < 0.5).all()


@pytest.mark.parametrize(
    ("differ", "told"),
    [
        ({}, "All processes hold the same bits"),
        (
            {"blocks.*": (0, 1, 0, 0, 0)},
            "Copies of 12 of 14 parameters differed between steps 4 and 4, and agree again",
        ),
    ],
)
def test_figure__says_whether_copies_agree(differ: Mapping[str, Sequence[int]], told: str) -> None:
    assert words(wdyn.plot(measured(differ))) == told


def test_figure__of_buffers_alone_has_no_layers() -> None:
    result = measured({"blocks.0.ln.*": (1, 1, 1, 1, 1)})
    buffers = np.where(result["role"] == "norm", "buffer", "weight")
    only = result.assign_coords(kind=("parameter", buffers)).assign(by_layer=0 * result["by_layer"])
    figure = wdyn.plot(only)
    assert words(figure) == "Copies of 2 buffers differ, and of no other parameter"
    assert len(cells(figure)) == 1


def test_figure__names_few_of_many_layers() -> None:
    figure = wdyn.plot(measured({"blocks.[0-9].*": (0, 0, 1, 1, 1)}, layers=24))
    figure.savefig(io.BytesIO(), format="svg")
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert labels == ["outside", *map(str, range(3, 24, 3))]


def test_figure__draws_roles_into_an_axes_that_is_given() -> None:
    figure = Figure(figsize=(8, 4))
    ax = figure.subplots()
    assert wdyn.plot(measured({"blocks.*": (1, 1, 1, 1, 1)}), ax=ax) is figure
    assert ax.get_title(loc="left").split() == "Copies of 12 of 14 parameters differ since step 0".split()
    assert len(cells(figure)) == 1
