"""Do the layers widen alike, or does growth depend on depth?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis import depth_check
from wdyn.analysis.analyzer import analyzer
from wdyn.analysis.depth_reading import Floats, Key, Series, all_series, on
from wdyn.analysis.inputs import states_or_none
from wdyn.analysis.layers import half_step, lead, log_slope, rank_correlation
from wdyn.analysis.skipping import skip
from wdyn.reading.tables import parameters
from wdyn.schema import Role

_ORDER = [str(role) for role in Role]


@analyzer(
    family="DEP",
    question="Do the layers widen alike, or does growth depend on depth?",
    check=depth_check.check,
    codes=depth_check.CODES,
)
def depth_growth(run: xr.DataTree) -> xr.Dataset:
    """Do the layers widen alike, or does growth depend on depth?

    Reads the statistics of every matrix that stands in a block; q, k, v and other parts of fused weights come from
    their own statistics, or, where those were not recorded, from the snapshots, at fewer steps. Several matrices of one
    role in one layer (experts, say) are pooled.

    Returns
    -------
    Dataset
        Over ``step``, ``role`` and ``layer``; with ``stack`` too where blocks stand in several towers. NaN where a
        layer lacks a role, or nothing was recorded.

        - ``std`` : (step, role, layer), unitless. Population standard deviation of all values of the role in the layer.
        - ``growth`` : (step, role, layer), unitless. std / std at the first recorded step; NaN where that is 0.
        - ``change`` : (step, role, layer), unitless. std minus std at the first recorded step.
        - ``zero_start`` : (role, layer), bool. The first std is 0, so that only ``change`` tells.
        - ``slope`` : (step, role), 1/layer. Least-squares slope of log(growth) against layer; 0.1 means that each
          layer widens about 10 % more than the one before.
        - ``correlation`` : (step, role), -1 to 1. Spearman's rank correlation of growth with layer.
        - ``norm`` : (step, role, layer), unitless. Frobenius norm of all values of the role in the layer.
        - ``norm_growth``, ``norm_change``, ``norm_slope``, ``norm_correlation`` : as ``growth``, ``change``, ``slope``
          and ``correlation``, of the norm.
        - ``half_step`` : (role, layer), steps. Where |log(growth)| first passed half of its final value, between the
          recorded steps by a straight line; NaN for layers that hardly moved (1 %).
        - ``lead`` : (role), steps. Mean ``half_step`` of the last third of the layers that moved minus that of the
          first third: above 0 where the early layers move first; NaN with fewer than three such layers.
        - ``count`` : (role, layer). How many values the std is of; 0 where the layer lacks the role.
        - ``trainable`` : (role, layer), bool. One of its matrices was trainable at some recorded step.
        - ``source`` : (role), "statistics" or "snapshots".
        - ``fused`` : (role), bool. Its parts are roles of this result themselves.
    """
    series, owners = all_series(run)
    if not series:
        return skip(
            "no matrix stands in a numbered block, or no statistics of one were recorded",
            remedy="record a model with repeated blocks (see wdyn.describe(model)): wdyn.watch(..., every=10)",
        )
    read = _arrange(series)
    if read.sizes[schema.LAYER] < 2:
        return skip("only one layer was recorded", remedy="depth needs two blocks or more")
    result = read.assign(_growth(read["std"]) | _of_norm(read["norm"]))
    result = result.assign(trainable=_trainable(run, owners, read["count"]), fused=_fused(run, owners, read["role"]))
    return result.squeeze("stack") if result.sizes["stack"] == 1 else result


def _arrange(series: Mapping[tuple[Key, str], Series]) -> xr.Dataset:
    """Lay std and norm out as (stack, step, role, layer), with the count of values and where each role was read."""
    sources = {role: source for (_, role, _), source in series}
    roles = sorted(sources, key=lambda role: (_ORDER.index(role) if role in _ORDER else len(_ORDER), role))
    stacks = list(dict.fromkeys(stack for (stack, _, _), _ in series))
    layers = sorted({layer for (_, _, layer), _ in series})
    steps = np.unique(np.concatenate([one.steps for one in series.values()]))
    values: dict[str, Floats] = {
        name: np.full((len(stacks), len(steps), len(roles), len(layers)), np.nan) for name in ("std", "norm")
    }
    counts = np.zeros((len(stacks), len(roles), len(layers)))
    for ((stack, role, layer), source), one in series.items():
        if source == sources[role]:  # a role that is fused in some layers only is shown from the snapshots
            at = stacks.index(stack), roles.index(role), layers.index(layer)
            for name, laid in values.items():
                laid[at[0], :, at[1], at[2]] = on(steps, one.steps, getattr(one, name))
            counts[at] = np.nanmax(one.count)
    dims = ("stack", schema.STEP, "role", schema.LAYER)
    return xr.Dataset(
        {
            **{name: (dims, laid) for name, laid in values.items()},
            "count": (("stack", "role", schema.LAYER), counts),
            "source": ("role", [sources[role] for role in roles]),
        },
        {"stack": stacks, schema.STEP: steps, "role": roles, schema.LAYER: layers},
    )


def _trainable(run: xr.DataTree, owners: Mapping[Key, set[str]], like: xr.DataArray) -> xr.DataArray:
    table, states = parameters(run), states_or_none(run)
    ever = table["trainable"].to_series().astype(bool)
    if states is not None:
        thawed = (states[schema.TRAINABLE] > 0).any(schema.STEP).to_series()
        ever |= thawed.reindex(ever.index, fill_value=False)
    trains = xr.zeros_like(like, dtype=bool)
    for (stack, role, layer), names in owners.items():
        trains.loc[{"stack": stack, "role": role, schema.LAYER: layer}] = bool(ever[list(names)].any())
    return trains


def _fused(run: xr.DataTree, owners: Mapping[Key, set[str]], roles: xr.DataArray) -> xr.DataArray:
    """Say which roles are wholes whose parts stand beside them."""
    own = parameters(run)["role"].to_series()
    wholes = {own[name] for (_, role, _), names in owners.items() for name in names if own[name] != role}
    return roles.isin(sorted(wholes)).reset_coords(drop=True)


def _growth(std: xr.DataArray) -> dict[str, xr.DataArray]:
    first = _first(std)
    growth = std / first.where(first > 0)
    half = xr.apply_ufunc(
        half_step, growth, std[schema.STEP], input_core_dims=[[schema.STEP], [schema.STEP]], vectorize=True
    )
    return {
        "growth": growth,
        "change": std - first,
        "zero_start": first == 0,
        "slope": _over_layers(log_slope, growth),
        "correlation": _over_layers(rank_correlation, growth),
        "half_step": half,
        "lead": xr.apply_ufunc(lead, half, input_core_dims=[[schema.LAYER]], vectorize=True),
    }


def _of_norm(norm: xr.DataArray) -> dict[str, xr.DataArray]:
    growth = norm / _first(norm).where(lambda first: first > 0)
    return {
        "norm_growth": growth,
        "norm_change": norm - _first(norm),
        "norm_slope": _over_layers(log_slope, growth),
        "norm_correlation": _over_layers(rank_correlation, growth),
    }


def _first(values: xr.DataArray) -> xr.DataArray:
    """Give each cell's value at the first step at which it was recorded."""
    return values.isel({schema.STEP: values.notnull().argmax(schema.STEP)}).drop_vars(schema.STEP)


def _over_layers(kernel: Callable[..., Floats], growth: xr.DataArray) -> xr.DataArray:
    core = [[schema.LAYER], [schema.LAYER]]
    fitted: xr.DataArray = xr.apply_ufunc(kernel, growth, growth[schema.LAYER], input_core_dims=core)
    return fitted
