"""Does the figure of the learning rate say the schedule, and draw what was recorded?"""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from wdyn.analysis.learning_rate import learning_rate
from wdyn.plots.dispatch import plot
from wdyn.testing import make_run

STEPS = np.arange(41)
RATES = np.r_[np.nan, np.arange(1, 11) / 10, 1 - np.arange(1, 31) / 30]


def planted(*groups: np.ndarray, gradients: bool = False, **logged: np.ndarray) -> xr.Dataset:
    run = make_run(steps=STEPS.tolist(), width=8, layers=2).copy()
    data = {name: ("step", values) for name, values in logged.items()}
    rates = {"lr": (("step", "group"), np.stack(groups, axis=1))}
    run["scalars"] = xr.DataTree(xr.Dataset(rates | data, {"step": STEPS}))
    if gradients:
        of_weights = run["statistics/weights"].to_dataset()
        run["statistics/gradients"] = xr.DataTree(of_weights)
        run["statistics/updates"] = xr.DataTree(of_weights)
    return learning_rate(run)


def words(figure: Figure) -> str:
    return " ".join(figure.get_suptitle().split())


def labels(figure: Figure) -> list[str]:
    return [ax.get_ylabel() or ax.get_xlabel() for ax in figure.axes]


def test_figure__says_the_schedule_and_draws_it_over_the_rates() -> None:
    result = planted(RATES)
    figure = plot(result)
    assert words(figure) == "The learning rate is a linear warmup of 9 steps, then a line from 1 to 0 at step 39"
    assert labels(figure) == ["learning rate"]
    recorded, fitted = figure.axes[0].get_lines()
    np.testing.assert_array_equal(recorded.get_ydata(), RATES[1:])
    np.testing.assert_allclose(fitted.get_ydata(), RATES[1:], atol=1e-9)


def test_figure__marks_the_steps_that_were_clipped() -> None:
    norm = np.linspace(2, 1, 41)
    coefficient = np.where(STEPS < 10, 0.5, 1.0)
    figure = plot(planted(RATES, grad_norm=norm, clip_coefficient=coefficient))
    assert words(figure).endswith("; 24% of the steps were clipped")
    curve, clipped = figure.axes[1].get_lines()
    np.testing.assert_array_equal(curve.get_ydata(), norm)
    np.testing.assert_array_equal(clipped.get_xdata(), STEPS[:10])


def test_figure__draws_paths_and_owners_where_they_were_recorded() -> None:
    result = planted(RATES, gradients=True)
    figure = plot(result)
    assert labels(figure) == ["learning rate", "share, 0 to 1", "share of the squared gradient norm"]
    assert figure.axes[1].get_lines()[1].get_ydata()[-1] == pytest.approx(1)
    assert max(bar.get_width() for bar in figure.axes[2].patches) <= 1


def test_figure__of_many_schedules_has_no_endless_legend() -> None:
    figure = plot(planted(*(RATES ** (1 + at / 4) for at in range(9))))
    assert figure.axes[0].get_legend() is None
    assert "8 other schedules beside it" in words(figure)


def test_figure__into_an_axes_draws_the_rates_alone() -> None:
    target = Figure().subplots()
    assert plot(planted(RATES, gradients=True), ax=target).axes == [target]
    assert len(target.get_lines()) == 2


def test_figure__of_what_is_no_schedule_draws_no_fit() -> None:
    odd = np.r_[np.nan, np.random.default_rng(0).uniform(1, 2, size=40)]
    figure = plot(planted(odd))
    assert "a schedule of no known kind" in words(figure)
    assert len(figure.axes[0].get_lines()) == 1


def test_figure__marks_norms_that_are_not_finite_and_counts_the_owners_it_leaves_out() -> None:
    norm = np.where(STEPS == 7, np.inf, 1.0)
    figure = plot(planted(RATES, grad_norm=norm))
    (marks,) = [line for ax in figure.axes for line in ax.lines if line.get_label() == "not finite"]
    assert marks.get_xdata().tolist() == [7]
    deep = learning_rate(make_run(layers=12, width=4, steps=range(3), what=("gradients",)))
    assert plot(deep).axes[-1].get_xlabel() == "share of the squared gradient norm, 8 largest of 14"


def test_path__that_ends_at_a_nan_says_where() -> None:
    sick = learning_rate(make_run(layers=2, steps=range(21), what=("updates",), nan_at={"tok.weight": 12}))
    (path,) = [ax for ax in plot(sick).axes if ax.get_ylabel().startswith("share, 0 to 1")]
    assert path.get_xlabel() == "step; after 11 an update was not finite, or not recorded"
    assert path.get_xlim()[1] == 20
