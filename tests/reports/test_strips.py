"""Does a strip show how far the updates moved a layer?"""

import numpy as np
import pytest
import xarray as xr

from wdyn import schema
from wdyn.reports.logged import LEVELS
from wdyn.reports.strips import INFINITE, UNKNOWN, recorded, strips
from wdyn.testing import make_run


def planted(ratios, *, layers=None, roles=None, stacks=None):
    """A run whose update ratios (step, parameter) are given, one parameter a layer."""
    ratios = np.asarray(ratios, dtype=np.float64)
    count = ratios.shape[1]
    names = [f"h.{at}.weight" for at in range(count)]
    table = xr.Dataset(
        {
            "layer": ("parameter", np.arange(count) if layers is None else layers),
            "stack": ("parameter", stacks or ["decoder"] * count),
            "role": ("parameter", roles or ["q"] * count),
            "kind": ("parameter", ["weight"] * count),
        },
        coords={"parameter": names},
    )
    # The row before the first step, at which there is no update.
    rows = np.vstack([np.full(count, np.nan), ratios])
    related = xr.Dataset(
        {schema.UPDATE_RATIO: (("step", "parameter"), rows)}, {"step": np.arange(len(rows)), "parameter": names}
    )
    return xr.DataTree.from_dict({"/parameters": table, "/relations": related})


def strips_of(run):
    return strips(recorded(run))


def test_strips__rise_with_the_logarithm():
    (strip,) = strips_of(planted(10.0 ** np.arange(-8, 0)[:, None]))
    assert strip.cells == LEVELS
    assert strip.last == 0.1
    assert strip.label == "decoder 0"


def test_strips__share_one_scale():
    small, large = strips_of(planted([[1e-4, 1e-1], [1e-4, 1e-1]]))
    assert (small.cells, large.cells) == (LEVELS[0] * 2, LEVELS[-1] * 2)


def test_strips__hide_no_nan_and_no_infinity():
    (strip,) = strips_of(planted([[1e-3], [np.inf], [np.nan]]))
    assert strip.cells[1:] == INFINITE + UNKNOWN
    assert strip.last == np.inf


def test_strips__put_neighbours_together_where_there_are_many():
    found = strips_of(planted(np.tile(10.0 ** -np.arange(48), (2, 1))))
    assert [one.label for one in found] == [f"decoder {at}–{at + 3}" for at in range(0, 48, 4)]
    assert found[0].last == pytest.approx(np.median([1, 0.1, 0.01, 0.001]))


def test_strips__keep_stacks_apart_and_leave_norms_and_embeddings_out():
    run = planted(
        [[1, 2, 3, 4.0]], layers=[0, 0, 0, -1], stacks=["encoder", "decoder", "decoder", "decoder"],
        roles=["q", "q", "norm", "embedding"],
    )  # fmt: skip
    assert {one.label: one.last for one in strips_of(run)} == {"encoder 0": 1.0, "decoder 0": 2.0}


def test_strips__of_a_long_run_stay_short():
    (strip,) = strips_of(planted(np.linspace(1e-3, 1e-1, 1000)[:, None]))
    assert len(strip.cells) <= 48
    assert (strip.cells[0], strip.cells[-1]) == (LEVELS[0], LEVELS[-1])


def test_strips__are_none_where_updates_were_not_recorded():
    assert strips_of(make_run(steps=(0, 1))) == ()


def test_strips__read_what_is_recorded():
    found = strips_of(make_run(steps=(0, 1, 2), what=("weights", "updates")))
    assert [one.label for one in found] == [f"decoder {layer}" for layer in range(4)]
    assert all(one.last > 0 for one in found)
