"""Are many parameters told of in few words, in order, and by what was measured of them?"""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from wdyn.analysis.telling import count, names_where, proof, which


@pytest.fixture
def result() -> xr.Dataset:
    names = ["a", "b", "c", "d", "e"]
    roles = ("parameter", ["q", "q", "o", "o", "norm"])
    sizes = ("parameter", [1.0, 5.0, 3.0, 4.0, 2.0])
    return xr.Dataset({"size": sizes, "whole": 3.0}, {"parameter": names, "role": roles})


def test_names__stand_in_their_order_or_the_largest_first(result: xr.Dataset) -> None:
    chosen = np.array([True, True, False, True, False])
    assert names_where(result, chosen) == ["a", "b", "d"]
    assert names_where(result, chosen, by=result["size"]) == ["b", "d", "a"]
    assert names_where(result, np.zeros(5, dtype=bool), by=result["size"]) == []


def test_which__names_three_and_of_more_the_roles(result: xr.Dataset) -> None:
    assert which(result, ["a", "b", "c"]) == "a, b, c"
    assert which(result, ["e", "a", "b", "c"]) == "norm, q, o (such as e, a and 2 more)"


def test_count__speaks_of_one_and_of_several() -> None:
    assert [count(["a"] * number, "norm or bias", "norms and biases") for number in (1, 2)] == [
        "1 norm or bias",
        "2 norms and biases",
    ]
    assert count(["a", "b", "c"], "weight") == "3 weights"


def test_proof__keeps_what_was_measured_of_the_parameters(result: xr.Dataset) -> None:
    kept = proof(result, ["d", "a"])
    assert list(kept.data_vars) == ["size"]
    assert kept["size"].values.tolist() == [4.0, 1.0]
