"""What do the fans and the place of each parameter say about the initializers that apply to it?"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import xarray as xr

from wdyn import schema
from wdyn.analysis.initializers import Facts
from wdyn.schema import Role, parts_from_json

RESIDUAL = frozenset({Role.O, Role.CROSS_O, Role.MLP_DOWN})
"""Roles whose output is added to the residual stream."""

_RECURRENT = frozenset({Role.RNN_IH, Role.RNN_HH})
_GATES = {"LSTM": 4, "GRU": 3}
_NO_KERNEL = (schema.FAN_IN, schema.FAN_OUT, schema.EXPERT, schema.HEAD)


def fans(shape: Sequence[int], dims: Sequence[str]) -> tuple[int, int]:
    """Give (fan_in, fan_out) as `torch.nn.init` counts them: channels times kernel elements; (0, 0) for vectors.

    >>> fans((768, 3072), ("fan_out", "fan_in")), fans((64, 3, 7, 7), ("fan_out", "fan_in", "height", "width"))
    ((3072, 768), (147, 3136))
    """
    size = dict(zip(dims, shape, strict=False))
    if schema.FAN_IN not in size or schema.FAN_OUT not in size:
        return 0, 0
    kernel = math.prod(length for dim, length in size.items() if dim not in _NO_KERNEL)
    return size[schema.FAN_IN] * kernel, size[schema.FAN_OUT] * kernel


def facts_of(table: xr.Dataset) -> dict[str, Facts]:
    """Read the facts about every parameter, by name, from the table of parameters."""
    rows = rows_of(table)
    blocks: dict[str, set[int]] = {}
    for row in rows.values():
        if row["layer"] != schema.NO_LAYER:
            blocks.setdefault(row["stack"], set()).add(row["layer"])
    sizes = {name: fans(json.loads(row["shape"]), json.loads(row["dims"])) for name, row in rows.items()}
    return {name: _facts(name, row, sizes, len(blocks.get(row["stack"], ()))) for name, row in rows.items()}


def facts_of_part(whole: Facts, *, count: int) -> Facts:
    """Give the facts about a slice of a fused weight along its outputs, of `count` values."""
    return replace(whole, fan_out=count // whole.fan_in if whole.fan_in else 0, part_fan_out=0)


def rows_of(table: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Turn the table into one mapping for each name."""
    columns = {str(column): table[column].values.tolist() for column in table.data_vars}
    names = [str(name) for name in table[schema.PARAMETER].values]
    return {name: {column: values[at] for column, values in columns.items()} for at, name in enumerate(names)}


def _facts(name: str, row: Mapping[str, Any], sizes: Mapping[str, tuple[int, int]], layers: int) -> Facts:
    fan_in, fan_out = sizes[name]
    matrix = ".".join([*name.split(".")[:-1], name.split(".")[-1].replace("bias", "weight")])
    return Facts(
        fan_in=fan_in,
        fan_out=fan_out,
        part_fan_out=_part_fan_out(row, fan_out),
        matrix_fan_in=sizes.get(matrix, (0, 0))[0] if row["kind"] == schema.Kind.BIAS else 0,
        layers=layers if row["layer"] != schema.NO_LAYER else 0,
        residual=row["role"] in RESIDUAL,
        output=row["role"] == Role.UNEMBEDDING,
        hidden=_hidden(row),
    )


def _part_fan_out(row: Mapping[str, Any], fan_out: int) -> int:
    parts = parts_from_json(row.get("parts", ""))
    if parts is None or len(set(parts.sizes)) != 1 or fan_out == 0:
        return 0  # a mixture of unequal parts has no one spread
    dims = json.loads(row["dims"])
    return fan_out // len(parts.names) if dims[parts.axis] == schema.FAN_OUT else 0


def _hidden(row: Mapping[str, Any]) -> int:
    shape = json.loads(row["shape"])
    if row["role"] not in _RECURRENT or not shape:
        return 0
    return int(shape[0]) // _GATES.get(row.get("module", ""), 1)
