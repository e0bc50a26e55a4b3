"""How do addresses become the `parameters` table of a run?"""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from wdyn.capture.listing import parameter_columns
from wdyn.schema import PARAMETER, Address


def parameter_table(addresses: Sequence[Address]) -> xr.Dataset:
    """Lay addresses out over the index coordinate ``parameter``.

    Returns
    -------
    Dataset
        ``path role kind stack dtype tied_to module`` : (parameter,), text.
        ``shape dims parts`` : (parameter,), JSON text.
        ``layer numel heads kv_heads head_dim`` : (parameter,), int64. ``trainable`` : (parameter,), bool.
    """
    columns = parameter_columns(addresses)
    names = columns.pop(PARAMETER)
    return xr.Dataset({name: (PARAMETER, values) for name, values in columns.items()}, {PARAMETER: names})
