"""How far did groups of parameters move together, and how often were they updated?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.naming import is_adapter
from wdyn.schema import Role

COHORTS = ("frozen", "tuned", "adapters", "embeddings", "norms")
"""Groups of parameters whose movement is summed: what was frozen throughout, then the rest by what it is."""

_EMBEDDINGS = frozenset(
    {
        Role.EMBEDDING,
        Role.POS_EMBEDDING,
        Role.TYPE_EMBEDDING,
        Role.PATCH_EMBEDDING,
        Role.VALUE_EMBEDDING,
        Role.UNEMBEDDING,
    }
)


def cohorts(table: xr.Dataset, never_trained: npt.NDArray[np.bool_]) -> npt.NDArray[np.str_]:
    """Give the cohort of each parameter of the table."""
    each = zip(never_trained, table[schema.PARAMETER].values, table["role"].values, strict=True)
    return np.array(["frozen" if still else _of_tuned(str(name), str(role)) for still, name, role in each], np.str_)


def _of_tuned(name: str, role: str) -> str:
    if is_adapter(name):
        return "adapters"
    return "embeddings" if role in _EMBEDDINGS else "norms" if role == Role.NORM else "tuned"


def update_counts(updates: xr.Dataset | None, of_cohort: xr.DataArray) -> dict[str, xr.DataArray]:
    """Count recorded updates, and those that are not 0, by parameter and by cohort.

    Parameters
    ----------
    updates
        Statistics of the updates; None where they were not recorded.
    of_cohort
        (parameter).
    """
    names = of_cohort[schema.PARAMETER]
    index = xr.IndexVariable("cohort", np.array(COHORTS, dtype=np.str_))
    members = xr.DataArray(
        of_cohort.values == index.values[:, None], {"cohort": index, schema.PARAMETER: names}, ("cohort", names.name)
    )
    nothing = xr.DataArray(np.full(names.size, np.nan), {schema.PARAMETER: names}, dims=schema.PARAMETER)
    counts = {"updates": nothing, "update_rows": nothing}
    if updates is not None:
        read = updates[["l2", "nonfinite"]].load().reindex({schema.PARAMETER: names})
        known = read["nonfinite"].notnull()
        rows = known.sum(schema.STEP).where(known.any(schema.STEP))
        moved = ((read["l2"] > 0) | (read["nonfinite"] > 0)).sum(schema.STEP).where(known.any(schema.STEP))
        counts = {"updates": moved.reset_coords(drop=True), "update_rows": rows.reset_coords(drop=True)}
    sums = {
        f"cohort_{name}": one.where(members).sum(schema.PARAMETER, min_count=1)  # skips those that were not recorded
        for name, one in counts.items()
    }
    return counts | sums | {"cohort_size": members.sum(schema.PARAMETER)}


def by_cohort(result: xr.Dataset) -> dict[str, xr.DataArray]:
    """Add the squares up: the Frobenius norm of all parameters of a cohort as one long vector."""
    first = result["norm"].isel({schema.STEP: slice(1)}).sum(schema.STEP, skipna=False)  # 0 where there is no snapshot
    changes, starts = [], []
    for cohort in COHORTS:
        # Chosen rather than weighted by 0 or 1: a NaN is then seen in its own cohort, and in no other.
        members = {schema.PARAMETER: np.flatnonzero(result["of_cohort"].values == cohort)}
        changes.append(_long_norm(result["change"].isel(members)))
        starts.append(_long_norm(first.isel(members)))
    index = xr.IndexVariable("cohort", np.array(COHORTS, dtype=np.str_))
    change, start = xr.concat(changes, index), xr.concat(starts, index)
    relative = change / start.where(start > 0)
    return {
        "cohort_change": change.transpose(schema.STEP, "cohort"),
        "cohort_relative": relative.transpose(schema.STEP, "cohort"),
    }


def _long_norm(norms: xr.DataArray) -> xr.DataArray:
    """Norm of vectors laid end to end; NaN when there is none, or one is NaN."""
    squares: xr.DataArray = (norms**2).sum(schema.PARAMETER, skipna=False)
    if norms.sizes[schema.PARAMETER] == 0:
        squares = xr.full_like(squares, np.nan)
    return squares**0.5
