"""Which figure shows a result? That of the analyzer that made it."""

from __future__ import annotations

import importlib

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wdyn import schema
from wdyn.analysis.analyzer import ANALYZER, TOGETHER
from wdyn.analysis.skipping import REMEDY, skipped
from wdyn.errors import InvalidArgument

_MODULES = {
    "init_audit": "wdyn.plots.initialization",
    "tied_weights": "wdyn.plots.tying",
    "depth_growth": "wdyn.plots.depth",
    "distribution": "wdyn.plots.distribution",
    "movement": "wdyn.plots.movement",
    "update_sizes": "wdyn.plots.update_sizes",
    "learning_rate": "wdyn.plots.learning_rate",
    "optimizer_state": "wdyn.plots.optimizer_state",
    "adapters": "wdyn.plots.adapters",
    "replicas": "wdyn.plots.replicas",
    "compare_runs": "wdyn.plots.compare_runs",
}


def plot(result: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Draw what an analyzer measured.

    Parameters
    ----------
    result
        What ``wdyn.depth_growth(run)`` and the like return.
    ax
        Where to draw: the main panel alone. By default the whole figure, on a canvas of its own.

    Returns
    -------
    Figure
        The figure that was drawn, or the one that `ax` stands in. pyplot does not hold it: save it with
        ``figure.savefig("growth.png")``; a notebook shows it by itself.

    Raises
    ------
    InvalidArgument
        If the result holds no numbers, several runs, or comes from an analyzer that has no figure.
    """
    name = str(result.attrs.get(ANALYZER, ""))
    if reason := skipped(result):
        raise InvalidArgument(f"Nothing to draw: {name} was skipped, for {reason}. {result.attrs.get(REMEDY, '')}")
    if name not in _MODULES:
        known = ", ".join(_MODULES)
        raise InvalidArgument(f"No figure for a result of '{name or 'no analyzer'}'. There are figures for: {known}.")
    if schema.RUN in result.dims and TOGETHER not in result.attrs:
        first = result[schema.RUN].values[0]
        raise InvalidArgument(f"The result holds {result.sizes[schema.RUN]} runs. Draw one: result.sel(run={first!r})")
    drawn: Figure = importlib.import_module(_MODULES[name]).plot(result, ax=ax)
    return drawn
