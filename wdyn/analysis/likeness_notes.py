"""What else is there to know of two models: names, shapes, ties, dtypes, and values that are no numbers?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.naming import examples
from wdyn.schema import State

Mask = npt.NDArray[np.bool_]


def notes(result: xr.Dataset) -> tuple[str, ...]:
    """Say each in a sentence, the worst first."""
    return (*_nonfinite(result), *_names(result), *_ties(result), *_dtypes(result))


def worse_than_before(result: xr.Dataset) -> Mask:
    """Which parameters have more NaN or infinities in b than in a: (parameter,)."""
    more: Mask = np.zeros(result.sizes[schema.PARAMETER], dtype=bool)
    for name in ("nans", "infs"):
        more |= result[f"{name}_b"].values > np.maximum(result[f"{name}_a"].values, 0)
    return more


def retied(result: xr.Dataset) -> Mask:
    """Which parameters share their memory with others in b than in a: (parameter,)."""
    there = (result["shape_a"].values != "") & (result["shape_b"].values != "")
    known = set(result[schema.PARAMETER].values[there].tolist())
    ours, theirs = (result[name].values for name in ("tied_a", "tied_b"))
    told = np.array(
        [(a in known or not a) and (b in known or not b) for a, b in zip(ours, theirs, strict=True)], dtype=bool
    )
    differ: Mask = there & told & (ours != theirs)
    return differ


def _nonfinite(result: xr.Dataset) -> Iterator[str]:
    for side in ("a", "b"):
        nans, infs = (np.maximum(result[f"{name}_{side}"].values, 0) for name in ("nans", "infs"))
        at = np.flatnonzero((nans > 0) | (infs > 0))
        if at.size:
            names = result[schema.PARAMETER].values[at].tolist()
            yield (
                f"{nans[at].sum():,} NaN and {infs[at].sum():,} infinite values are in {side}, in {len(names)} "
                f"parameter{'s' * (len(names) > 1)}: {examples(names)}"
            )


def _names(result: xr.Dataset) -> Iterator[str]:
    names, states = result[schema.PARAMETER].values, result["state"].values
    for state, words in (
        (State.MISSING, "only in a"),
        (State.EXTRA, "only in b"),
        (State.LEFT_OUT, "only on one side, where it shares the weights of one that both have"),
    ):
        found = names[states == state].tolist()
        if found:
            yield f"{len(found)} {words}: {examples(found)}"
    reshaped = result.isel({schema.PARAMETER: np.flatnonzero(states == State.RESHAPED)})
    columns = (reshaped[name].values.tolist() for name in (schema.PARAMETER, "shape_a", "shape_b"))
    changes = [f"{name} {a} → {b}" for name, a, b in zip(*columns, strict=True)]
    if changes:
        yield f"{len(changes)} of another shape: {examples(changes)}"
    yield from _renamed(result)


def _renamed(result: xr.Dataset) -> Iterator[str]:
    at = np.flatnonzero(result["renamed_by"].values != "")
    if not at.size:
        return
    renamed = result.isel({schema.PARAMETER: at})
    pairs = zip(renamed[schema.PARAMETER].values.tolist(), renamed["name_b"].values.tolist(), strict=True)
    by = Counter(words.split(",")[0] for words in renamed["renamed_by"].values.tolist())
    decided = ", ".join(f"{count} by {words}" for words, count in by.items())
    yield f"{at.size} renamed ({decided}): {examples([f'{a} → {b}' for a, b in pairs])}"


def _ties(result: xr.Dataset) -> Iterator[str]:
    at = np.flatnonzero(retied(result))
    columns = (result[name].values[at].tolist() for name in (schema.PARAMETER, "tied_a", "tied_b"))
    for name, a, b in zip(*columns, strict=True):
        was, now = (f"shares the weights of {one}" if one else "has weights of its own" for one in (a, b))
        yield f"Tied otherwise: {name} {was} in a, and {now} in b"


def _dtypes(result: xr.Dataset) -> Iterator[str]:
    pairs = zip(result["dtype_a"].values.tolist(), result["dtype_b"].values.tolist(), strict=True)
    changes = Counter((a, b) for a, b in pairs if a and b and a != b)
    if changes:
        yield "Other dtypes: " + "; ".join(f"{a} → {b} in {count}" for (a, b), count in changes.most_common())
