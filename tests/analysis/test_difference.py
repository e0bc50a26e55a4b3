"""Do differences add up by role, layer and group to what the stacked tensors give?"""

import numpy as np
import pytest
import xarray as xr

from wdyn.analysis.difference import everything, summed
from wdyn.errors import InvalidArgument


def table(**columns):
    """Two layers of one role, one of another role outside blocks, and a name that shares the first."""
    base = {
        "role": ["q", "q", "norm", "q"], "stack": ["decoder"] * 4, "layer": [0, 1, -1, 0], "group": [0, 0, 1, 0],
        "kind": ["weight"] * 4, "counted": [True, True, True, False], "numel": [4, 4, 2, 4], "changed": [4, 2, 0, 4],
        "norm_a": [3.0, 4.0, 1.0, 3.0], "norm_b": [3.0, 4.0, 1.0, 3.0], "change": [0.3, 0.4, 0.0, 0.3],
        "dot": [8.9, 15.8, 1.0, 8.9], "max_abs": [0.2, 0.3, 0.0, 0.2], "ulps": [3.0, 9.0, np.nan, 3.0],
        "stable_rank": [2.0, 4.0, np.nan, 2.0], "rank": [2.0, 8.0, np.nan, 2.0], "nans_a": [0] * 4, "infs_a": [0] * 4,
        "nans_b": [0] * 4, "infs_b": [0] * 4,
    } | columns  # fmt: skip
    names = ["h.0.q", "h.1.q", "norm", "shared"]
    return xr.Dataset({name: ("parameter", values) for name, values in base.items()}, {"parameter": names})


def test_summed__adds_squares_once_for_shared_tensors():
    found = summed(table(), by="role").sel(role="q")
    np.testing.assert_allclose(found["norm_a"], 5)
    np.testing.assert_allclose(found["change"], 0.5)
    np.testing.assert_allclose(found["relative"], 0.1)
    np.testing.assert_allclose(found["cosine"], (8.9 + 15.8) / 25)
    assert (found["parameters"], found["numel"], found["changed"], found["ulps"], found["rank"]) == (2, 8, 6, 9, 8)
    assert found["stable_rank"] == 3
    assert found["changed_share"] == 0.75


def test_summed__keeps_the_order_of_the_model_and_names_what_is_outside():
    assert summed(table(), by="layer")["layer"].values.tolist() == ["0", "1", "outside blocks"]
    assert summed(table(stack=["text", "vision", "root", "text"]), by="layer")["layer"].values.tolist() == [
        "text 0", "vision 1", "outside blocks"
    ]  # fmt: skip
    assert summed(table(), by="group")["group"].values.tolist() == ["0", "1"]


def test_summed__shows_a_nan_and_counts_it():
    broken = table(change=[np.nan, 0.4, 0.0, np.nan], nans_b=[2, 0, 0, 2], max_abs=[np.nan, 0.3, 0, np.nan])
    found = summed(broken, by="role")
    assert found["change"].isnull().values.tolist() == [True, False]
    assert found["max_abs"].isnull().values.tolist() == [True, False]
    assert found["nonfinite_b"].values.tolist() == [2, 0]


def test_everything__is_all_roles_together():
    whole = everything(table())
    assert (whole["parameters"], whole["numel"]) == (3, 10)
    np.testing.assert_allclose(whole["norm_a"], np.sqrt(26))


def test_everything__of_nothing_is_nothing():
    whole = everything(table(counted=[False] * 4))
    assert (whole["parameters"], whole["relative"], whole["max_abs"]) == (0, 0, 0)


def test_summed__names_its_ways():
    with pytest.raises(InvalidArgument, match="Cannot add up by 'colour'; the ways are: role, layer, group"):
        summed(table(), by="colour")
