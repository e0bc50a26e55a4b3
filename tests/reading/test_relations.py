"""Do relations say what their formulas say, and NaN wherever a number is missing?"""

import numpy as np
import pytest
import xarray as xr

from wdyn.errors import InvalidArgument, NoMatch
from wdyn.reading.joining import join_runs
from wdyn.reading.relations import relations

NAN = np.nan


def run(steps, updates, *, displacement=None, weights=None, attempt=None):
    """A run of two parameters, the second with numbers ten times as large."""
    names = np.array(["a", "b"])
    text = {name: ("parameter", np.array(["x", "x"])) for name in ("path", "role", "kind", "stack")}
    rest = {
        **{name: ("parameter", np.array(["", ""])) for name in ("shape", "dims", "dtype", "tied_to", "weights")},
        **{name: ("parameter", np.array([1, 1])) for name in ("layer", "numel", "group")},
        **{name: ("parameter", np.array([True, True])) for name in ("trainable", "in_optimizer")},
    }
    tree = {"parameters": xr.Dataset({**text, **rest}, {"parameter": names})}
    along = {"step": steps, "attempt": ("step", attempt or [0] * len(steps)), "parameter": names}
    norms = {"updates": updates, "displacement": displacement, "weights": weights}
    for quantity, values in norms.items():
        if values is not None:
            l2 = np.outer(values, [1.0, 10.0])
            tree[f"statistics/{quantity}"] = xr.Dataset({"l2": (("step", "parameter"), l2)}, along)
    ratio = np.full((len(steps), 2), 0.5)
    return xr.DataTree.from_dict(
        {**tree, "relations": xr.Dataset({"update_ratio": (("step", "parameter"), ratio)}, along)}
    )


def test_relations__sum_up_the_path():
    found = relations(run([4, 5, 6, 7], [NAN, 1.0, 2.0, 4.0]))
    np.testing.assert_array_equal(found["path_length"].sel(parameter="a"), [0, 1, 3, 7])
    np.testing.assert_array_equal(found["path_length"].sel(parameter="b"), [0, 10, 30, 70])
    assert found["path"].dims == ("parameter",)
    assert found["attempt"].dtype == np.int64


@pytest.mark.parametrize(
    ("steps", "updates", "expected"),
    [
        ([0, 1, 3, 4], [NAN, 1.0, 2.0, 4.0], [0, 1, NAN, NAN]),
        ([0, 1, 2, 3], [NAN, 1.0, NAN, 4.0], [0, 1, NAN, NAN]),
        ([0, 2], [NAN, 1.0], [0, NAN]),
        ([3], [NAN], [0]),
    ],
)
def test_path_length__never_skips_a_step(steps, updates, expected):
    np.testing.assert_array_equal(relations(run(steps, updates))["path_length"].sel(parameter="a"), expected)


def test_relations__have_no_norm_once_an_update_is_not_finite():
    one = run([0, 1, 2, 3], [NAN, 1.0, 2.0, 1.0], displacement=[0.0, 1.0, 3.0, 4.0])
    for quantity in ("updates", "displacement"):
        rows = one[f"statistics/{quantity}"].to_dataset()
        broken = xr.zeros_like(rows["l2"]).where(rows["parameter"] != "a", (rows["step"] >= 2) * 1.0)
        one[f"statistics/{quantity}"] = xr.DataTree(rows.assign(nonfinite=broken.transpose(*rows["l2"].dims)))
    found = relations(one)
    np.testing.assert_array_equal(found["path_length"].sel(parameter="a"), [0, 1, NAN, NAN])
    np.testing.assert_array_equal(found["displacement"].sel(parameter="a"), [0, 1, NAN, NAN])
    assert found.sel(parameter="b")[["path_length", "displacement"]].to_array().notnull().all()


def test_relations__measure_drift_by_the_weights_of_the_first_row():
    found = relations(run([0, 1, 2], [NAN, 1.0, 1.0], displacement=[0.0, 1.0, 3.0], weights=[4.0, 5.0, 6.0]))
    np.testing.assert_array_equal(found["displacement"].sel(parameter="b"), [0, 10, 30])
    np.testing.assert_array_equal(found["drift"].sel(parameter="b"), [0, 0.25, 0.75])


def test_relations__are_nan_where_nothing_was_recorded():
    found = relations(run([0, 1], [NAN, 1.0], displacement=[0.0, 1.0]))
    assert found["drift"].dims == found["predicted_ratio"].dims == ("step", "parameter")
    assert found["drift"].isnull().all()
    assert found["predicted_ratio"].isnull().all()
    np.testing.assert_array_equal(found["update_ratio"], 0.5)


def test_relations__of_joined_runs_are_those_of_each():
    a = run([0, 1, 2], [NAN, 1.0, 2.0], displacement=[0.0, 1.0, 3.0], weights=[4.0, 5.0, 6.0])
    b = run([1, 2, 4], [NAN, 3.0, 5.0], displacement=[0.0, 3.0, 5.0], weights=[2.0, 5.0, 6.0])
    joined = relations(join_runs(a=a, b=b))
    assert joined["step"].values.tolist() == [0, 1, 2, 4]
    for label, one in {"a": a, "b": b}.items():
        expected = relations(one)
        for name, values in expected.items():
            found = joined[name].sel(run=label, step=values["step"]).transpose(*values.dims)
            np.testing.assert_array_equal(found, values, err_msg=f"{label} {name}")
        absent = joined["path_length"].sel(run=label).drop_sel(step=expected["step"].values)
        assert absent.isnull().all()


def test_relations__say_what_is_missing():
    bare = run([0], [NAN]).drop_nodes(["relations", "statistics"])
    with pytest.raises(NoMatch, match=r"Nothing in this run tells of updates or displacement\. Record it with"):
        relations(bare)
    with pytest.raises(InvalidArgument, match=r"open it with wdyn\.open_run"):
        relations("run.zarr")
