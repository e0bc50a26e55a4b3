"""How do the updates of each parameter stand to its weights, to each other, and to the way that it went?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.errors import NoMatch
from wdyn.reading.tables import dataset, parameters, recorded, with_addresses
from wdyn.schema import Quantity

DISPLACEMENT, DRIFT, PATH_LENGTH = "displacement", "drift", "path_length"
_NORM, _NONFINITE = "l2", "nonfinite"


def relations(run: xr.DataTree) -> xr.Dataset:
    """Give what relates updates and weights, labelled with the address of each parameter.

    With W_t the weights after step t, U_t = W_t - W_{t-1} the update of that step, P_t the one that the optimizer's
    rule predicts, W_0 the weights of the first row, and ||.|| the Frobenius norm.

    Parameters
    ----------
    run
        A run, or several joined.

    Returns
    -------
    Dataset
        Each (step, parameter), NaN where it was not recorded, or follows from something that was not:

        ``update_ratio`` : ||U_t|| / ||W_{t-1}||.
        ``weight_cosine`` : of U_t and W_{t-1}; below 0 where an update shrinks the weights.
        ``update_cosine`` : of U_t and the update of the row before.
        ``update_gap`` : steps between these two; 1 where they follow each other.
        ``predicted_ratio``, ``predicted_cosine`` : ||P_t|| / ||U_t||, and the cosine of U_t and P_t.
        ``displacement`` : ||W_t - W_0||.
        ``drift`` : ||W_t - W_0|| / ||W_0||.
        ``path_length`` : the sum of ||U_s|| over the steps s from the first row to t. It exists as long as each of them
        has a row with an update: from the first gap on, such as where a run was resumed, it is NaN.

        Coordinates ``path role kind stack layer`` over parameter.

    Raises
    ------
    NoMatch
        Nothing of all this was recorded.
    """
    table = parameters(run)  # refuses what is no run
    stored = [dataset(run, schema.RELATIONS)] if schema.RELATIONS in run.children else []
    found, away = [*stored], _norms(run, Quantity.DISPLACEMENT)
    if away is not None:
        found.append(away.rename(DISPLACEMENT).to_dataset())
        if (weights := _norms(run, Quantity.WEIGHTS)) is not None:
            found.append((away / _of_each_run(weights, _first_row)).rename(DRIFT).to_dataset())
    updates = _norms(run, Quantity.UPDATES)
    if updates is not None:
        found.append(_of_each_run(updates, _path_length).rename(PATH_LENGTH).to_dataset())
    if not found:
        raise NoMatch(
            "Nothing in this run tells of updates or displacement. Record it with "
            "watch(..., what=('weights', 'updates', 'displacement'))"
        )
    return with_addresses(_complete(xr.merge(found, join="outer", compat="no_conflicts")), table)


def _norms(run: xr.DataTree, quantity: Quantity) -> xr.DataArray | None:
    """Norms of a quantity; NaN where it holds NaN or infinities, since the norm of the finite rest is not its own."""
    group = recorded(run, schema.STATISTICS).get(quantity)
    values = None if group is None else dataset(run, group)
    if values is None or _NORM not in values:
        return None
    norms: xr.DataArray = values[_NORM].compute()
    return norms.where(values[_NONFINITE].compute() == 0) if _NONFINITE in values else norms


def _complete(found: xr.Dataset) -> xr.Dataset:
    """Every relation in its place, and `attempt` as it was before rows of several groups were lined up."""
    sizes = found.sizes
    # Of many rows and parameters it would be large, so it is one number that stands everywhere.
    nan = np.broadcast_to(np.nan, tuple(sizes.values()))
    nothing = xr.DataArray(nan, {dim: found[dim] for dim in sizes}, tuple(sizes))
    names = (*schema.RELATION_NAMES, DISPLACEMENT, DRIFT, PATH_LENGTH)
    whole = xr.Dataset({name: found.get(name, nothing) for name in names})
    attempt = found.coords.get(schema.ATTEMPT)
    if attempt is None:
        return whole
    return whole.assign_coords({schema.ATTEMPT: attempt if attempt.isnull().any() else attempt.astype(np.int64)})


def _of_each_run(norms: xr.DataArray, compute: Callable[[xr.DataArray], xr.DataArray]) -> xr.DataArray:
    """Compute something over the rows that a run itself has, for each of the joined runs."""
    if schema.RUN not in norms.dims:
        return compute(norms)
    each = []
    for label in norms[schema.RUN].values:
        one = norms.sel({schema.RUN: label}, drop=True)
        own = one[schema.ATTEMPT].notnull() if schema.ATTEMPT in one.coords else one.notnull().any(schema.PARAMETER)
        computed = compute(one.isel({schema.STEP: np.flatnonzero(own)}))
        each.append(computed.reindex({schema.STEP: one[schema.STEP]}) if schema.STEP in computed.dims else computed)
    return xr.concat(each, norms[schema.RUN])


def _first_row(norms: xr.DataArray) -> xr.DataArray:
    return norms.isel({schema.STEP: slice(0, 1)}).sum(schema.STEP, min_count=1)  # NaN also where there is no row


def _path_length(norms: xr.DataArray) -> xr.DataArray:
    follows = norms[schema.STEP].diff(schema.STEP, label="upper") == 1
    steps = norms.where(follows.reindex({schema.STEP: norms[schema.STEP]}, fill_value=False))
    at_first = norms[schema.STEP] == norms[schema.STEP][:1].values
    # Never skips a NaN: a sum with gaps would be too small.
    return steps.where(~at_first, 0.0).cumsum(schema.STEP, skipna=False)
