"""Does init_audit use the parts and the histograms that a watch recorded?"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose
from torch import nn

import wdyn

WIDTH = 64


class Attention(nn.Module):
    """Two layers, each with one fused q, k, v (grouped: twice as many rows of q) and a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({"qkv_proj": nn.Linear(WIDTH, 2 * WIDTH, bias=False), "o_proj": nn.Linear(WIDTH, WIDTH)})
            for _ in range(2)
        )


def recorded(fill: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], object], to: Path) -> xr.DataTree:
    """Fill q, k and v of both layers, and watch them before the first step."""
    torch.manual_seed(0)
    model = Attention()
    with torch.no_grad():
        for layer in model.layers:
            fill(*layer["qkv_proj"].weight.split([WIDTH, WIDTH // 2, WIDTH // 2]))
    split = {"*qkv_proj.weight": f"q:{WIDTH},k:{WIDTH // 2},v:{WIDTH // 2}"}
    with wdyn.watch(model, to=to, every=1, snapshots=None, parts=split):
        pass
    return wdyn.open_run(to)


def fused(run: xr.DataTree) -> xr.Dataset:
    return wdyn.init_audit(run).sel(parameter=["layers.0.qkv_proj.weight", "layers.1.qkv_proj.weight"])


def test_parts__filled_by_rules_of_their_own_are_named_each(place: Path) -> None:
    def fill(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        nn.init.normal_(q, std=0.02), nn.init.normal_(k, std=0.02), nn.init.zeros_(v)

    result = fused(recorded(fill, place))
    assert set(result["rule"].values) == {"q, k: normal(0.02); v: zeros"}
    assert set(result["verdict"].values) == {"fits"}
    assert_allclose(result["expected_std"], 0.02 * math.sqrt(3 / 4))
    # Three quarters are drawn, one quarter is not: std^2 = 3/4 s^2, so d std = 3/4 s / std ds.
    assert_allclose(result["standard_error"], math.sqrt(3 / 4) * 0.02 / np.sqrt(2 * 3 / 4 * result["count"]))
    assert (abs(result["z"]) < 4).all()


def test_parts__of_unequal_size_follow_xavier_each_with_fans_of_its_own(place: Path) -> None:
    result = fused(recorded(lambda *parts: [nn.init.xavier_uniform_(one) for one in parts], place))
    assert set(result["rule"].values) == {"q, k, v: xavier_uniform"}


def test_parts__that_one_rule_fits_as_a_whole_are_not_told_apart(place: Path) -> None:
    result = fused(recorded(lambda *parts: [nn.init.normal_(one, std=0.02) for one in parts], place))
    assert set(result["rule"].values) == {"normal(0.02)"}


def test_parts__of_which_one_fits_nothing_leave_the_whole_unknown(place: Path) -> None:
    def fill(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        nn.init.normal_(q, std=0.02), nn.init.normal_(k, std=0.02), nn.init.normal_(v, std=0.37)

    assert set(fused(recorded(fill, place))["verdict"].values) == {"unknown"}


def lattice(*parts: torch.Tensor) -> None:
    """Normal values rounded to multiples of half their std: moments and reach of a normal, and a few values only."""
    random = np.random.default_rng(0)
    for one in parts:
        rounded = np.round(2 * random.standard_normal(one.shape)) / 2
        one.copy_(torch.from_numpy(0.02 * rounded / rounded.std()))


@pytest.mark.parametrize("histograms", [True, False])
def test_histogram__refuses_a_normal_of_a_few_values(histograms: bool, place: Path) -> None:
    run = recorded(lattice, place).copy()
    if not histograms:
        del run["histograms"]
    assert set(fused(run)["rule"].values) == ({""} if histograms else {"normal(0.02)"})
