"""Does the figure of a comparison show curves, bands and dots, and say who ends lowest?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from wdyn.analysis.analyzer import ANALYZER, TOGETHER
from wdyn.plots.compare_runs import answer, smooth
from wdyn.plots.dispatch import plot


def result(losses: dict[str, list[float]], group: list[int], *, moved: bool = True, **attrs: Any) -> xr.Dataset:
    """What `compare_runs` measures, of curves given by hand."""
    curve = np.array(list(losses.values()), dtype=float)
    runs, steps = list(losses), np.arange(curve.shape[1])
    ended = np.isnan(curve[:, -1])
    score = np.where(ended, np.nan, curve[:, -1])
    bands = [curve[np.array(group) == number] for number in range(max(group) + 1)]
    found = xr.Dataset(
        {
            "curve": (("run", "at"), curve),
            "band_mean": (("repeats", "at"), [one.mean(axis=0) for one in bands]),
            "band_min": (("repeats", "at"), [one.min(axis=0) for one in bands]),
            "band_max": (("repeats", "at"), [one.max(axis=0) for one in bands]),
            "score": ("run", score),
            "rank": ("run", 1 + np.array([(np.nan_to_num(score, nan=9e9) < one).sum() for one in score])),
            "group": ("run", group),
            "compared_at": ("run", [int(steps[-1])] * len(runs)),
        },
        {"run": runs, "at": steps.astype(float), "repeats": np.arange(len(bands))},
        {ANALYZER: "compare_runs", TOGETHER: 1, "on": "step", "metric": "loss", "last": 1, **attrs},
    )
    if moved:
        found["moved"] = (("run", "role"), np.arange(2.0 * len(runs)).reshape(-1, 2) + 1)
        found = found.assign_coords(role=["o", "qkv"])
    return found


def drawn(figure: Figure) -> str:
    figure.canvas.draw()
    return " ".join((figure.get_suptitle() or figure.axes[0].get_title(loc="left")).split())


def test_plot__draws_a_band_for_repeats_and_a_line_for_each_group() -> None:
    found = result({"a": [4, 2, 1], "b": [4, 3, 2], "c": [4, 4, 3]}, [0, 0, 1])
    figure = plot(found)
    assert drawn(figure) == "a ends lowest: loss 1, against 2 to 3 of the others"
    curves, dots = figure.axes
    names = [text.get_text() for text in curves.get_legend().get_texts()]
    assert names == ["a, 2 runs of equal settings", "c"]
    mean = next(line for line in curves.lines if line.get_label() == "a, 2 runs of equal settings")
    assert mean.get_ydata().tolist() == [4, 2.5, 1.5]
    (band,) = curves.collections
    assert {1.0, 2.0} <= set(band.get_paths()[0].vertices[:, 1].tolist())
    assert [line.get_xdata().tolist() for line in dots.lines if line.get_marker() == "o"] == [[3.0, 2.0], [6.0, 5.0]]
    assert [tick.get_text() for tick in dots.get_yticklabels()] == ["qkv", "o"]  # qkv moved most


def test_plot__marks_the_end_of_a_run_that_ends_early() -> None:
    figure = plot(result({"a": [4, 2, 1], "b": [4, 3, np.nan]}, [0, 1]))
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in crosses] == [(1.0, 3.0)]
    assert drawn(figure) == "a alone has a loss at its end: 1"


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ({"a": [4, 1], "b": [4, 2]}, "a ends lowest: loss 1, against 2 of b"),
        ({"a": [4, 1], "b": [4, 1]}, "Both runs end at a loss of 1"),
        ({"a": [4, 1], "b": [4, 1], "c": [4, 3]}, "a and 1 more end lowest: loss 1, against up to 3"),
        ({"a": [4, np.nan], "b": [4, np.nan]}, "No run has a loss at its end to compare"),
    ],
)
def test_answer__says_who_ends_lowest(losses: dict[str, list[float]], words: str) -> None:
    assert answer(result(losses, [0] * len(losses))) == words


def test_plot__without_numbers_says_so() -> None:
    figure = plot(result({"a": [np.nan] * 2, "b": [np.nan] * 2}, [0, 1], moved=False))
    assert "No run logged loss." in [text.get_text() for text in figure.axes[0].texts]


def test_plot__takes_hostile_names_and_many_runs() -> None:
    names = ["$x_{", "<img src=x onerror=alert(1)>", *(f"run {at}" for at in range(20))]
    found = result({name: [4.0, 0.01 * at + 0.1] for at, name in enumerate(names)}, list(range(22)), on="$tokens")
    curves = plot(found).axes[0]
    drawn(curves.figure)
    assert curves.get_legend().get_title().get_text() == "14 more in grey"
    assert len(curves.get_legend().get_texts()) == 8
    assert curves.get_yscale() == "log"


def test_plot__on_an_axes_of_the_user_draws_the_curves_alone() -> None:
    ax = Figure().subplots()
    assert plot(result({"a": [4, 1], "b": [4, 2]}, [0, 1]), ax=ax) is ax.figure
    assert ax.get_xlabel() == "step"
    assert "a ends lowest" in ax.get_title(loc="left")


def test_smooth__is_the_moving_median_of_long_curves_and_hides_no_nan() -> None:
    steps = np.arange(400.0)
    noisy = steps + np.where(np.arange(400) % 10 == 0, 1e6, 0.0)
    assert np.abs(smooth(noisy) - steps)[10:-10].max() < 2  # windows of ten, of which one value is far out
    noisy[50:60] = np.nan
    assert np.array_equal(np.isnan(smooth(noisy)), np.isnan(noisy))
    assert np.array_equal(smooth(noisy[:200]), noisy[:200], equal_nan=True)


def test_dots__mark_what_is_not_known_and_do_not_call_it_0() -> None:
    found = result({"a": [4, 2], "b": [4, 3]}, [0, 1])
    found["moved"][1, 0] = np.nan  # o of b
    dots = plot(found).axes[1]
    roles = [tick.get_text() for tick in dots.get_yticklabels()]
    crosses = [y for line in dots.lines if line.get_marker() == "x" for y in line.get_ydata()]
    assert [round(float(y)) for y in crosses] == [roles.index("o")]
    assert dots.get_xlabel().endswith("×: NaN, or not recorded")
    told = [float(x) for line in dots.lines if line.get_marker() == "o" for x in line.get_xdata()]
    assert sorted(x for x in told if not np.isnan(x)) == [1.0, 2.0, 4.0]
