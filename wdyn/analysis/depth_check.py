"""Which differences between layers deserve a word?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import xarray as xr

from wdyn import schema
from wdyn.analysis.evidence import sel_line
from wdyn.analysis.profiles import Profile, profiles_of, stacks_of
from wdyn.findings import Finding, Severity
from wdyn.naming import examples
from wdyn.schema import Role

CODES = {
    "DEP001": "Layers widen, or narrow, unequally.",
    "DEP002": "The weights of some layers collapsed to a fraction of their first spread.",
    "DEP003": "One end of the stack of layers moves before the other.",
    "DEP004": "Weights began with no spread at all, so that only absolute change tells.",
}

_USUAL = (
    "Usual: gradients differ with depth, and most trained transformers show some of it. Worth a look where one end "
    "hardly moves while the other goes on, or where the loss does not fall: compare learning rates by layer, "
    "the scale of residual projections and where the norms stand."
)


def check(
    result: xr.Dataset,
    *,
    ratio: float = 1.05,
    outlier: float = 1.25,
    correlation: float = 0.7,
    collapse: float = 0.5,
    lead: float = 0.1,
) -> Iterator[Finding]:
    """Judge what `depth_growth` measured.

    Parameters
    ----------
    result
        From `depth_growth`.
    ratio
        Largest growth over smallest growth, among the trainable layers of a role, beyond which depth may order them.
        It is raised to what chance gives with few values.
    outlier
        Growth of one layer over that of the median layer beyond which it stands out, where depth does not order them.
    correlation
        Rank correlation with layer beyond which depth orders them. It is raised to what chance gives with few layers.
    collapse
        Growth below which weights have collapsed.
    lead
        Share of the recorded steps by which one end must be ahead to be called first.
    """
    profiles = list(profiles_of(result))
    ordered, apart = unequal(profiles, ratio=ratio, outlier=outlier, correlation=correlation)
    early = [one for one in ordered if one.trend < 0]
    late = [one for one in ordered if one.trend > 0]
    for several, which in ((early, "Earlier"), (late, "Later")):
        if several:
            yield _ordered(result, several, which)
    for one in apart:
        yield _unordered(result, one)
    yield from _collapsed(result, profiles, collapse)
    yield from _leading_end(result, lead)
    yield from _zero_start(result)


def unequal(
    profiles: Iterable[Profile], *, ratio: float = 1.05, outlier: float = 1.25, correlation: float = 0.7
) -> tuple[list[Profile], list[Profile]]:
    """Pick the roles whose layers differ by more than chance: those that depth orders, and those it does not.

    The limits are those of `check`; figures ask here too, so that their words and the findings agree.
    """
    uneven = [one for one in profiles if one.growth.size > 1 and one.ratio >= max(ratio, one.noise)]
    ordered = [one for one in uneven if abs(one.trend) >= max(correlation, one.chance)]
    apart = [one for one in uneven if one not in ordered and one.lead >= max(outlier, one.noise)]
    return ordered, apart


def _ordered(result: xr.Dataset, several: list[Profile], which: str) -> Finding:
    several = sorted(several, key=lambda one: -one.ratio)
    first = several[0]
    verb = "widen" if first.sense > 0 else "narrow"
    roles = examples([one.label for one in several])
    return _finding(
        result,
        several,
        "DEP001",
        Severity.INFO,
        f"{which} layers {verb} faster in {roles}: std of {first.label} went {first.at(first.fastest)} in layer "
        f"{first.fastest} and {first.at(first.slowest)} in layer {first.slowest} (rank correlation of growth with "
        f"layer {first.correlation:.2f})",
        _USUAL,
    )


def _unordered(result: xr.Dataset, one: Profile) -> Finding:
    verb = "widens" if one.sense > 0 else "narrows"
    return _finding(
        result,
        [one],
        "DEP001",
        Severity.INFO,
        f"Layer {one.fastest} {verb} fastest in {one.label}: std went {one.at(one.fastest)} there, ×"
        f"{float(one.growth.median()):.3g} in the median layer and {one.at(one.slowest)} in layer {one.slowest}",
        "One layer that stands apart deserves a look: its initialization, its learning rate, or a gradient that "
        "reaches it more strongly than the others. The first and the last layer often do in a sound run.",
    )


def _collapsed(result: xr.Dataset, profiles: list[Profile], limit: float) -> Iterator[Finding]:
    for one in profiles:
        layers = one.growth[schema.LAYER].values[one.growth.values < limit].tolist()
        if layers:
            worst = int(one.growth.idxmin())
            yield _finding(
                result,
                [one],
                "DEP002",
                Severity.WARNING,
                f"{one.label} collapsed in {_layers(layers)}: std is {one.at(worst)} its first value in layer {worst}",
                "Weight decay without enough gradient does this: look at the decay, the learning rate and whether the "
                "gradient reaches these layers.",
            )


def _leading_end(result: xr.Dataset, lead: float) -> Iterator[Finding]:
    steps = result[schema.STEP].values
    need = lead * (steps[-1] - steps[0])
    for stack, one in stacks_of(result):
        half = one["half_step"].mean("role")  # over the roles that moved in a layer; NaN where none did
        half = half.dropna(schema.LAYER)
        third = half.sizes[schema.LAYER] // 3
        if third < 1 or steps.size < 4:
            continue
        early, late = float(half[:third].mean()), float(half[-third:].mean())
        if abs(early - late) > need:
            first, other = ("early", "late") if early < late else ("late", "early")
            where = f" of the {stack}" if "stack" in result.dims else ""
            labels = {"stack": stack} if "stack" in result.dims else {}
            yield Finding(
                "DEP003",
                Severity.INFO,
                f"The {first} layers{where} move first: half of their growth was done by step {min(early, late):.0f}, "
                f"that of the {other} ones by step {max(early, late):.0f}",
                one[["half_step"]],
                "",
                sel_line("wdyn.depth_growth(run).half_step", **labels),
            )


def _zero_start(result: xr.Dataset) -> Iterator[Finding]:
    zero = result["zero_start"]
    begun = zero.any([dim for dim in zero.dims if dim != "role"]) & (zero["role"] != Role.NORM)  # norms begin at 1
    roles = result["role"].values[begun.values].tolist()
    if roles:
        last = result[["change", "zero_start"]].sel(role=roles)
        farthest = float(last["change"].where(last["zero_start"]).max())
        yield Finding(
            "DEP004",
            Severity.INFO,
            f"{examples(roles)} began without spread (zeros or a constant), so only the absolute change of std tells: "
            f"up to {farthest:.3g}",
            last,
            "",
            sel_line("wdyn.depth_growth(run).change", role=roles),
        )


def _finding(
    result: xr.Dataset, profiles: list[Profile], code: str, severity: Severity, message: str, advice: str = ""
) -> Finding:
    labels: dict[str, object] = (
        {"role": [one.role for one in profiles]} if len(profiles) > 1 else {"role": profiles[0].role}
    )
    if profiles[0].named:
        labels = {"stack": profiles[0].stack, "role": labels["role"]} if len(profiles) == 1 else labels
    evidence = result[["std", "growth", "correlation", "slope"]].sel(labels)
    line = sel_line("wdyn.depth_growth(run).growth", where="", **labels)
    return Finding(code, severity, message, evidence, advice, line)


def _layers(layers: list[int]) -> str:
    noun = "layer" if len(layers) == 1 else "layers"
    return f"{noun} {examples([str(layer) for layer in layers], 6)}"
