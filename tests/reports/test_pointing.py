"""Does what a page says of a cell stand in that cell, and can data not leave the element that it stands in?"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import wdyn
from wdyn.reports.figures import Picture, framed
from wdyn.reports.pointing import Map, embedded, shapes_of
from wdyn.testing import make_run


@pytest.fixture(scope="module")
def run() -> xr.DataTree:
    return make_run(layers=3, width=8, what=("weights", "updates"), steps=(0, 5, 10, 40), growth_by_layer=[3, 2, 1.5])


def cells(maps: tuple[Map, ...]) -> Iterator[tuple[dict, int, float | None]]:
    for one in maps:
        for row, values in zip(one.rows, one.values, strict=True):
            for column, value in zip(one.columns, values, strict=True):
                yield row, column, value


def drawn(result: xr.Dataset) -> Picture:
    return framed(wdyn.plot(result))


def test_maps__hold_the_number_of_each_parameter_at_each_step(run: xr.DataTree) -> None:
    result = wdyn.update_sizes(run)
    told = list(cells(drawn(result).maps))
    assert {row["role"] for row, _, _ in told} >= {"qkv", "o", "mlp_up", "embedding"}
    for row, step, value in told:
        one = result.sel(parameter=row["label"], step=step)
        assert (row["role"], row["layer"]) == (one["role"].item(), one["layer"].item())
        true = one["update_ratio"].item()
        assert value == pytest.approx(true, rel=5e-3) if np.isfinite(true) else value is None


def test_maps__hold_the_number_of_each_role_and_layer(run: xr.DataTree) -> None:
    result = wdyn.depth_growth(run)
    told = list(cells(drawn(result).maps))
    assert {column for _, column, _ in told} == {0, 1, 2}
    for row, layer, value in told:
        assert value == pytest.approx(
            result["growth"].sel(role=row["role"], layer=layer).isel(step=-1).item(), rel=5e-3
        )


@pytest.mark.parametrize("name", ["distribution", "movement", "depth_growth", "update_sizes"])
def test_maps__stand_where_their_figure_draws_them(run: xr.DataTree, name: str) -> None:
    """Each map lies in the picture, borders rise from left to right, and no two lie over one another."""
    maps = drawn(getattr(wdyn, name)(run)).maps
    assert maps
    for one in maps:
        assert len(one.x) == len(one.columns) + 1
        assert len(one.y) == len(one.rows) + 1
        assert 0 < one.x[0] < one.x[-1] < 1
        assert 0 < min(one.y) < max(one.y) < 1
        assert (np.diff(one.x) > 0).all()
        assert (np.diff(one.y) > 0).all()  # the first row is above the others
    corners = [(one.x[0], one.y[0], one.x[-1], one.y[-1]) for one in maps]
    for at, (left, top, right, bottom) in enumerate(corners):
        for x0, y0, x1, y1 in corners[at + 1 :]:
            assert right <= x0 or x1 <= left or bottom <= y0 or y1 <= top


def test_maps__of_a_long_run_hold_every_so_many_steps() -> None:
    run = make_run(layers=2, width=4, what=("weights", "updates"), steps=tuple(range(11)))
    result = wdyn.update_sizes(run)
    result = result.isel({dim: slice(1) for dim in result.dims if dim not in ("step", "parameter")})
    whole = drawn(result).maps
    shifted = [result.assign_coords(step=result.step + 10 * at) for at in range(700)]
    thin = drawn(xr.concat(shifted, "step", data_vars="minimal").assign_attrs(result.attrs)).maps
    assert len(whole[0].columns) == result.sizes["step"] == 10
    assert 20 <= len(thin[0].columns) < 7000
    assert (thin[0].columns[0], thin[0].columns[-1]) == (1, 7000)
    assert sum(len(one.rows) * len(one.columns) for one in thin) <= 40_000


def test_shapes__are_densities_of_each_role(run: xr.DataTree) -> None:
    told = shapes_of(wdyn.distribution(run))
    assert [one["label"] for one in told if one["role"] == "q"] == ["q"]
    for one in told:
        assert one["steps"] == [0, 5, 10, 40]
        for heights in one["y"]:
            assert np.trapezoid(heights, one["x"]) == pytest.approx(1, abs=0.15)


def test_shapes__belong_to_distributions_alone(run: xr.DataTree) -> None:
    assert shapes_of(wdyn.movement(run)) == []


WORDS = st.text(st.sampled_from("</script>&!-\u2028a\"'")) | st.text()


@given(st.recursive(WORDS | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner)))
def test_embedded__stays_in_its_element_and_means_the_same(content: object) -> None:
    written = embedded(content)
    assert not {"<", ">", "&"} & set(written)
    assert json.loads(written) == content


def test_embedded__refuses_what_json_lacks() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded([float("nan")])
