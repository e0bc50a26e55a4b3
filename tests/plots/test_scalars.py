"""Does the figure show what was logged, and where training went on?"""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from wdyn.plots.scalars import answer, plot, resume_points

STEPS = np.arange(11)


def scalars(**curves):
    data = {name: ("step", np.asarray(values, dtype=float)) for name, values in curves.items()}
    coords = {"step": STEPS, "attempt": ("step", np.where(STEPS > 6, 1, 0))}
    data |= {"lr": (("step", "group"), np.full((11, 2), 1e-3)), "wall_time": ("step", STEPS * 1.0)}
    return xr.Dataset(data, coords=coords)


def labels(figure):
    return [axes.get_ylabel() for axes in figure.axes]


def test_plot__draws_the_loss_above_the_rate_above_the_rest():
    figure = plot(scalars(grad_norm=STEPS, loss=np.linspace(4.61, 2.21, 11), accuracy=STEPS))
    assert labels(figure) == ["loss", "learning rate", "grad_norm", "accuracy"]
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), np.linspace(4.61, 2.21, 11))
    assert figure.get_suptitle() == "loss fell from 4.61 to 2.21"


def test_plot__marks_in_every_panel_where_an_attempt_went_on():
    figure = plot(scalars(loss=STEPS, grad_norm=STEPS))
    assert all(7 in axes.lines[-1].get_xdata() for axes in figure.axes)
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["attempt 1"]
    assert resume_points(scalars(loss=STEPS)) == {1: 7}


def test_plot__draws_six_small_panels_at_most():
    figure = plot(scalars(loss=STEPS, **{f"metric_{number}": STEPS for number in range(9)}))
    assert labels(figure) == ["loss", "learning rate", *(f"metric_{number}" for number in range(6))]


def test_plot__leaves_out_steps_without_a_value():
    sparse = np.where(STEPS % 5 == 0, STEPS, np.nan)
    (line,) = plot(scalars(loss=sparse).drop_vars(["lr", "attempt"])).axes[0].lines
    assert line.get_xdata().tolist() == [0, 5, 10]


def test_plot__needs_no_loss():
    assert labels(plot(scalars(accuracy=STEPS))) == ["accuracy", "learning rate"]
    assert labels(plot(scalars())) == ["learning rate"]


def test_plot__says_so_where_nothing_was_logged():
    figure = plot(xr.Dataset(coords={"step": STEPS}))
    assert figure.get_suptitle() == "Nothing was logged"
    assert "w.log" in figure.axes[0].texts[0].get_text()


def test_plot__draws_its_main_panel_where_it_is_told():
    own = Figure()
    axes = own.subplots()
    assert plot(scalars(loss=STEPS, grad_norm=STEPS), ax=axes) is own
    assert own.axes == [axes]
    assert axes.get_title(loc="left") == "loss rose from 0 to 10"


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (np.full(11, 3.0), "loss began and ended at 3"),
        ([1, 2, 3, 4, *[np.nan] * 7], "loss rose from 1 to 4, and is NaN or not logged after step 3"),
    ],
)
def test_answer__says_how_the_loss_went(loss, words):
    assert answer(scalars(loss=loss)) == words
