"""Is every curve there that a person looks for, and no other?"""

import numpy as np
import xarray as xr

from wdyn.reading.curves import curves, silent_after

NAN = float("nan")


def test_curves__give_the_loss_first_the_rate_next_and_no_clocks():
    scalars = xr.Dataset(
        {
            "wall_time": ("step", [1.0, 2.0]),
            "grad_norm": ("step", [1.0, 2.0]),
            "weight_decay": (("step", "group"), np.ones((2, 2))),
            "lr": (("step", "group"), [[NAN, NAN], [0.1, 0.1]]),
            "loss": ("step", [1.0, 2.0]),
            "capture_seconds": ("step", [1.0, 2.0]),
            "write_seconds": ("step", [1.0, 2.0]),
        }
    )
    assert list(curves(scalars)) == ["loss", "lr", "grad_norm"]


def test_curves__tell_groups_with_different_rates_apart():
    found = curves(xr.Dataset({"lr": (("step", "group"), [[0.1, 0.2], [0.3, 0.4]])}))
    assert {name: curve.values.tolist() for name, curve in found.items()} == {
        "lr, group 0": [0.1, 0.3],
        "lr, group 1": [0.2, 0.4],
    }


def test_curves__have_the_name_that_was_logged():
    named = xr.DataArray([1.0, 2.0], dims="step", attrs={"long_name": "train/loss"})
    assert list(curves(xr.Dataset({"accuracy": ("step", [1.0, 2.0]), "train_loss": named}))) == [
        "train/loss",
        "accuracy",
    ]


def test_silent_after__tells_a_curve_that_ends_from_one_that_is_logged_now_and_then():
    def curve(values):
        return xr.DataArray(values, {"step": np.arange(len(values))}, dims="step")

    assert silent_after(curve([1.0, 2.0, 3.0, NAN, NAN, NAN])) == 2
    assert silent_after(curve([1.0, NAN, NAN, 2.0, NAN, NAN, 3.0, NAN, NAN])) == -1
    assert silent_after(curve([1.0, NAN, NAN, NAN])) == -1
    assert silent_after(curve([NAN, NAN])) == -1
