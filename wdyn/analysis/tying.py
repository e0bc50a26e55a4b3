"""Which names share one weight, and did it stay so?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis import tying_check
from wdyn.analysis.analyzer import analyzer
from wdyn.analysis.inputs import states_or_none, statistics_or_none, stored_weights
from wdyn.reading.tables import parameters
from wdyn.schema import Kind

Pair = tuple[str, str]
"""Two names, in the order of the table."""
Floats = npt.NDArray[np.float64]

Steps = npt.NDArray[np.int64]

_PAIR = "pair"
_KEY = ("count", "zeros", "min", "max")  # the same, bit for bit, in whatever order the values are visited
_STATISTICS = (*_KEY, "mean", "std", "l1", "l2", "skewness", "kurtosis")


@analyzer(
    family="TIE",
    question="Which names share one weight, and did it stay so?",
    check=tying_check.check,
    codes=tying_check.CODES,
)
def tied_weights(run: xr.DataTree) -> xr.Dataset:
    """Which names share one weight, and did it stay so?

    A tie is shared memory, seen at each recorded step: one tensor under two names, or two that overlap. What a config
    says counts for nothing. Equal values in separate memory are no tie: they part with the first update that differs.
    A model that was loaded to go on begins a new attempt, so a tie that its loading broke breaks at the attempt's first
    row.

    Returns
    -------
    Dataset
        Over ``pair``, which names two parameters as ``"<name> = <partner>"``; empty when no two share or equal.

        - ``declared`` : (pair), bool. They shared memory when the table was written, as recording began.
        - ``shared`` : (step, pair). 1 where both lie in one memory, 0 where not, NaN where not recorded.
        - ``same_tensor`` : (step, pair). Of a tie: 1 where both names are one tensor, 0 where they are two tensors in
          one memory, which an optimizer updates each by itself; NaN where there is no tie, or it was not recorded.
        - ``equal`` : (step, pair). 1 where their values are equal, 0 where not, NaN where nothing tells: from shared
          memory, else from the snapshots of both, else from all their statistics (relative tolerance 1e-9).
        - ``broke_at`` : (pair). First recorded step at which a tie held no more; NaN if none.
        - ``appeared_at`` : (pair). First recorded step of a tie that was not there at first; NaN if none.

        - ``attempt`` : (step). Which attempt recorded the row; one above that of the row before where the run was
          resumed.

        Coordinates ``name`` and ``partner`` (pair): full names, the partner first in the table.
    """
    table = parameters(run)
    table = table.isel({schema.PARAMETER: table["kind"].values != Kind.BUFFER})
    states, recorded, weights = states_or_none(run), statistics_or_none(run), stored_weights(run)
    declared = {(to, str(name)) for name, to in table["tied_to"].to_series().items() if to}
    tied = declared | _ever_shared(states, table)
    pairs = _in_order(tied | _look_alikes(recorded, table), table)
    steps = _steps(states, recorded, *(weights[name] for pair in pairs for name in pair if name in weights))
    shared = _columns([_shared(pair, steps, states) for pair in pairs], steps)
    equal = _columns([_equal(pair, steps, weights, recorded) for pair in pairs], steps)
    equal = np.where(shared == 1, 1.0, equal)
    kept = [at for at, pair in enumerate(pairs) if pair in tied or (equal[:, at] == 1).any()]
    pairs = [pairs[at] for at in kept]
    result = _result(pairs, steps, [pair in declared for pair in pairs], shared[:, kept], equal[:, kept])
    same = _columns([_same_tensor(name, steps, states) for _, name in pairs], steps)
    return result.assign(
        same_tensor=((schema.STEP, _PAIR), np.where(shared[:, kept] == 1, same, np.nan)),
        attempt=(schema.STEP, _attempts(steps, states, recorded)),
    )


def _result(pairs: list[Pair], steps: Steps, declared: list[bool], shared: Floats, equal: Floats) -> xr.Dataset:
    begin = np.where(np.array(declared, dtype=bool), 1.0, np.nan)
    both = (schema.STEP, _PAIR)
    return xr.Dataset(
        {
            "declared": (_PAIR, np.array(declared, dtype=bool)),
            "shared": (both, shared),
            "equal": (both, equal),
            "broke_at": (_PAIR, _turned(shared, steps, begin=begin, to=0)),
            "appeared_at": (_PAIR, _turned(shared, steps, begin=begin, to=1)),
        },
        {
            schema.STEP: steps,
            _PAIR: np.array([f"{name} = {partner}" for partner, name in pairs], dtype=np.str_),
            "name": (_PAIR, np.array([name for _, name in pairs], dtype=np.str_)),
            "partner": (_PAIR, np.array([partner for partner, _ in pairs], dtype=np.str_)),
        },
    )


def _turned(shared: Floats, steps: Steps, *, begin: Floats, to: int) -> Floats:
    """Find the first step at which each pair became `to`, having been the other before; NaN if it never did."""
    turned = np.full(shared.shape[1], np.nan)
    for pair, column in enumerate(shared.T):
        before = begin[pair]
        for step, now in zip(steps, column, strict=True):
            if now == to and before == 1 - to:
                turned[pair] = step
                break
            before = before if np.isnan(now) else now
    return turned


def _ever_shared(states: xr.Dataset | None, table: xr.Dataset) -> set[Pair]:
    """Pair every name with the first one that shared its memory, at any recorded step."""
    if states is None:
        return set()
    names = [str(name) for name in table[schema.PARAMETER].values if name in states.indexes[schema.PARAMETER]]
    leaders = states[schema.SHARES_WITH].sel({schema.PARAMETER: names}).transpose(schema.STEP, ...).values
    pairs: set[Pair] = set()
    for row in np.unique(leaders, axis=0):
        first: dict[float, str] = {}
        for name, leader in zip(names, row.tolist(), strict=True):
            if leader >= 0 and first.setdefault(leader, name) != name:
                pairs.add((first[leader], name))
    return pairs


def _look_alikes(recorded: xr.Dataset | None, table: xr.Dataset) -> set[Pair]:
    """Pair names of one shape whose statistics agree at the first or the last row; constants are alike by nature."""
    if recorded is None:
        return set()
    shapes = table["shape"].to_series()
    names = [str(name) for name in shapes.index if name in recorded.indexes[schema.PARAMETER]]
    pairs: set[Pair] = set()
    for at in (0, -1):
        row = recorded[list(_STATISTICS)].isel({schema.STEP: at}).sel({schema.PARAMETER: names}).load()
        first: dict[tuple[object, ...], str] = {}
        for name, spread, *key in zip(names, row["std"].values, *(row[k].values.tolist() for k in _KEY), strict=True):
            if spread > 0 and first.setdefault((shapes[name], *key), name) != name:
                pairs.add((first[(shapes[name], *key)], name))
    return pairs


def _shared(pair: Pair, steps: Steps, states: xr.Dataset | None) -> Floats:
    """Whether both lay in one memory, by step."""
    if states is None or not {*pair} <= {*states.indexes[schema.PARAMETER]}:
        return np.full(len(steps), np.nan)
    leaders = states[schema.SHARES_WITH].sel({schema.PARAMETER: list(pair)}).reindex({schema.STEP: steps})
    one, other = leaders.transpose(schema.PARAMETER, schema.STEP).values
    return np.where((one >= 0) & (other >= 0), (one == other).astype(np.float64), np.nan)


def _same_tensor(name: str, steps: Steps, states: xr.Dataset | None) -> Floats:
    """Whether a name is the very tensor of the first one that shares its memory, by step."""
    known = states is not None and schema.SAME_TENSOR in states and name in states.indexes[schema.PARAMETER]
    if states is None or not known:
        return np.full(len(steps), np.nan)
    same = states[schema.SAME_TENSOR].sel({schema.PARAMETER: name}).reindex({schema.STEP: steps}).values
    return np.where(same >= 0, same, np.nan)


def _equal(pair: Pair, steps: Steps, weights: Mapping[str, xr.DataArray], recorded: xr.Dataset | None) -> Floats:
    """Whether both had the same values, by step: in snapshots, else to judge by all statistics."""
    if {*pair} <= {*weights}:
        one, other = (weights[name] for name in pair)
        return np.array([_same_values(one, other, step) for step in steps])
    if recorded is None or not {*pair} <= {*recorded.indexes[schema.PARAMETER]}:
        return np.full(len(steps), np.nan)
    rows = recorded[list(_STATISTICS)].sel({schema.PARAMETER: list(pair)}).reindex({schema.STEP: steps})
    one, other = rows.to_dataarray().transpose(schema.PARAMETER, schema.STEP, ...).values
    known = ~np.isnan(one).all(axis=-1) & ~np.isnan(other).all(axis=-1)
    return np.where(known, np.isclose(one, other, rtol=1e-9, atol=0, equal_nan=True).all(axis=-1), np.nan)


def _same_values(one: xr.DataArray, other: xr.DataArray, step: int) -> float:
    if not all(step in values.indexes[schema.STEP] for values in (one, other)):
        return math.nan
    first, second = (values.sel({schema.STEP: step}).values for values in (one, other))
    return float(np.array_equal(first, second, equal_nan=True))


def _in_order(pairs: Iterable[Pair], table: xr.Dataset) -> list[Pair]:
    order = {str(name): at for at, name in enumerate(table[schema.PARAMETER].values)}
    return sorted(pairs, key=lambda pair: (order[pair[0]], order[pair[1]]))


def _steps(*recorded: xr.Dataset | xr.DataArray | None) -> Steps:
    held = [one[schema.STEP].values for one in recorded if one is not None]
    return np.unique(np.concatenate(held)) if held else np.array([], dtype=np.int64)


def _attempts(steps: Steps, *recorded: xr.Dataset | None) -> Floats:
    """Tell which attempt recorded each step; NaN where nothing says."""
    found = np.full(len(steps), np.nan)
    for one in recorded:
        if one is not None and schema.ATTEMPT in one.coords:
            own = one[schema.ATTEMPT].reindex({schema.STEP: steps}).values
            found = np.where(np.isnan(found), own, found)
    return found


def _columns(columns: list[Floats], steps: Steps) -> Floats:
    return np.stack(columns, axis=-1) if columns else np.empty((len(steps), 0))
