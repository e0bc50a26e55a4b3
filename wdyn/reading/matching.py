"""Which rows of the table of parameters does a person mean by role, path, kind, stack and layer?"""

from __future__ import annotations

import fnmatch
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.errors import NoMatch
from wdyn.naming import closest, is_adapter
from wdyn.schema import has_role, parts_from_json

Table = Mapping[Hashable, xr.Variable]
"""The columns of the table of parameters, each read when it is asked for."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Wanted:
    """What to look for; None is anything."""

    role: str | None = None
    path: str | None = None
    kind: str | None = "weight"
    """Not asked for where a path is."""
    stack: str | None = None
    layer: int | list[int] | None = None
    fused: bool = True
    """Whether a fused weight has the roles of its parts, too."""

    @property
    def anything(self) -> bool:
        """Whether every parameter fits."""
        return all(one is None for one in (self.role, self.path, self.kind, self.stack, self.layer))


def matching(table: Table, wanted: Wanted) -> npt.NDArray[np.intp]:
    """Give the positions of the rows that fit.

    Raises
    ------
    NoMatch
        Nothing fits; the message tells what is there.
    """
    fits = np.ones(len(table[schema.PARAMETER]), dtype=bool)
    if wanted.path is not None:
        fits = _fits_path(table, wanted.path)
    elif wanted.kind is not None:
        fits = table["kind"].values == wanted.kind
    if wanted.role is not None:
        fits = fits & _fits_role(table, wanted)
    if wanted.stack is not None:
        fits = fits & (table["stack"].values == wanted.stack)
    if wanted.path is None and wanted.role is not None:
        fits = _before_adapters(table, fits)
    if not fits.any():
        raise NoMatch(_what_is_there(table, wanted))
    layers = table["layer"].values
    if wanted.layer is not None and (layers[fits] != schema.NO_LAYER).any():
        have = sorted({int(layer) for layer in layers[fits]})
        missing = [layer for layer in np.atleast_1d(wanted.layer).tolist() if layer not in have]
        if missing:
            raise NoMatch(f"No layer {missing[0]} {_asked(wanted)}; the layers that do: {have}")
        fits = fits & np.isin(layers, wanted.layer)
    return np.flatnonzero(fits)


def _before_adapters(table: Table, fits: Mask) -> Mask:
    """Of a matrix and its adapter, which have one role, take the matrix: who means the adapter says so by its path."""
    adapters = np.array([is_adapter(name) for name in table[schema.PARAMETER].values.tolist()], dtype=bool)
    return fits & ~adapters if (fits & ~adapters).any() else fits


def _fits_path(table: Table, pattern: str) -> Mask:
    known = _paths_and_names(table)
    exact = np.array([pattern in pair for pair in known], dtype=bool)
    if exact.any():  # a name may itself have the letters of a pattern
        return exact
    return np.array([any(fnmatch.fnmatchcase(text, pattern) for text in pair) for pair in known], dtype=bool)


def _fits_role(table: Table, wanted: Wanted) -> Mask:
    role, own = str(wanted.role), table["role"].values.tolist()
    if not wanted.fused:
        return np.array([mine == role for mine in own], dtype=bool)
    fused = [parts_from_json(str(parts)) for parts in table["parts"].values]
    return np.array([has_role(role, own=mine, parts=its) for mine, its in zip(own, fused, strict=True)], dtype=bool)


def _paths_and_names(table: Table) -> list[tuple[str, str]]:
    return list(zip(table["path"].values.tolist(), table[schema.PARAMETER].values.tolist(), strict=True))


def _asked(wanted: Wanted) -> str:
    return "has such a parameter" if wanted.role is wanted.path is None else f"has {wanted.role or wanted.path!r}"


def _what_is_there(table: Table, wanted: Wanted) -> str:
    where = f" in stack {wanted.stack!r}" if wanted.stack is not None else ""
    if wanted.path is not None:
        near = closest(wanted.path, {text for pair in _paths_and_names(table) for text in pair})
        return (
            f"No parameter matches {wanted.path!r}{where}. Closest: {', '.join(map(repr, near)) or 'none'}. "
            f"List them with: wdyn info RUN"
        )
    what = wanted.kind or "parameter"
    if wanted.role is None:
        stands = sorted(set(zip(table["stack"].values.tolist(), table["kind"].values.tolist(), strict=True)))
        return f"No {what}{where} in this run; it has: {', '.join(f'{kind} in {stack}' for stack, kind in stands)}"
    of_kind = [wanted.kind in (None, kind) for kind in table["kind"].values.tolist()]
    roles = sorted(set(table["role"].values[of_kind].tolist()))
    text = f"No {what} has role {wanted.role!r}{where}. Roles in this run: {', '.join(roles)}"
    part_of_some = not wanted.fused and _fits_role(table, replace(wanted, fused=True)).any()
    return f"{text}. It is a part of fused weights: ask for it with parts=True" if part_of_some else text
