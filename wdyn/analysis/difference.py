"""What do the differences between two models add up to: by role, by layer, by group of the optimizer?"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.errors import InvalidArgument

OUTSIDE: Final = "outside blocks"
WAYS: Final = ("role", "layer", "group")


def summed(result: xr.Dataset, *, by: str) -> xr.Dataset:
    """Add the differences of parameters up; of names that share their tensors, one.

    Parameters
    ----------
    result
        What `wdyn.diff` measured, over ``parameter``.
    by
        ``role``, ``layer`` or ``group``; also ``stack`` or ``kind``.

    Returns
    -------
    Dataset
        Over `by`, in the order of the model: ``parameters numel changed`` counts; ``changed_share``; ``norm_a change``
        : Frobenius norms of all together, and ``relative``, their ratio; ``max_abs ulps`` : the largest; ``cosine`` of
        all together; ``stable_rank`` : the median over the matrices that changed; ``rank`` : the highest; ``nonfinite_a
        nonfinite_b`` : counts of NaN and infinities. NaN where a changed element is NaN, or nothing is to be measured.

    Raises
    ------
    InvalidArgument
        There is no such way to add up.
    """
    if by not in (*WAYS, "stack", "kind"):
        raise InvalidArgument(f"Cannot add up by {by!r}; the ways are: {', '.join((*WAYS, 'stack', 'kind'))}")
    counted = result.isel({schema.PARAMETER: np.flatnonzero(result["counted"].values)})
    labels = _labels(counted, by)
    places = {label: np.flatnonzero(labels == label) for label in dict.fromkeys(labels.tolist())}
    rows = [_sums({str(name): its.values[at] for name, its in counted.items()}) for at in places.values()]
    names = rows[0] if rows else ()
    return xr.Dataset({name: (by, [row[name] for row in rows]) for name in names}, {by: list(places)})


def everything(result: xr.Dataset) -> dict[str, Any]:
    """Give the same for the whole model."""
    at = np.flatnonzero(result["counted"].values)
    return _sums({str(name): its.values[at] for name, its in result.items()})


def _labels(counted: xr.Dataset, by: str) -> npt.NDArray[Any]:
    if by != "layer":
        return np.array([str(one) for one in counted[by].values.tolist()], dtype=str)
    stacks, layers = counted["stack"].values.tolist(), counted["layer"].values.tolist()
    several = len({stack for stack, layer in zip(stacks, layers, strict=True) if layer != schema.NO_LAYER}) > 1
    return np.array(
        [
            OUTSIDE if layer == schema.NO_LAYER else f"{stack} {layer}" if several else str(layer)
            for stack, layer in zip(stacks, layers, strict=True)
        ],
        dtype=str,
    )


def _sums(columns: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    norm_a, norm_b, change = (_norm(columns[name]) for name in ("norm_a", "norm_b", "change"))
    product = norm_a * norm_b
    numel, changed = int(columns["numel"].sum()), int(columns["changed"].sum())
    return {
        "parameters": len(columns["numel"]),
        "numel": numel,
        "changed": changed,
        "changed_share": changed / numel if numel else 0.0,
        "norm_a": norm_a,
        "change": change,
        "relative": 0.0 if change == 0 else change / norm_a if norm_a else np.inf,
        "max_abs": float(columns["max_abs"].max(initial=0.0)),
        # Integers have no ulps, and a NaN is counted beside.
        "ulps": float(np.fmax.reduce(columns["ulps"], initial=np.nan)),
        "cosine": float(np.clip(columns["dot"].sum() / product, -1.0, 1.0)) if product else np.nan,
        # What is no matrix has none.
        "stable_rank": _of_some(np.median, columns["stable_rank"]),
        "rank": _of_some(np.max, columns["rank"]),
        "nonfinite_a": int(columns["nans_a"].sum() + columns["infs_a"].sum()),
        "nonfinite_b": int(columns["nans_b"].sum() + columns["infs_b"].sum()),
    }


def _norm(norms: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(norms).sum()))


def _of_some(reduce: Any, values: npt.NDArray[np.float64]) -> float:
    some = values[~np.isnan(values)]
    return float(reduce(some)) if some.size else np.nan
