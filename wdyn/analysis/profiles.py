"""How has each role grown, layer by layer, by the end of a run?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis.layers import rank_correlation


@dataclass(frozen=True, eq=False)
class Profile:
    """Growth by layer of one role, at the last step at which it is known.

    ``noise`` is the factor by which two stds of so few values differ by chance, at four standard errors; ``named``
    tells whether the run has several stacks.
    """

    stack: str
    role: str
    growth: xr.DataArray
    correlation: float
    noise: float
    named: bool

    @property
    def sense(self) -> int:
        """1 when most layers widen, -1 when most narrow."""
        return 1 if float(self.growth.median()) >= 1 else -1

    @property
    def fastest(self) -> int:
        """The layer that went farthest the way that most went."""
        return int((self.growth * self.sense).idxmax())

    @property
    def slowest(self) -> int:
        """The layer that went least far that way, or the other."""
        return int((self.growth * self.sense).idxmin())

    @property
    def ratio(self) -> float:
        """Largest growth over smallest."""
        low = float(self.growth.min())
        return float(self.growth.max()) / low if low > 0 else np.inf

    @property
    def lead(self) -> float:
        """How far the fastest layer is ahead of the median one, as a factor."""
        middle, fastest = float(self.growth.median()), float(self.growth.sel({schema.LAYER: self.fastest}))
        ahead = (fastest / middle, middle / fastest if fastest > 0 else np.inf)
        return ahead[0] if self.sense > 0 else ahead[1]

    @property
    def trend(self) -> float:
        """Rank correlation of the pace, whichever way it goes, with layer."""
        return self.correlation * self.sense

    @property
    def chance(self) -> float:
        """Rank correlation that so few layers reach by chance in 1 case of 20 (normal limit, 1.96 / sqrt(n - 1))."""
        return min(1.0 - 1e-9, 1.96 / math.sqrt(self.growth.size - 1))

    @property
    def label(self) -> str:
        """The role, with its tower where there are several."""
        return f"{self.role} ({self.stack})" if self.named else self.role

    def at(self, layer: int) -> str:
        """Write the growth of one layer: ``×1.5``."""
        return f"×{float(self.growth.sel({schema.LAYER: layer})):.3g}"


def profiles_of(result: xr.Dataset) -> Iterator[Profile]:
    """Give the profile of each role that has grown and has a trainable layer."""
    named = "stack" in result.dims
    for stack, one in stacks_of(result):
        for role in without_fused(one)["role"].values.tolist():
            rows = one.sel(role=role)
            growth = rows["growth"].dropna(schema.STEP, how="all")
            if growth.sizes[schema.STEP] < 2:
                continue  # nothing but the first step, where growth is 1 by definition
            last = growth.isel({schema.STEP: -1}).dropna(schema.LAYER)
            tuned = rows["trainable"].sel({schema.LAYER: last[schema.LAYER]}).values
            moved = last.isel({schema.LAYER: tuned})  # frozen layers say nothing of depth
            trend = float(rank_correlation(moved.values, moved[schema.LAYER].values))
            if moved.size:
                least = float(rows["count"].sel({schema.LAYER: moved[schema.LAYER]}).min())
                noise = float(np.exp(4 / np.sqrt(max(least, 1))))
                yield Profile(stack, role, moved, trend, noise, named)


def without_fused(result: xr.Dataset) -> xr.Dataset:
    """Leave out fused weights where their parts were measured one by one."""
    return result.isel(role=~result["fused"].values)


def stacks_of(result: xr.Dataset) -> list[tuple[str, xr.Dataset]]:
    """Give the share of each tower, by its name."""
    if "stack" in result.dims:
        return [(str(stack), result.sel(stack=stack)) for stack in result["stack"].values]
    return [(str(result["stack"].values), result)]
