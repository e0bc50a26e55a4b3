"""Do tables show the numbers, and no more than can be read?"""

import numpy as np
import pytest
import xarray as xr

from wdyn.reports.numbers import cell, tables


@pytest.fixture
def result():
    return xr.Dataset(
        {
            "growth": (("step", "layer"), [[1.0, 1.0], [1.5, np.nan]]),
            "slope": ((), 0.25),
            "flat": ("layer", [True, False]),
        },
        coords={"step": [0, 600], "layer": [0, 1], "role": ("layer", ["q", "k"])},
    )


def test_tables__make_one_of_each_set_of_dimensions(result):
    assert [table.columns for table in tables(result)] == [
        ("layer", "role", "growth"),
        ("slope",),
        ("layer", "role", "flat"),
    ]


def test_tables__show_the_last_step_of_a_history(result):
    growth = tables(result)[0]
    assert growth.rows == (("0", "q", "1.5"), ("1", "k", "NaN"))
    assert growth.caption == "For each layer, at step 600, the last"


def test_tables__tell_what_is_left_out():
    (table,) = tables(xr.Dataset({"x": ("i", np.arange(100))}), limit=3)
    assert [row[1] for row in table.rows] == ["0", "1", "2"]
    assert table.caption == "For each i, the first 3 of 100 rows"


def test_tables__take_a_history_of_no_steps():
    (table,) = tables(xr.Dataset({"x": ("step", np.zeros(0))}))
    assert table.rows == ()
    assert table.columns == ("step", "x")


def test_tables__know_which_columns_are_numbers(result):
    assert tables(result)[0].numeric == (True, False, True)


@pytest.mark.parametrize(
    ("value", "text"),
    [(np.float64("nan"), "NaN"), (1 / 3, "0.3333"), (-np.inf, "-inf"), (np.bool_(True), "yes"), (7, "7")],
)
def test_cell__hides_nothing(value, text):
    assert cell(value) == text
