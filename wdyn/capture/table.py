"""How do addresses become the `parameters` table of a run?"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from wdyn.schema import PARAMETER, Address, parts_to_json

_TEXT: dict[str, Callable[[Address], str]] = {
    "path": lambda address: address.path,
    "role": lambda address: str(address.role),
    "kind": lambda address: str(address.kind),
    "stack": lambda address: address.stack,
    "shape": lambda address: json.dumps(list(address.shape)),
    "dims": lambda address: json.dumps(list(address.dims)),
    "dtype": lambda address: address.dtype,
    "tied_to": lambda address: address.tied_to,
    "module": lambda address: address.module,
    "parts": lambda address: parts_to_json(address.parts),
}
_INTEGER = ("layer", "numel", "heads", "kv_heads", "head_dim")


def parameter_table(addresses: Sequence[Address]) -> xr.Dataset:
    """Lay addresses out over the index coordinate ``parameter``.

    Returns
    -------
    Dataset
        ``path role kind stack dtype tied_to module`` : (parameter,), text.
        ``shape dims parts`` : (parameter,), JSON text.
        ``layer numel heads kv_heads head_dim`` : (parameter,), int64. ``trainable`` : (parameter,), bool.
    """
    columns: dict[str, tuple[str, object]] = {}
    for name, read in _TEXT.items():
        columns[name] = (PARAMETER, _strings([read(address) for address in addresses]))
    for name in _INTEGER:
        columns[name] = (PARAMETER, np.array([getattr(address, name) for address in addresses], dtype=np.int64))
    columns["trainable"] = (PARAMETER, np.array([address.trainable for address in addresses], dtype=bool))
    return xr.Dataset(columns, {PARAMETER: _strings([address.name for address in addresses])})


def _strings(values: list[str]) -> np.ndarray:
    return np.array(values, dtype=str if values else "U1")
