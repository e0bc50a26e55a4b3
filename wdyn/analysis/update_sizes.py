"""How far does each step move the weights, and where to?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis import update_sizes_check
from wdyn.analysis.analyzer import analyzer
from wdyn.analysis.freezing import frozen_at
from wdyn.analysis.inputs import on_grid, states_or_none, statistics_or_none
from wdyn.analysis.skipping import skip
from wdyn.analysis.update_sizes_kernels import (
    approach,
    equilibrium_rms,
    equilibrium_rotation,
    rotation,
    tangential,
)
from wdyn.analysis.update_sizes_late import late
from wdyn.analysis.update_sizes_missing import with_reasons
from wdyn.analysis.update_sizes_settings import Used, used
from wdyn.reading.relations import DISPLACEMENT, PATH_LENGTH, relations
from wdyn.reading.tables import parameters
from wdyn.schema import Kind, Quantity, Role

Floats = npt.NDArray[np.float64]

_OVER = (schema.STEP, schema.PARAMETER)
_COPIED = ("role", "kind", "stack", "layer", "path", "trainable", "in_optimizer", "dtype", "numel")


@analyzer(
    family="UPD",
    question="How far does each step move the weights, and where to?",
    check=update_sizes_check.check,
    codes=update_sizes_check.CODES,
)
def update_sizes(run: xr.DataTree) -> xr.Dataset:
    """How far does each step move the weights, and where to?

    With W' the weights before a step, W those after it, and U = W - W'. All of it is measured, on copies, so weight
    decay and rounding are part of U. Buffers are left out, and names that share the memory of another (``tied_to``).

    A rule of thumb says that ``update_ratio`` is about 1e-3 for the matrices of a network that trains well (Bengio
    2012, "Practical recommendations for gradient-based training of deep architectures"; Karpathy's notes for CS231n).
    Adam's first steps are larger, those of fine-tuning smaller; norms and biases have ratios of their own.

    What AdamW comes to is predicted by the random walk of Kosson, Messmer and Jaggi (2024, "Rotational Equilibrium").
    It assumes that gradients are independent from step to step and at right angles to the weights, as they are where a
    normalization follows; that sqrt(v) is their rms; and that lr and decay have held for long (``approach`` near 1).
    Gradients that agree from step to step turn a weight faster. So it is a yardstick, and no verdict.

    Returns
    -------
    Dataset
        Over ``step`` (rows with an update) and ``parameter``; NaN where it was not recorded or does not exist. A
        variable that is NaN throughout tells why in its attributes ``skipped`` and ``remedy``.

        - ``update_ratio`` : (step, parameter). ||U|| / ||W'||.
        - ``radial`` : (step, parameter). <U, W'> / ||W'||^2: the part along the weights; below 0 it shrinks them.
        - ``tangential`` : (step, parameter). The part at right angles to them, over ||W'||.
        - ``rotation`` : (step, parameter), radians, 0 to pi. Angle between W' and W.
        - ``update_cosine`` : (step, parameter). Of U and the update of the step before. Where one curvature and the
          gradient's noise rule, SGD settles at -lr * curvature / 2, and diverges from -1 on.
        - ``undone`` : (step, parameter). -update_cosine ||U|| / ||U of the step before||: the share of the last update
          that this one takes back; from 1 on nothing is left of it.
        - ``decay_share`` : (step, parameter). lr * weight_decay * ||W'|| / ||U||, where the decay is known to be
          decoupled, or 0. Above 1 the gradient works against it.
        - ``path_length`` : (step, parameter). Sum of ||U|| over all steps so far; NaN from the first one without a row.
        - ``displacement`` : (step, parameter). ||W - W_0||, the chord of that path.
        - ``efficiency`` : (step, parameter), 0 to 1. displacement / path_length: 1 for a straight way, 1 / sqrt(t) for
          a random walk of t steps of equal length.
        - ``expected_rotation`` : (step, parameter), radians. sqrt(2 lr weight_decay (1 - beta1) / (1 + beta1)), AdamW.
        - ``rotation_ratio`` : (step, parameter). rotation / expected_rotation.
        - ``expected_rms`` : (step, parameter). sqrt(lr / (2 weight_decay)), AdamW.
        - ``norm_ratio`` : (step, parameter). rms of W over expected_rms.
        - ``approach`` : (step, parameter), 0 to 1. 1 - exp(-2 * sum of lr * weight_decay so far): how much of the way
          to its balance the mean square of a weight has gone. Far from 1, the two ratios say little.
        - ``still`` : (step, parameter), bool. U is exactly 0, of a trainable weight whose lr was above 0.
        - ``nonfinite`` : (step, parameter). Count of NaN and infinite values in U.
        - ``lr`` : (step, parameter). What the step used.
        - ``late_rows`` : (parameter). Rows in the later half of the recorded ones at which it was trainable and its
          lr was above 0, or is not known. The rest is over these:
        - ``late_ratio``, ``late_decay_share``, ``late_rotation_ratio``, ``late_norm_ratio``, ``late_undone`` :
          (parameter). Medians.
        - ``late_cosine``, ``late_cosine_error`` : (parameter). Mean of update_cosine, and its standard error.
        - ``late_still`` : (parameter), 0 to 1. Share of these rows that are ``still``.

        Coordinates role, kind, stack, layer, path, trainable, in_optimizer, dtype, numel and ``matrix`` (parameter):
        a weight of two axes or more that is no norm.
    """
    updates = statistics_or_none(run, Quantity.UPDATES)
    if updates is None or schema.RELATIONS not in run.children:
        return skip(
            "updates, and how they stand to the weights, were not recorded",
            remedy='wdyn.watch(..., what=("weights", "updates"))',
        )
    table = _judged(parameters(run), updates)
    names = table[schema.PARAMETER].values.tolist()
    read = _Reading(relations(run), updates[schema.STEP].values, names)
    nonfinite = read.values(updates["nonfinite"])
    told = ~np.isnan(nonfinite).all(axis=1)
    if not told.any():
        return skip("no step with an update was recorded", remedy="train, and record, one step or more")
    read, nonfinite = replace(read, steps=read.steps[told]), nonfinite[told]
    settings = used(run, steps=read.steps, names=names)
    trains = ~frozen_at(read.steps, table, states_or_none(run))
    norms = read.values(updates["l2"])
    # The norm is that of what is finite, so it is 0 also where nothing is.
    zero = (norms == 0) & (nonfinite == 0) & (table["numel"].values > 0)
    found = _directions(read, norms)
    found |= _decay(found["update_ratio"], settings)
    found |= _way(read, np.cumsum(nonfinite > 0, axis=0, dtype=np.int32) > 0)
    lr = settings.spread(settings.lr)
    found |= {"still": zero & trains & (lr > 0), "nonfinite": nonfinite, "lr": lr}
    found |= _balance(found["rotation"], _rms(run, read), settings)
    about = {name: table[name].variable for name in _COPIED} | {"matrix": (schema.PARAMETER, _matrices(table))}
    coordinates = {schema.STEP: read.steps, schema.PARAMETER: names} | about
    result = xr.Dataset({name: (_OVER, values) for name, values in found.items()}, coordinates)
    return with_reasons(result.assign(late(result, trains)), read.related, settings)


@dataclass(frozen=True)
class _Reading:
    """The relations, lazily, and the steps and parameters at which they are read."""

    related: xr.Dataset
    steps: npt.NDArray[np.int64]
    names: Sequence[str]

    def values(self, values: xr.DataArray) -> Floats:
        """Read one array: (step, parameter)."""
        return on_grid(values, steps=self.steps, names=self.names)

    def relation(self, name: str) -> Floats:
        """Read a relation; one that is NaN throughout takes no memory."""
        values = self.values(self.related[name])
        return np.broadcast_to(np.nan, values.shape) if np.isnan(values).all() else values


def _judged(table: xr.Dataset, updates: xr.Dataset) -> xr.Dataset:
    """Keep the parameters that hold values of their own, and whose updates were recorded."""
    own = (table["tied_to"] == "") & (table["kind"] != Kind.BUFFER)
    measured = np.isin(table[schema.PARAMETER].values, updates[schema.PARAMETER].values)
    return table.isel({schema.PARAMETER: np.flatnonzero(own.values & measured)})


def _matrices(table: xr.Dataset) -> npt.NDArray[np.bool_]:
    axes = np.array([len(json.loads(shape)) for shape in table["shape"].values.tolist()], dtype=np.int64)
    weights = (table["kind"] == Kind.WEIGHT) & (table["role"] != Role.NORM) & (table["numel"] > 1)
    return np.asarray(weights.values & (axes > 1), dtype=np.bool_)


def _directions(read: _Reading, norms: Floats) -> dict[str, Floats]:
    """Take an update apart: along the weights and around them, and back along the update before."""
    ratio, cosine = read.relation(schema.UPDATE_RATIO), read.relation(schema.WEIGHT_COSINE)
    with np.errstate(invalid="ignore", divide="ignore"):  # a weight that is all zero has no direction: inf * NaN
        return {
            "update_ratio": ratio,
            "radial": ratio * cosine,
            "tangential": tangential(ratio, cosine),
            "rotation": rotation(ratio, cosine),
            **_back(read, norms),
        }


def _back(read: _Reading, norms: Floats) -> dict[str, Floats]:
    cosine = read.relation(schema.UPDATE_COSINE)
    if np.isnan(cosine).all():
        return {"update_cosine": cosine, "undone": cosine}
    follows = np.where(read.values(read.related[schema.UPDATE_GAP]) == 1, cosine, np.nan)
    before = np.vstack([np.full_like(norms[:1], np.nan), norms[:-1]])
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"update_cosine": follows, "undone": -follows * norms / before}


def _decay(ratio: Floats, settings: Used) -> dict[str, Floats]:
    # Without decay it owns nothing, whichever way the optimizer would apply it.
    told = settings.decoupled | (settings.decay == 0)
    pull = settings.spread(np.where(told, settings.lr * settings.decay, np.nan))
    return {"decay_share": np.divide(pull, ratio, out=np.full(ratio.shape, np.nan), where=ratio > 0)}


def _way(read: _Reading, lost: npt.NDArray[np.bool_]) -> dict[str, Floats]:
    """Compare path and chord; from the first update on that is not finite there is neither."""
    path, chord = read.relation(PATH_LENGTH), read.relation(DISPLACEMENT)
    if lost.any():
        path, chord = (np.where(lost, np.nan, values) for values in (path, chord))
    known = not np.isnan(chord).all()  # else it is NaN throughout too, and takes no memory
    efficiency = chord / np.where(path > 0, path, np.nan) if known else chord
    return {"path_length": path, "displacement": chord, "efficiency": efficiency}


def _balance(turned: Floats, rms: Floats, settings: Used) -> dict[str, Floats]:
    """Compare with the balance of AdamW; NaN for what another rule, or none, moves."""
    decay = np.where(settings.balances & (settings.decay > 0) & (settings.lr > 0), settings.decay, np.nan)
    reached = np.where(np.isnan(decay), np.nan, approach(settings.pulled))
    angle = settings.spread(equilibrium_rotation(settings.lr, decay, settings.beta1))
    size = settings.spread(equilibrium_rms(settings.lr, decay))
    return {
        "expected_rotation": angle,
        "rotation_ratio": turned / angle,
        "expected_rms": size,
        "norm_ratio": rms / size,
        "approach": settings.spread(reached),
    }


def _rms(run: xr.DataTree, read: _Reading) -> Floats:
    weights = statistics_or_none(run)
    if weights is None:
        return np.broadcast_to(np.nan, (len(read.steps), len(read.names)))
    return read.values(weights["rms"])
