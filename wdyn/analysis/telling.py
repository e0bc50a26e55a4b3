"""How does a finding tell of many parameters in few words, and what of a result proves it?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.naming import examples

_NAMED = 3  # parameters that a sentence may name


def names_where(result: xr.Dataset, where: npt.NDArray[np.bool_], *, by: xr.DataArray | None = None) -> list[str]:
    """Name the parameters at which a mask is true, the one with the largest value of `by` first."""
    chosen = np.flatnonzero(where)
    if by is not None:
        chosen = chosen[np.argsort(-by.values[chosen], kind="stable")]
    return [str(name) for name in result[schema.PARAMETER].values[chosen]]


def count(names: list[str], noun: str, plural: str = "") -> str:
    """Say how many there are.

    >>> count(["h.0.weight"], "matrix", "matrices"), count(["a", "b"], "frozen weight")
    ('1 matrix', '2 frozen weights')
    """
    return f"1 {noun}" if len(names) == 1 else f"{len(names)} {plural or noun + 's'}"


def which(result: xr.Dataset, names: list[str]) -> str:
    """Name a few parameters; many by their roles, with two as examples."""
    if len(names) <= _NAMED:
        return examples(names)
    roles = result["role"].sel({schema.PARAMETER: names}).values.tolist()
    return f"{examples(list(dict.fromkeys(roles)), 4)} (such as {examples(names, 2)})"


def proof(result: xr.Dataset, names: list[str]) -> xr.Dataset:
    """Keep what was measured of these parameters."""
    over_names = [name for name, values in result.data_vars.items() if schema.PARAMETER in values.dims]
    return result[over_names].sel({schema.PARAMETER: names})
