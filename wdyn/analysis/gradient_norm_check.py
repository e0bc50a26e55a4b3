"""Is clipping the exception, is the norm finite and shared, and do the bounds hold?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis.evidence import sel_line
from wdyn.findings import Finding, Severity
from wdyn.naming import examples

CODES = {
    "SCH008": "Most steps were clipped.",
    "SCH009": "One layer owns most of the gradient norm.",
    "SCH010": "The gradient norm was not finite.",
    "SCH011": "A weight or a gradient left its bound.",
}

_LEAST_OWNERS = 4  # with fewer, one of them owning half is nothing to tell
_CALL = "wdyn.learning_rate(run)"


def check(result: xr.Dataset, *, clipped: float, owned: float, limits: Mapping[str, float]) -> Iterator[Finding]:
    """Judge the gradient norm in what `learning_rate` measured; the limits are those of its check."""
    yield from _clipped(result, clipped)
    yield from _owned(result, owned)
    yield from _not_finite(result)
    for name, limit in limits.items():
        if np.isfinite(limit):  # nobody asked for the others
            yield from _beyond(result, name, limit)


def owners(result: xr.Dataset) -> xr.DataArray:
    """Give the share of the squared gradient norm by owner, largest first: a layer, or a parameter outside blocks."""
    share = result["norm_share"]
    several = len(set(share["stack"].values[share["layer"].values >= 0].tolist())) > 1
    labels = [
        (f"{stack} " if several else "") + f"layer {layer}" if layer >= 0 else str(name)
        for name, stack, layer in zip(
            share[schema.PARAMETER].values, share["stack"].values, share["layer"].values, strict=True
        )
    ]
    plain = xr.DataArray(share.values, {"owner": labels}, ("owner",))
    summed = plain.groupby("owner").sum(skipna=False) if labels else plain
    return summed.sortby(summed.fillna(-1.0), ascending=False)


def _clipped(result: xr.Dataset, limit: float) -> Iterator[Finding]:
    share = float(result["clipped_share"])
    if share > limit:
        known = int(result["clip_coefficient"].notnull().sum())
        yield Finding(
            "SCH008",
            Severity.INFO,
            f"{share:.0%} of the {known} logged steps were clipped, with a median coefficient of "
            f"{float(result['coefficient']):.3g}: clipping sets the length of the gradient rather than stopping spikes",
            result[["grad_norm", "clip_coefficient", "clipped_share", "coefficient"]],
            "Usual early in training, and Adam's updates hardly feel it. Else raise the limit above the common norm, "
            "so that it acts on what is rare.",
            f"{_CALL}[['grad_norm', 'clip_coefficient']]",
        )


def _owned(result: xr.Dataset, limit: float) -> Iterator[Finding]:
    share = owners(result)
    if share.sizes["owner"] < _LEAST_OWNERS or not float(share[0]) > limit:
        return
    own, second = str(share["owner"].values[0]), str(share["owner"].values[1])
    yield Finding(
        "SCH009",
        Severity.INFO,
        f"{own} owns {float(share[0]):.0%} of the squared gradient norm; the next of {share.sizes['owner']}, {second}, "
        f"owns {float(share[1]):.2g} of it",
        result[["norm_share"]],
        "When the whole is clipped, its gradient decides how much is left of all others. Compare its initialization "
        "and scale with the rest, or clip by group.",
        f"{_CALL}.norm_share.groupby('layer').sum()",
    )


def _not_finite(result: xr.Dataset) -> Iterator[Finding]:
    bad = result["norm_nonfinite"]
    if bad.any():
        steps = result[schema.STEP].values[bad.values]
        yield Finding(
            "SCH010",
            Severity.WARNING,
            f"The gradient norm was not finite at {len(steps)} recorded step{'s' if len(steps) > 1 else ''}, first at "
            f"step {steps[0]}",
            result[["grad_norm", "norm_nonfinite"]].sel({schema.STEP: steps}),
            "A gradient scaler skips such a step and lowers its scale; without one, clipping multiplies every gradient "
            "by 0 or NaN. clip_grad_norm_(..., error_if_nonfinite=True) stops there.",
            sel_line(f"{_CALL}.grad_norm", step=steps.tolist()),
        )


def _beyond(result: xr.Dataset, name: str, limit: float) -> Iterator[Finding]:
    bound = result[name]
    order = np.argsort(-bound.fillna(-np.inf).values)
    names = [str(bound[schema.PARAMETER].values[at]) for at in order if bound.values[at] >= limit]
    if names:
        worst = result.sel({schema.PARAMETER: names[0]})
        symbol = "|w|" if name == "weight_bound" else "|g|"
        yield Finding(
            "SCH011",
            Severity.WARNING,
            f"{symbol} < {limit:g} does not hold: {examples(names)}; {names[0]} reached {float(worst[name]):.4g} at "
            f"step {int(worst[f'{name}_step'])}",
            result[[name, f"{name}_step"]].sel({schema.PARAMETER: names}),
            "A lower learning rate, weight decay, or clipping of values keeps them in bounds.",
            sel_line(f"{_CALL}.{name}", where=f"m >= {limit:g}", parameter=names),
        )
