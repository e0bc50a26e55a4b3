"""Which parameters does a run have, and what are their statistics?"""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr

from wdyn import schema
from wdyn.errors import InvalidArgument, NoMatch, StepNotRecorded

ADDRESS_COORDINATES = ("path", "role", "kind", "stack", "layer")


def parameters(run: xr.DataTree) -> xr.Dataset:
    """Give the table of parameters, tied names too.

    Returns
    -------
    Dataset
        Over ``parameter`` (full names): ``path role kind stack`` (text), ``layer`` (-1 outside blocks), ``shape`` and
        ``dims`` (JSON lists), ``dtype``, ``numel``, ``trainable``, ``tied_to`` ("" or the name it shares its storage
        with), ``in_optimizer``, ``group`` (-1 none), ``module``, ``parts`` (JSON, "" if not fused), ``heads``,
        ``kv_heads``, ``head_dim`` (0 unknown), ``weights`` (its array under ``weights/``).
    """
    return dataset(run, schema.PARAMETERS).load()


def statistics(run: xr.DataTree, quantity: str = schema.Quantity.WEIGHTS) -> xr.Dataset:
    """Give every recorded statistic of a quantity, labelled with the address of each parameter.

    Parameters
    ----------
    run
        A run, or several joined.
    quantity
        ``weights``, ``updates`` or ``gradients``.

    Returns
    -------
    Dataset
        ``mean std rms min max abs_max l1 l2 skewness kurtosis`` and the counts ``count zeros nonfinite nans infs``,
        each (step, parameter), NaN where not recorded; coordinates ``path role kind stack layer`` over parameter.
        std is the population's; kurtosis is 3 for a normal distribution.

    Raises
    ------
    NoMatch
        The quantity was not recorded.
    """
    check_run(run)
    recorded = [str(name) for name in run[schema.STATISTICS].children] if schema.STATISTICS in run.children else []
    if quantity not in recorded:
        raise NoMatch(
            f"No statistics of {str(quantity)!r} in this run; it has: {', '.join(recorded) or 'none'}. "
            f"Record them with watch(..., what=({str(quantity)!r},))"
        )
    values = dataset(run, f"{schema.STATISTICS}/{quantity}")
    table = parameters(run).sel({schema.PARAMETER: values[schema.PARAMETER]})
    return values.assign_coords({name: table[name].variable for name in ADDRESS_COORDINATES})


def check_run(run: object) -> None:
    """Refuse what is no opened run, such as its path.

    Raises
    ------
    InvalidArgument
        It is none.
    """
    if not isinstance(run, xr.DataTree):
        raise InvalidArgument(f"Needed is an opened run, not {run!r}; open it with wdyn.open_run(path)")


def dataset(run: xr.DataTree, group: str) -> xr.Dataset:
    """Give one group of a run as a Dataset of its own.

    Raises
    ------
    InvalidArgument
        It is no run, but the path of one, say.
    NoMatch
        The run has no such group.
    """
    check_run(run)
    try:
        node = run[group]
    except KeyError as error:
        raise NoMatch(f"This run has no group {group!r}; it has: {', '.join(map(str, run.children))}") from error
    if not isinstance(node, xr.DataTree):
        raise NoMatch(f"{group!r} is an array, not a group of a run")
    return node.to_dataset(inherit=False)


def no_snapshot(step: int, *, have: Iterable[int]) -> StepNotRecorded:
    """Make the error for a step at which no snapshot was taken; it names the nearest ones."""
    nearest = sorted(sorted(have, key=lambda at: abs(at - step))[:3])
    return StepNotRecorded(f"No snapshot at step {step}; the nearest are at {', '.join(map(str, nearest))}")
