"""What did the adapter really change?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis import adapters_check
from wdyn.analysis.adapters_kernels import dora_change, effective_rank, product_spectrum
from wdyn.analysis.analyzer import analyzer
from wdyn.analysis.inputs import states_or_none, statistics_or_none, stored_weights
from wdyn.analysis.skipping import skip
from wdyn.reading.tables import parameters

Floats = npt.NDArray[np.float64]

_A = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?A\.(?P<adapter>.+?)(?P<weight>\.weight)?")
_ADAPTER = "adapter"
_REMEDY = "keep some: wdyn.watch(..., snapshots=wdyn.every(100))"


@dataclass(frozen=True)
class Adapter:
    """The names of one adapter's tensors; a name that the run does not have is there all the same."""

    module: str
    name: str
    a: str
    b: str
    base: str
    magnitude: str
    scale: float

    @property
    def label(self) -> str:
        """How a result names it."""
        return f"{self.module}:{self.name}"


@analyzer(
    family="LOR",
    question="What did the adapter really change?",
    check=adapters_check.check,
    codes=adapters_check.CODES,
)
def adapters(run: xr.DataTree) -> xr.Dataset:
    """What did the adapter really change?

    A LoRA adapter (Hu et al. 2021) adds s B A to a frozen weight W, where PEFT takes s = alpha / r, and
    s = alpha / sqrt(r) for rsLoRA; s was recorded. The norm and the spectrum of the product are those of a matrix of
    r x r, so no product as large as W is made. A DoRA adapter (Liu et al. 2024) changes W to m (W + s B A) / ||W + s B
    A||, each output by a magnitude m of its own, and its change is the whole of that minus W.

    W is as it was first recorded: merging adds the change to it, and unmerging takes it away, and neither alters what
    the adapter does.

    Returns
    -------
    Dataset
        Over ``step``, those of the snapshots, and ``adapter``, named ``"<module>:<name>"``. NaN where a factor was not
        recorded, or is not finite.

        - ``change`` : (step, adapter), unitless. The Frobenius norm of what the adapter adds to W.
        - ``ratio`` : (step, adapter), unitless. change / ||W||; NaN where W is quantized, or was not recorded.
        - ``rank_used`` : (step, adapter), 1 to r. exp of the entropy of the singular values of B A over their sum (the
          effective rank of Roy and Vetterli 2007); NaN where B A is 0.
        - ``still_zero`` : (step, adapter). 1 where a factor is all zeros, so that nothing is added; else 0.
        - ``rank`` : (adapter). r.
        - ``scale`` : (adapter), unitless. s; NaN where it is not known, and with it change and ratio.
        - ``base_trains`` : (adapter), bool. W was trainable at a recorded step.

        Coordinates ``layer`` and ``role`` (adapter), and ``base``, the name of W.
    """
    table, weights = parameters(run), stored_weights(run)
    found = _adapters(table[schema.PARAMETER].values.tolist(), _scales(run))
    if not found:
        return skip("the model has no LoRA adapter", remedy="", concerns=False)
    found = [one for one in found if {one.a, one.b} <= {*weights}]
    if not found:
        return skip("no snapshot of an adapter was kept", remedy=_REMEDY)
    steps = np.unique(np.concatenate([weights[one.a][schema.STEP].values for one in found]))
    columns = [_measured(one, steps, weights) for one in found]
    both = (schema.STEP, _ADAPTER)
    names = ("change", "rank_used", "still_zero")
    values = {name: (both, np.stack([column[name] for column in columns], axis=-1)) for name in names}
    norms = np.array([_base_norm(run, one.base) for one in found])
    result = xr.Dataset(values, _coordinates(found, steps, table))
    ranks = np.array([weights[one.a].shape[1] for one in found])
    return result.assign(
        ratio=result["change"] / xr.DataArray(np.where(norms > 0, norms, np.nan), dims=_ADAPTER),
        rank=(_ADAPTER, ranks),
        scale=(_ADAPTER, np.array([one.scale for one in found])),
        base_trains=(_ADAPTER, _trains(run, found)),
    )


