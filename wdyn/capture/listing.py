"""How do addresses become columns: those of the table of parameters, and those of the table of their parts?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from wdyn.naming import part_label
from wdyn.schema import EXPERT, HEAD, PARAMETER, PART, Address, parts_to_json

if TYPE_CHECKING:  # to list what has no parts needs no torch
    from wdyn.capture.partition import Partition

Table = dict[str, npt.NDArray[Any]]
"""Columns of one length, by name; that of the names or labels among them."""

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


def parameter_columns(addresses: Sequence[Address]) -> Table:
    """Lay addresses out over their names, which stand under ``parameter``."""
    return {
        PARAMETER: _strings([address.name for address in addresses]),
        **{name: _strings([read(address) for address in addresses]) for name, read in _TEXT.items()},
        **{name: np.array([getattr(one, name) for one in addresses], dtype=np.int64) for name in _INTEGER},
        "trainable": np.array([address.trainable for address in addresses], dtype=bool),
    }


def part_columns(partitions: Mapping[str, Partition]) -> Table:
    """Lay out the parts of parameters, given by the name of each, over their labels."""
    parts = [(name, part) for name, partition in partitions.items() for part in partition.parts]
    return {
        PART: _strings([part_label(name, part.name) for name, part in parts]),
        PARAMETER: _strings([name for name, _ in parts]),
        "name": _strings([part.name for _, part in parts]),
        "role": _strings([str(part.role) for _, part in parts]),
        EXPERT: np.array([part.expert for _, part in parts], dtype=np.int64),
        HEAD: np.array([part.head for _, part in parts], dtype=np.int64),
    }


def _strings(values: list[str]) -> npt.NDArray[np.str_]:
    return np.array(values, dtype=str if values else "U1")
