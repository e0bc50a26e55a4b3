"""What differs between runs: in their settings, in what was logged, and in their weights?"""

from __future__ import annotations

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis import compare_runs_check
from wdyn.analysis.analyzer import analyzer
from wdyn.analysis.compare_runs_curves import Unaligned, aligned, ends, finals, logged
from wdyn.analysis.compare_runs_settings import differing, repeats, settings
from wdyn.analysis.compare_runs_weights import same_start, twins, weights_at_end
from wdyn.analysis.skipping import skip
from wdyn.errors import InvalidArgument
from wdyn.reading.joining import split_runs

KIND = "repeats"
"""Dimension of the groups of runs that have one and the same settings."""


@analyzer(
    family="CMP",
    question="What differs between the runs?",
    check=compare_runs_check.check,
    codes=compare_runs_check.CODES,
    joint=True,
)
def compare_runs(runs: xr.DataTree, *, on: str = "step", metric: str = "loss", last: int = 5) -> xr.Dataset:
    """What differs between runs: in their settings, in what was logged, and in their weights?

    Curves are compared at common points of one axis. Between two neighbouring values of a run lies a straight line;
    before its first value, after its last one, and where it was silent for more than two usual intervals (a NaN looks
    like that) there is NaN.

    Runs whose recorded settings are all equal count as repeats of one another, such as seeds make; a band shows how
    far they spread. What a recording cannot know, such as the data or the size of a batch, is not among the settings.

    Parameters
    ----------
    runs
        Several runs, from `join_runs`.
    on
        The axis: ``"step"``; ``"lr"``, the learning rate summed over the steps made (of several parameter groups their
        mean, by how many trainable elements each holds); or the name of a logged number that never falls: tokens,
        samples.
    metric
        What to rank by, the smallest first: the name of a logged number. ``"loss"`` also stands for ``train_loss`` and
        ``train/loss``.
    last
        The score of a run is the median of this many last values of the metric.

    Returns
    -------
    Dataset
        Over ``run``, and ``at`` (points of the axis), ``repeats`` (groups of equal settings, from 0), ``logged``,
        ``setting``, ``role`` and ``layer``. The attributes ``on``, ``metric`` and ``last`` repeat what was asked.

        - ``curve`` : (run, at). The metric.
        - ``band_mean``, ``band_min``, ``band_max`` : (repeats, at). Over the runs of a group; NaN where one has none.
        - ``metric_first``, ``metric_last``, ``metric_lowest`` : (run). Of the values that are numbers.
        - ``score`` : (run). Median of the last values; NaN where the metric is silent or NaN at the end.
        - ``rank`` : (run), from 1, the smallest score first; runs without a score share the last place.
        - ``silent_after`` : (run), step. Last value of a metric that became NaN or was no longer logged; else -1.
        - ``steps`` : (run). Last step with a row of what was logged; -1 without one.
        - ``group`` : (run). The group of repeats that it belongs to.
        - ``twin`` : (run). An earlier run whose weights have the same statistics to the last bit at all common steps;
          "" for none.
        - ``same_start`` : (run), bool. Its first weights have the statistics of those of the first run.
        - ``final`` : (run, logged). The last number of everything that was logged.
        - ``settings`` : (run, setting). As text; "" where a run has no such setting.
        - ``differs`` : (setting), bool.
        - ``std``, ``l2``, ``displacement`` : (run, role, layer), unitless. Of the matrices of a role in a layer taken
          together (-1: outside blocks), at the last row not beyond the end of the shortest run: population standard
          deviation, ||W||, and ||W - W_first||, as recorded (``what="displacement"``) or from snapshots, else NaN;
          NaN too where a value of them is NaN or infinite.
        - ``std_difference``, ``l2_difference``, ``displacement_difference`` : (run, role, layer). Minus the first
          run's.
        - ``moved`` : (run, role), unitless. ||W - W_first|| / ||W_first|| of all matrices of a role together.
        - ``moved_in_all`` : (run), unitless. The same of all matrices.
        - ``compared_at`` : (run), step. The row that std, l2 and displacement are of.

        The last five lines are absent where a run has no statistics of its weights.

    Raises
    ------
    InvalidArgument
        `last` is below 1.
    """
    if last < 1:
        raise InvalidArgument(f"last={last}: needed is how many last values to take, 1 or more")
    each = split_runs(runs)
    if len(each) < 2:
        return skip("there is one run, and a comparison needs two", remedy="join them: wdyn.join_runs(a=one, b=other)")
    try:
        told = logged(each, on=on, metric=metric)
    except Unaligned as error:
        return skip(str(error), remedy=error.remedy)
    made = settings(each, told)
    group = repeats(made)
    curve = aligned(told)
    compared = xr.Dataset(
        {"curve": curve, **_bands(curve, group), "final": finals(told), "settings": made, "differs": differing(made)}
    )
    alike = {"group": group, "twin": np.array(twins(each), dtype=np.str_), "same_start": np.array(same_start(each))}
    compared = compared.merge(ends(told, last=last)).merge(weights_at_end(each, told))
    compared = compared.assign({name: (schema.RUN, values) for name, values in alike.items()})
    return compared.assign_attrs(on=on, metric=metric, last=last)


def _bands(curve: xr.DataArray, group: np.ndarray) -> dict[str, xr.DataArray]:
    """Mean, lowest and highest of the runs of each group: where one of them has ended, so has the band."""
    members = [curve.isel({schema.RUN: np.flatnonzero(group == number)}) for number in range(group.max() + 1)]
    index = xr.Variable(KIND, np.arange(len(members)))
    reduced = {
        "band_mean": [one.mean(schema.RUN, skipna=False) for one in members],
        "band_min": [one.min(schema.RUN, skipna=False) for one in members],
        "band_max": [one.max(schema.RUN, skipna=False) for one in members],
    }
    return {name: xr.concat(bands, index) for name, bands in reduced.items()}