def _adapters(names: Sequence[str], scales: Mapping[str, Mapping[str, Any]]) -> list[Adapter]:
    found = []
    for name in names:
        told = _A.fullmatch(name)
        if told is None:
            continue
        module, adapter, kind = told["module"], told["adapter"], told["embedding"] or ""
        told_scale = scales.get(adapter, {})
        scale = told_scale.get("others", {}).get(module, told_scale.get("scale", np.nan))
        end = told["weight"] or ""
        found.append(
            Adapter(
                module,
                adapter,
                a=name,
                b=f"{module}.lora_{kind}B.{adapter}{end}",
                base=f"{module}.base_layer.weight",
                magnitude=f"{module}.lora_magnitude_vector.{adapter}.weight",
                scale=float(scale),
            )
        )
    return found


def _scales(run: xr.DataTree) -> Mapping[str, Mapping[str, Any]]:
    """Give the factors that the last attempt which tells any has recorded."""
    found: Mapping[str, Mapping[str, Any]] = {}
    for attempt in run.attrs.get(schema.ATTRIBUTES, {}).get("attempts", ()):
        found = attempt.get("adapters", found)
    return found


def _measured(one: Adapter, steps: npt.NDArray[np.int64], weights: Mapping[str, xr.DataArray]) -> dict[str, Floats]:
    columns = {name: np.full(len(steps), np.nan) for name in ("change", "rank_used", "still_zero")}
    for at, step in enumerate(steps):
        a, b = _value(weights, one.a, step), _value(weights, one.b, step)
        if a is None or b is None or not (np.isfinite(a).all() and np.isfinite(b).all()):
            continue
        spectrum = product_spectrum(b, a)
        columns["change"][at] = one.scale * np.sqrt((spectrum**2).sum())
        columns["rank_used"][at] = effective_rank(spectrum)
        columns["still_zero"][at] = not (a.any() and b.any())
        if one.magnitude in weights:
            base, magnitude = _value(weights, one.base, None), _value(weights, one.magnitude, step)
            if base is None or magnitude is None:
                columns["change"][at] = np.nan
            else:
                columns["change"][at] = dora_change(base, b, a, magnitude, scale=one.scale)
    return columns


def _value(weights: Mapping[str, xr.DataArray], name: str, step: int | None) -> Floats | None:
    """Read one snapshot, the first where no step is named; matrices as (fan_out, fan_in); None where there is none."""
    held = weights.get(name)
    if held is None or (step is not None and step not in held.indexes[schema.STEP]):
        return None
    one = held.isel({schema.STEP: 0}) if step is None else held.sel({schema.STEP: step})
    if {schema.FAN_OUT, schema.FAN_IN} == set(one.dims):
        one = one.transpose(schema.FAN_OUT, schema.FAN_IN)
    return np.asarray(one.values, dtype=np.float64)


def _base_norm(run: xr.DataTree, name: str) -> float:
    """Give the norm of a base weight as it was first recorded; NaN where its numbers are codes, not weights."""
    rows, table = statistics_or_none(run), parameters(run)
    if rows is None or name not in rows.indexes[schema.PARAMETER]:
        return np.nan
    if "float" not in str(table["dtype"].sel({schema.PARAMETER: name}).item()):
        return np.nan
    norms = rows["l2"].sel({schema.PARAMETER: name}).dropna(schema.STEP)
    return float(norms[0]) if norms.size else np.nan


def _trains(run: xr.DataTree, found: Sequence[Adapter]) -> npt.NDArray[np.bool_]:
    states = states_or_none(run)
    if states is None:
        return np.zeros(len(found), dtype=bool)
    known = states.indexes[schema.PARAMETER]
    trainable = states[schema.TRAINABLE]
    return np.array(
        [one.base in known and bool((trainable.sel({schema.PARAMETER: one.base}) == 1).any()) for one in found]
    )


def _coordinates(found: Sequence[Adapter], steps: npt.NDArray[np.int64], table: xr.Dataset) -> dict[str, Any]:
    rows = table.sel({schema.PARAMETER: [one.a for one in found]})
    return {
        schema.STEP: steps,
        _ADAPTER: np.array([one.label for one in found], dtype=np.str_),
        "layer": (_ADAPTER, rows["layer"].values),
        "role": (_ADAPTER, rows["role"].values.astype(np.str_)),
        "base": (_ADAPTER, np.array([one.base for one in found], dtype=np.str_)),
    }
