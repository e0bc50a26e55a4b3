"""What does one say of two models: are they the same, one a cast or a fine-tune of the other, or unrelated?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis.difference import everything
from wdyn.analysis.likeness_notes import notes, retied, worse_than_before
from wdyn.analysis.likeness_words import frozen_words, number, places
from wdyn.schema import State


class Likeness(StrEnum):
    """How two models are related."""

    IDENTICAL = "identical"
    CAST = "cast"
    LOW_RANK = "low rank"
    PARTIAL = "fine-tuned in part"
    FULL = "full fine-tune"
    UNRELATED = "unrelated"
    NOTHING_IN_COMMON = "nothing in common"


class Extent(IntEnum):
    """How far two models are from being the same; each is worse than the one before."""

    NONE = 0
    CAST = 1
    """Values were rounded to another dtype, and not changed otherwise."""
    CHANGED = 2
    """Values changed."""
    MISSING = 3
    """A name is missing, new, renamed, of another shape, or tied otherwise."""
    UNRELATED = 4
    NONFINITE = 5
    """The second has NaN or infinities where the first has none."""


@dataclass(frozen=True)
class Verdict:
    """What is said of two models.

    Attributes
    ----------
    likeness
        How they are related, by the parameters that both have.
    extent
        How far they are from being the same, names and ties counted too.
    sentence
        The same in words.
    notes
        What else there is to know, each a sentence.
    """

    likeness: Likeness
    extent: Extent
    sentence: str
    notes: tuple[str, ...] = ()


def judge(
    result: xr.Dataset,
    *,
    unrelated_below: float = 0.1,
    low_up_to: float = 0.25,
    held_at_least: float = 0.9,
    still_at_least: float = 0.01,
) -> Verdict:
    """Say in words how two models are related.

    Parameters
    ----------
    result
        What `wdyn.diff` measured, over ``parameter``.
    unrelated_below
        Median cosine of matrices below which they are unrelated; or below what chance gives, 4 / sqrt(numel).
    low_up_to, held_at_least
        A change has low rank with at most this share of the full rank, which holds at least that of its squared norm.
    still_at_least
        Share of the elements that must be unchanged for the others to be told as a part; or a whole layer.
    """
    both = result.isel({schema.PARAMETER: np.flatnonzero(result["counted"].values)})
    likeness, sentence = _related(
        both, unrelated_below=unrelated_below, low=(low_up_to, held_at_least), still_at_least=still_at_least
    )
    return Verdict(likeness, _extent(result, likeness), sentence, notes(result))


def _related(
    both: xr.Dataset, *, unrelated_below: float, low: tuple[float, float], still_at_least: float
) -> tuple[Likeness, str]:
    count = both.sizes[schema.PARAMETER]
    if not count:
        return (
            Likeness.NOTHING_IN_COMMON,
            "Nothing in common: no parameter of one has its name or its values in the other",
        )
    states = both["state"].values
    changed = both.isel({schema.PARAMETER: np.flatnonzero(states == State.CHANGED)})
    if (states == State.EQUAL).all():
        return Likeness.IDENTICAL, f"Identical: {_all(count)} the same bits"
    if not changed.sizes[schema.PARAMETER]:
        return Likeness.CAST, _cast(both)
    if told := _unrelated(both, unrelated_below):
        return Likeness.UNRELATED, told
    if told := _low_rank(changed, *low):
        return Likeness.LOW_RANK, told
    return _fine_tuned(both, changed, still_at_least)


def _all(count: int) -> str:
    return f"all {count} parameters have" if count != 1 else "the only parameter has"


def _cast(both: xr.Dataset) -> str:
    cast = both.isel({schema.PARAMETER: np.flatnonzero(both["state"].values == State.CAST)})
    of, whole = cast.sizes[schema.PARAMETER], both.sizes[schema.PARAMETER]
    rest = "" if of == whole else f"; the other {whole - of} are equal"
    forth, back = (cast[name].values for name in ("rounds_to", "rounded_from"))
    one, other, dtypes = ("b", "a", forth) if (forth != "").all() else ("a", "b", np.where(back != "", back, forth))
    to = " or ".join(dict.fromkeys(dtypes.tolist()))
    kept = cast["dtype_a" if one == "a" else "dtype_b"].values
    lossless = " without a loss" if (forth != "").all() and (back != "").all() else ""
    how = "cast" if (kept == dtypes).all() else "rounded"
    within = "" if how == "cast" else f" and kept as {' or '.join(dict.fromkeys(kept.tolist()))}"
    said = f"{one} is {other} {how} to {to}{within}, bit for bit, in {of} of {whole}{rest}"
    return f"{how.capitalize()} to {to}{lossless}: {said}"


def _unrelated(both: xr.Dataset, below: float) -> str:
    matrices = _matrices(both)
    shown = matrices if matrices.sizes[schema.PARAMETER] else both
    # One with a NaN has no direction; it is told of in a note.
    cosines, sizes = shown["cosine"].values, shown["numel"].values
    known = np.isfinite(cosines)
    if not known.any():
        return ""
    median, chance = float(np.median(cosines[known])), float(np.median(4 / np.sqrt(sizes[known])))
    if abs(median) >= max(below, min(chance, 0.5)):
        return ""
    return f"Unrelated: the cosine between the weights of a and b is {number(median)} (median of {known.sum()})"


def _low_rank(changed: xr.Dataset, up_to: float, held: float) -> str:
    matrices = _matrices(changed)
    full = np.array([_full_rank(shape) for shape in matrices["shape_a"].values.tolist()])
    ranks = matrices["rank"].values
    with np.errstate(invalid="ignore"):
        low = (ranks >= 1) & (ranks <= up_to * full) & (matrices["rank_held"].values >= held)
    inside = (matrices["layer"].values != schema.NO_LAYER) & (full >= 2 / up_to)
    asked = inside if inside.any() else full >= 2 / up_to  # a smaller one has no low rank that tells anything
    if not asked.any() or not low[asked].all():
        return ""
    adapted = matrices.isel({schema.PARAMETER: np.flatnonzero(low & asked)})
    least, most = int(ranks[low & asked].min()), int(ranks[low & asked].max())
    told = f"rank {most}" if least == most else f"ranks {least} to {most}"
    others = changed.sizes[schema.PARAMETER] - adapted.sizes[schema.PARAMETER]
    rest = f"; {others} other parameter{'s' * (others > 1)} changed too" if others else "; nothing else changed"
    return f"Low rank, adapter-like: the change has {told} in {places(adapted)}{rest}"


def _fine_tuned(both: xr.Dataset, changed: xr.Dataset, still_at_least: float) -> tuple[Likeness, str]:
    trained = both.isel({schema.PARAMETER: np.flatnonzero(both["kind"].values != schema.Kind.BUFFER)})
    still = np.isin(trained["state"].values, (State.EQUAL, State.CAST))
    if still.all():
        only = changed.sizes[schema.PARAMETER]
        return Likeness.PARTIAL, f"All weights are the same; {only} buffer{'s differ' if only > 1 else ' differs'}"
    finite = np.isfinite(trained["dot"].values) & np.isfinite(trained["change"].values)
    by = "from or to NaN or infinity"
    if (~still & finite).any():
        sums = everything(trained.isel({schema.PARAMETER: np.flatnonzero(~still & finite)}))
        by = f"by {number(sums['relative'])} of their norm, cosine {number(sums['cosine'])}"
        by += "" if finite.all() else f" ({(~finite).sum()} with NaN or infinity left out)"
    share = trained["numel"].values[still].sum() / max(trained["numel"].values.sum(), 1)
    frozen = frozen_words(trained, still)
    if frozen.layers or share >= still_at_least:
        return (
            Likeness.PARTIAL,
            f"Fine-tuned in part: {frozen} unchanged (frozen?); the other {(~still).sum()} changed {by}",
        )
    rest = f"all but {still.sum()} of {len(still)}" if still.any() else f"all {len(still)}"
    return Likeness.FULL, f"Full fine-tune: {rest} parameters changed, {by}"


def _matrices(table: xr.Dataset) -> xr.Dataset:
    flat = np.array([len(json.loads(shape)) > 1 for shape in table["shape_a"].values.tolist()], dtype=bool)
    return table.isel({schema.PARAMETER: np.flatnonzero(flat)})


def _full_rank(shape: str) -> int:
    first, *others = json.loads(shape)
    return int(min(first, np.prod(others)))


def _extent(result: xr.Dataset, likeness: Likeness) -> Extent:
    if worse_than_before(result).any():
        return Extent.NONFINITE
    if likeness in (Likeness.UNRELATED, Likeness.NOTHING_IN_COMMON):
        return Extent.UNRELATED
    states = result["state"].values
    restructured = np.isin(states, (State.MISSING, State.EXTRA, State.RESHAPED)) | (result["renamed_by"].values != "")
    if restructured.any() or retied(result).any():
        return Extent.MISSING
    if (states == State.CHANGED).any():
        return Extent.CHANGED
    return Extent.CAST if (states == State.CAST).any() else Extent.NONE
