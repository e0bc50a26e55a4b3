"""Does one line tell how a curve went?"""

import numpy as np
import pytest
import xarray as xr

from wdyn.reports.logged import Logged, lines, logged

NAN = float("nan")


def scalars(**curves):
    length = len(next(iter(curves.values())))
    data = {name: ("step", np.asarray(values, dtype=float)) for name, values in curves.items()}
    return xr.Dataset(data, coords={"step": np.arange(length)})


def test_logged__gives_ends_and_extremes_of_the_values_that_are_there():
    (one,) = logged(scalars(loss=[NAN, 4.61, 9.0, NAN, 1.0, 2.21, NAN]))
    assert (one.name, one.count, one.first, one.last, one.min, one.max) == ("loss", 4, 4.61, 2.21, 1.0, 9.0)
    assert one.words == "4.61 → 2.21"


def test_logged__says_that_a_loss_became_nan():
    (one,) = logged(scalars(loss=[4.0] * 10 + [NAN] * 5))
    assert one.words == "4 → 4, NaN or not logged after step 9"


@pytest.mark.parametrize(
    ("values", "spark"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8], "▁▂▃▄▅▆▇█"),
        ([2, 1], "█▁"),
        ([3, 3, 3], "▁▁▁"),
        ([0, np.inf, 1, -np.inf], "▁██▁"),
        ([np.inf], ""),
    ],
)
def test_logged__draws_the_shape(values, spark):
    assert logged(scalars(loss=values))[0].spark == spark


def test_logged__draws_a_long_curve_in_one_line():
    assert logged(scalars(loss=np.linspace(1, 0, 5000)))[0].spark == "███▇▇▇▆▆▆▅▅▅▄▄▄▃▃▃▂▂▂▁▁▁"


def test_lines__say_what_holds_no_number():
    assert lines(logged(scalars(loss=[NAN, NAN]))) == {"loss": "NaN throughout"}


def test_lines__are_as_many_as_one_reads():
    told = lines(Logged(f"metric_{number}") for number in range(40))
    assert len(told) == 13
    assert told["…"] == "and 28 more"
