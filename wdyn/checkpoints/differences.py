"""How does each parameter of one model differ from the same one of another?"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from wdyn.checkpoints.casts import Cast, casts
from wdyn.checkpoints.pairs import Pair, alone, compare
from wdyn.checkpoints.renaming import Rename, renames
from wdyn.checkpoints.sides import Side
from wdyn.checkpoints.spectra import Spectrum, spectrum
from wdyn.schema import NO_GROUP, PARAMETER, State

Progress = Callable[[int, int], None]
"""Told how many parameters were compared, and how many there are."""

_COUNTS = ("changed", "nans_a", "infs_a", "nans_b", "infs_b")
_NUMBERS = (
    "norm_a", "norm_b", "change", "relative", "max_abs", "ulps", "cosine", "dot", "changed_share",
    "spectral_norm", "stable_rank", "rank", "rank_held",
)  # fmt: skip


@dataclass(frozen=True)
class Numbers:
    """What was measured of two tensors; the same for all names that share them."""

    pair: Pair
    spectrum: Spectrum | None

    def columns(self) -> dict[str, Any]:
        """Give each variable its value."""
        pair, found = self.pair, self.spectrum
        return {
            **{name: getattr(pair, name) for name in (*_COUNTS, "dot", "max_abs", "ulps")},
            "norm_a": math.sqrt(pair.squares_a),
            "norm_b": math.sqrt(pair.squares_b),
            "change": math.sqrt(pair.squares_change),
            "relative": pair.relative,
            "cosine": pair.cosine,
            "changed_share": pair.changed / pair.numel if pair.numel else 0.0,
            "spectral_norm": float(found.values[0]) if found else math.nan,
            "stable_rank": found.stable_rank if found else math.nan,
            "rank": float(found.rank) if found else math.nan,
            "rank_held": found.held if found else math.nan,
        }


@dataclass(frozen=True)
class _Match:
    """A row: a name of a, the name of the same in b, or only one of them."""

    a: str = ""
    b: str = ""
    decided_by: str = ""


@dataclass
class _Comparison:
    """Two models, the rows of the table, and what was measured of the tensors that they share."""

    a: Side
    b: Side
    matches: list[_Match]
    measured: dict[tuple[str, str], Numbers] = field(default_factory=dict)

    def measure(self, *, spectra: bool, progress: Progress) -> None:
        """Measure every pair of tensors once, whatever number of names they have."""
        for at, match in enumerate(self.matches):
            progress(at, len(self.matches))
            if self._is_pair(match) and self._tensors(match) not in self.measured:
                one, other = self.a.read(match.a), self.b.read(match.b)
                pair = compare(one, other)
                found = spectrum(one, other) if spectra and pair.changed else None
                self.measured[self._tensors(match)] = Numbers(pair, found)
        progress(len(self.matches), len(self.matches))

    def rows(self) -> Iterator[dict[str, Any]]:
        names = [match.a or match.b for match in self.matches]
        ties_a = _ties([(match.a, self.a.leaders.get(match.a)) for match in self.matches])
        ties_b = _ties([(match.b, self.b.leaders.get(match.b)) for match in self.matches])
        pairs = {self._tensors(match): match for match in self.matches if self._is_pair(match)}
        dtypes = {at: (self.a.tensors[one.a].dtype, self.b.tensors[one.b].dtype) for at, one in pairs.items()}
        rounded = casts({at: numbers.pair for at, numbers in self.measured.items()}, dtypes=dtypes)
        counted: set[tuple[str, str]] = set()
        for at, match in enumerate(self.matches):
            tensors = self._tensors(match)
            cast = rounded.get(tensors, Cast())
            yield {
                **self._about(match),
                "state": str(self._state(match, cast)),
                "counted": tensors in self.measured and tensors not in counted,
                "tied_a": names[ties_a[at]] if at in ties_a else "",
                "tied_b": names[ties_b[at]] if at in ties_b else "",
                "rounds_to": cast.rounds_to,
                "rounded_from": cast.rounded_from,
                **(self.measured[tensors].columns() if tensors in self.measured else self._alone(match)),
            }
            counted.add(tensors)

    @cached_property
    def _paired(self) -> tuple[set[str], set[str]]:
        """Leaders of either side of which some name is on the other, too."""
        both = [match for match in self.matches if match.a and match.b]
        return {self.a.leaders[one.a] for one in both}, {self.b.leaders[one.b] for one in both}

    def _tensors(self, match: _Match) -> tuple[str, str]:
        return self.a.leaders.get(match.a, ""), self.b.leaders.get(match.b, "")

    def _is_pair(self, match: _Match) -> bool:
        return bool(match.a and match.b) and self.a.tensors[match.a].shape == self.b.tensors[match.b].shape

    def _about(self, match: _Match) -> dict[str, Any]:
        address = (self.a if match.a else self.b).addresses[match.a or match.b]
        sides = {"a": self.a.tensors.get(match.a), "b": self.b.tensors.get(match.b)}
        there = {letter: tensor for letter, tensor in sides.items() if tensor is not None}
        return {
            **{name: str(getattr(address, name)) for name in ("path", "role", "kind", "stack")},
            "layer": address.layer,
            "numel": address.numel,
            "group": max(self.a.groups.get(match.a, NO_GROUP), self.b.groups.get(match.b, NO_GROUP)),
            "name_b": match.b,
            "renamed_by": match.decided_by,
            **{f"shape_{one}": json.dumps(list(there[one].shape)) if one in there else "" for one in sides},
            **{f"dtype_{one}": str(there[one].dtype).removeprefix("torch.") if one in there else "" for one in sides},
        }

    def _state(self, match: _Match, cast: Cast) -> State:
        if not (match.a and match.b):
            shared = self._tensors(match)[0 if match.a else 1] in self._paired[0 if match.a else 1]
            alone = State.MISSING if match.a else State.EXTRA
            return State.LEFT_OUT if shared else alone
        if not self._is_pair(match):
            return State.RESHAPED
        changed = self.measured[self._tensors(match)].pair.changed
        return State.CAST if cast else State.CHANGED if changed else State.EQUAL

    def _alone(self, match: _Match) -> dict[str, Any]:
        """Measure what has no partner of its shape, so that no NaN of it is hidden."""
        found: dict[str, Any] = dict.fromkeys(_COUNTS, -1) | dict.fromkeys(_NUMBERS, math.nan)
        for letter, side, name in (("a", self.a, match.a), ("b", self.b, match.b)):
            if name:
                norm, nans, infs = alone(side.read(name))
                found |= {f"norm_{letter}": norm, f"nans_{letter}": nans, f"infs_{letter}": infs}
        return found


def differences(a: Side, b: Side, *, spectra: bool = True, progress: Progress = lambda done, total: None) -> xr.Dataset:
    """Compare two models, one pair of tensors in memory at a time.

    Parameters
    ----------
    a, b
        Made by `wdyn.checkpoints.sides.side`.
    spectra
        Whether to find the spectral norm, the stable rank and the rank of each change, which takes most of the time.
    progress
        Told how far it is.

    Returns
    -------
    Dataset
        Over ``parameter``: the names of a in order, then those that only b has.

        ``state`` : what became of it, a `wdyn.schema.State`. ``name_b`` : its name in b, and ``renamed_by`` : what
        decided that they are the same, "" where the name is. ``tied_a tied_b`` : the first name that shares its memory
        on either side, as names of this index, "" for that one itself. ``shape_a shape_b`` (JSON), ``dtype_a dtype_b``,
        "" where it is not there; ``path role kind stack layer group numel`` as in `wdyn.parameters`.

        ``counted`` : false for a name whose tensors another one above has shared, so that sums take them once.

        ``norm_a norm_b`` : Frobenius norms. ``change`` : that of b - a, and ``relative`` : over that of a. ``max_abs``
        : largest absolute b - a. ``ulps`` : the most representable numbers between a and b, in the coarser dtype.
        ``cosine`` : of the angle between a and b; ``dot`` : their inner product. ``changed`` : count of elements whose
        bits differ (or values, where the dtypes do), ``changed_share`` : over all. ``nans_a infs_a nans_b infs_b`` :
        counts. Where NaN is in an element that changed, so is it in these.

        ``spectral_norm`` : of b - a. ``stable_rank`` : ||b - a||_F^2 / ||b - a||_2^2, within 1 % where the shorter side
        is beyond 1,024 and to rounding below. ``rank`` : count of its singular values above what rounding to the stored
        dtype explains, and ``rank_held`` : the share of the squared norm in them. NaN for what is no matrix or did not
        change.

        ``rounds_to rounded_from`` : the dtype to which a was rounded to give b, bit for bit, and the other way round.

        Attributes ``a`` and ``b``: what they are called.
    """
    comparison = _Comparison(a, b, _matches(a, b))
    comparison.measure(spectra=spectra, progress=progress)
    rows = list(comparison.rows())
    columns = {name: _column([row[name] for row in rows]) for name in (rows[0] if rows else ())}
    names = np.array([match.a or match.b for match in comparison.matches], dtype=str)
    return xr.Dataset(
        {name: (PARAMETER, values) for name, values in columns.items()},
        {PARAMETER: names},
        {"a": a.called, "b": b.called},
    )


def _matches(a: Side, b: Side) -> list[_Match]:
    missing, extra = _lacking(a, b), _lacking(b, a)
    # Of names that share memory the first stands for all.
    found: dict[str, Rename] = renames(_firsts(missing, a), _firsts(extra, b), read_a=a.read, read_b=b.read)
    taken = {rename.name for rename in found.values()}
    ours = [
        _Match(name, name)
        if name in b.held
        else _Match(name, found[name].name, found[name].decided_by)
        if name in found
        else _Match(name)
        for name in a.held
    ]
    return [*ours, *(_Match(b=name) for name in b.held if name not in a.held and name not in taken)]


def _firsts(names: list[str], side: Side) -> list[str]:
    return list({side.leaders[name]: name for name in reversed(names)}.values())[::-1]


def _lacking(side: Side, other: Side) -> list[str]:
    """Names that the other side lacks, and all that share their memory: a file need not hold a tied one twice."""
    there = {side.leaders[name] for name in side.held if name in other.held}
    return [name for name in side.held if name not in other.held and side.leaders[name] not in there]


def _ties(leaders: list[tuple[str, str | None]]) -> dict[int, int]:
    """Position of a row -> that of the first row which shares its memory, where that is another."""
    first: dict[str, int] = {}
    found = {}
    for at, (name, leader) in enumerate(leaders):
        if name and leader is not None and first.setdefault(leader, at) != at:
            found[at] = first[leader]
    return found


def _column(values: list[Any]) -> np.ndarray:
    kind: type | str = next((type(value) for value in values if not isinstance(value, int)), type(values[0]))
    return np.array(values, dtype=np.int64 if kind is int else kind)
