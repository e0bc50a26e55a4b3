"""How is a schedule said in words?"""

from __future__ import annotations

import xarray as xr

from wdyn import schema
from wdyn.analysis import schedule_shapes as shapes


def said(one: xr.Dataset) -> str:
    """Say the schedule of one group of what `learning_rate` measured."""
    name, peak = str(one["schedule"].item()), f"{float(one['peak']):.4g}"
    warmup, hold = float(one["warmup"]), float(one["hold"])
    if name == shapes.OTHER:
        return "a schedule of no known kind"
    if name == shapes.ONE_CYCLE:
        return f"one cycle, half a cosine up to {peak} in {_steps(warmup)} and half down to {_number(one, 'floor')}"
    begin = [f"a linear warmup of {_steps(warmup)}"] if warmup > 0 else []
    begin += [f"{_steps(hold)} at {peak}"] if hold > 0 else []
    return ", then ".join([*begin, _decay(one, name, peak)])


def which(result: xr.Dataset, groups: list[int]) -> str:
    """Name groups: ``learning rate`` where there is only one, else ``learning rate of groups 0, 1 and 2``."""
    if result.sizes[schema.GROUP] == 1:
        return "learning rate"
    if len(groups) == result.sizes[schema.GROUP]:
        return "learning rate of both groups" if len(groups) == 2 else f"learning rate of all {len(groups)} groups"
    shown = [str(group) for group in groups[:3]]
    rest = f" and {len(groups) - 3} more" if len(groups) > 3 else ""
    return f"learning rate of group{'s' if len(groups) > 1 else ''} {', '.join(shown)}{rest}"


def _decay(one: xr.Dataset, name: str, peak: str) -> str:
    floor, period, factor = (_number(one, key) for key in ("floor", "period", "factor"))
    if name == shapes.CONSTANT:
        return f"constant at {peak}"
    if name == shapes.LINEAR:
        goal = "" if one["horizon"].isnull() else f" to {floor} at step {float(one['horizon']):.6g}"
        return f"a line from {peak}{goal}" if goal else f"a line up to {peak}"
    if name == shapes.STEPS:
        by = "levels" if one["factor"].isnull() else f"drops to {factor} of it" if one["factor"] < 1 else f"× {factor}"
        when = "at uneven intervals" if one["period"].isnull() else f"every {period} steps"
        return f"{by} {when} from {peak}" if one["factor"].isnull() else f"{peak}, {by} {when}"
    if name == shapes.EXPONENTIAL:
        return f"{peak} × {factor} at each step"
    if name == shapes.INVERSE_SQRT:
        return f"1/sqrt(step) from {peak}"
    if name == shapes.RESTARTS:
        grows = "" if one["factor"] == 1 else f", each {factor} times as long as the last"
        return f"falling cosines from {peak} to {floor} with a restart after {period} steps{grows}"
    return f"a cosine from {peak} to {floor} of C = {_number(one, 'cycles')} cycles"


def _number(one: xr.Dataset, key: str) -> str:
    return f"{float(one[key]):.4g}"


def _steps(count: float) -> str:
    return f"{count:.5g} step{'' if count == 1 else 's'}"


def how_exact(residual: float) -> str:
    """Say how far rows lie from a schedule at most, as a share of its largest rate."""
    return f"no row is further from it than {residual:.1g} of the largest" if residual else "every row lies on it"
