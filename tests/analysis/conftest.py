"""Runs built by hand, in memory, for the analyzers: every number comes from float64 numpy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import xarray as xr

from wdyn import schema


@dataclass(frozen=True)
class Planted:
    """One parameter: `values` has a leading step axis; `tied_to` names share those of another."""

    name: str
    role: str
    values: Any
    kind: str = "weight"
    layer: int = -1
    stack: str = "decoder"
    dims: tuple[str, ...] = ()
    tied_to: str = ""
    trainable: bool = True
    in_optimizer: bool = True
    parts: schema.Parts | None = None
    module: str = "Linear"
    dtype: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def array(self) -> np.ndarray:
        return np.asarray(self.values)

    @property
    def axes(self) -> tuple[str, ...]:
        if self.dims:
            return self.dims
        rank = self.array.ndim - 1
        return {0: (), 1: ("fan_out",), 2: ("fan_out", "fan_in")}.get(rank) or tuple(f"axis_{i}" for i in range(rank))

    @property
    def path(self) -> str:
        return self.name.replace(f".{self.layer}.", ".")


def _statistics(values: np.ndarray) -> dict[str, float]:
    flat = np.asarray(values).reshape(-1)
    if flat.dtype.kind == "c":
        return {}
    flat = flat.astype(np.float64)
    finite = flat[np.isfinite(flat)]
    counts = {
        "count": flat.size,
        "zeros": (flat == 0).sum(),
        "nonfinite": flat.size - finite.size,
        "nans": np.isnan(flat).sum(),
        "infs": np.isinf(flat).sum(),
    }
    if finite.size == 0:
        return counts
    centred = finite - finite.mean()
    std = finite.std()
    moment = {3: np.nan, 4: np.nan} if std == 0 else {k: np.mean((centred / std) ** k) for k in (3, 4)}
    return counts | {
        "mean": finite.mean(),
        "std": std,
        "rms": np.sqrt(np.mean(finite**2)),
        "min": finite.min(),
        "max": finite.max(),
        "abs_max": np.abs(finite).max(),
        "l1": np.abs(finite).sum(),
        "l2": np.sqrt((finite**2).sum()),
        "skewness": moment[3],
        "kurtosis": moment[4],
    }


def _table(planted: Sequence[Planted], slugs: Mapping[str, str]) -> xr.Dataset:
    columns: dict[str, list[Any]] = {
        "path": [p.path for p in planted],
        "role": [p.role for p in planted],
        "kind": [p.kind for p in planted],
        "stack": [p.stack for p in planted],
        "layer": [p.layer for p in planted],
        "shape": [json.dumps(p.array.shape[1:]) for p in planted],
        "dims": [json.dumps(p.axes) for p in planted],
        "dtype": [p.dtype or p.array.dtype.name for p in planted],
        "numel": [p.array[0].size for p in planted],
        "trainable": [p.trainable for p in planted],
        "tied_to": [p.tied_to for p in planted],
        "in_optimizer": [p.in_optimizer for p in planted],
        "group": [0 if p.in_optimizer else -1 for p in planted],
        "module": [p.module for p in planted],
        "parts": [schema.parts_to_json(p.parts) for p in planted],
        "heads": [0] * len(planted),
        "kv_heads": [0] * len(planted),
        "head_dim": [0] * len(planted),
        "weights": [slugs.get(p.name, "") for p in planted],
    }
    return xr.Dataset(
        {name: ("parameter", np.asarray(values)) for name, values in columns.items()},
        {"parameter": np.asarray([p.name for p in planted])},
    )


def _weights(
    planted: Sequence[Planted], steps: np.ndarray, rows: np.ndarray
) -> tuple[dict[str, xr.Dataset], dict[str, str]]:
    groups: dict[tuple[Any, ...], list[Planted]] = {}
    for p in planted:
        if not p.tied_to:
            alone = p.name if p.layer == -1 else ""
            groups.setdefault((p.path, p.stack, p.array.shape, p.array.dtype, alone), []).append(p)
    nodes, slugs = {}, {}
    for number, members in enumerate(groups.values()):
        slug, first = f"array-{number:04d}", members[0]
        names = [p.name for p in members]
        values = np.stack([p.array[rows] for p in members], axis=1) if first.layer != -1 else first.array[rows]
        dims = ("step", "layer", *first.axes) if first.layer != -1 else ("step", *first.axes)
        coords = {"step": steps[rows], "attempt": ("step", np.zeros(rows.sum(), int))}
        if first.layer != -1:
            coords["layer"] = [p.layer for p in members]
        layers = [] if first.layer == -1 else [p.layer for p in members]
        about = {"path": first.path, "role": first.role, "stack": first.stack, "names": names, "layers": layers}
        nodes[slug] = xr.Dataset({"value": (dims, values)}, coords, attrs={"wdyn": about})
        slugs |= dict.fromkeys(names, slug)
    return nodes, slugs


def _states(planted: Sequence[Planted], steps: np.ndarray) -> xr.Dataset:
    """Share and trainable over time, from the table; a test plants a change with `assign`."""
    names = [p.name for p in planted]
    shares = [names.index(p.tied_to) if p.tied_to else at for at, p in enumerate(planted)]
    columns = {
        "shares_with": shares,
        "trainable": [int(p.trainable) for p in planted],
        "group": [0 if p.in_optimizer else -1 for p in planted],
    }
    data = {
        name: (("step", "parameter"), np.tile(np.asarray(v, float), (len(steps), 1))) for name, v in columns.items()
    }
    return xr.Dataset(data, {"step": steps, "parameter": names, "attempt": ("step", np.zeros(len(steps), int))})


def build(
    planted: Sequence[Planted], *, steps: Sequence[int] = (0,), snapshots: Sequence[int] | None = None
) -> xr.DataTree:
    """Lay planted parameters out as an opened run."""
    at = np.asarray(steps)
    by_name = {p.name: p for p in planted}
    nodes, slugs = _weights(planted, at, np.isin(at, at if snapshots is None else snapshots))
    measured = [[_statistics(by_name[p.tied_to or p.name].array[row]) for p in planted] for row in range(len(at))]
    statistics = xr.Dataset(
        {
            name: (("step", "parameter"), [[cell.get(name, np.nan) for cell in row] for row in measured])
            for name in schema.STATISTIC_NAMES
        },
        {"step": at, "parameter": [p.name for p in planted], "attempt": ("step", np.zeros(len(at), int))},
    )
    groups = {f"/weights/{slug}": node for slug, node in nodes.items() if node.sizes["step"]}
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs={"wdyn": {"format": 1}}),
            "/parameters": _table(planted, slugs),
            "/statistics/weights": statistics,
            "/states": _states(planted, at),
            **groups,
        }
    )


@pytest.fixture
def plant() -> type[Planted]:
    return Planted


@pytest.fixture
def tree() -> Callable[..., xr.DataTree]:
    return build
