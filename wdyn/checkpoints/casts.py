"""Which changes are nothing but rounding to another dtype?

One tensor alone may look rounded by chance: ones that moved by less than bfloat16 resolves are ones again once rounded.
So what keeps its dtype counts as rounded only where all that changed in the model was rounded to one dtype.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import torch

from wdyn.checkpoints.pairs import Pair

Key = tuple[str, str]
"""Names of two tensors, one of a and one of b."""


@dataclass(frozen=True)
class Cast:
    """The dtype to which a was rounded to give b, and the one to which b would be to give a; "" for none."""

    rounds_to: str = ""
    rounded_from: str = ""

    def __bool__(self) -> bool:
        return bool(self.rounds_to or self.rounded_from)


def casts(pairs: Mapping[Key, Pair], *, dtypes: Mapping[Key, tuple[torch.dtype, torch.dtype]]) -> dict[Key, Cast]:
    """Tell of each pair whether it is a cast; `dtypes` are those of its two tensors.

    A pair whose b has another dtype, and is a in that, is one whatever the others are.
    """
    found = {key: _own(pair, *dtypes[key]) for key, pair in pairs.items()}
    rest = [key for key, pair in pairs.items() if pair.changed and not found[key]]
    shared = reduce(set.intersection, (_ways(pairs[key]) for key in rest)) if rest else set()
    # A rounded matrix is no accident; a few vectors may be.
    if shared and any(dtypes[key][0] != dtypes[key][1] or pairs[key].is_matrix for key in rest):
        way = max(shared, key=lambda one: torch.finfo(one[1]).eps if one[1].is_floating_point else 0.0)
        found |= dict.fromkeys(rest, Cast(**{way[0]: _name(way[1])}))
    return found


def _own(pair: Pair, a: torch.dtype, b: torch.dtype) -> Cast:
    if a == b or not pair.rounds_to:
        return Cast()
    return Cast(_name(b), _name(a) if pair.rounded_from else "")


def _ways(pair: Pair) -> set[tuple[str, torch.dtype]]:
    forth = {("rounds_to", dtype) for dtype in pair.rounds_to}
    return forth | {("rounded_from", dtype) for dtype in pair.rounded_from}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
