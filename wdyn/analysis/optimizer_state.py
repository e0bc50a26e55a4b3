"""What does the optimizer hold, and how far does it step?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis import optimizer_state_check
from wdyn.analysis.analyzer import analyzer
from wdyn.analysis.inputs import group_or_none, on_grid
from wdyn.analysis.optimizer_state_reading import Recorded, groups_of, read, settings, spread
from wdyn.analysis.optimizer_state_rules import ADAM, SECOND, UNKNOWN, correction, direction, rule_of
from wdyn.analysis.skipping import skip
from wdyn.reading.tables import parameters
from wdyn.schema import Kind, Quantity

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.str_]
Groups = npt.NDArray[np.int64]

_OVER = (schema.STEP, schema.PARAMETER)
_COPIED = ("role", "kind", "stack", "layer", "path", "tied_to", "trainable", "numel")
_REMEDY = 'wdyn.watch(..., what=("weights", "updates", "gradients", "moments"))'


@analyzer(
    family="OPT",
    question="What does the optimizer hold, and how far does it step?",
    check=optimizer_state_check.check,
    codes=optimizer_state_check.CODES,
)
def optimizer_state(run: xr.DataTree) -> xr.Dataset:
    """What does the optimizer hold, and how far does it step?

    Reads the statistics of the gradients, the updates and the moments, and the settings of each parameter group. Names
    that share the memory of another (``tied_to``) and buffers are left out.

    With g the gradient, m and v the first and the second moment as they are after a step, and lr its learning rate, the
    part of the step that is no decoupled weight decay is estimated as

    - Adam and what holds ``exp_avg`` and ``exp_avg_sq``: lr rms(m̂) / (sqrt(mean(v̂)) + eps), with m̂ = m / (1 - beta1^t)
      and v̂ = v / (1 - beta2^t) (Kingma and Ba 2015); with AMSGrad, v is ``max_exp_avg_sq``;
    - SGD with momentum, and RMSprop with it: lr rms(m), m being the ``momentum_buffer``;
    - RMSprop and Adagrad: lr rms(g) / (sqrt(mean(v)) + eps), v being ``square_avg`` or ``sum``;
    - plain SGD: lr rms(g).

    For SGD that is exact, but for coupled weight decay. For the others it is a ratio of means where the optimizer takes
    the mean of ratios, so it comes out low where the elements of a weight have gradients of very different size.

    t is the step of the run. Where the optimizer held moments before the first step, the count of its steps is not
    known, and taken as large: no correction.

    Returns
    -------
    Dataset
        Over ``step`` (every row of gradients, updates or moments), ``parameter`` and ``group``. NaN where nothing was
        recorded, and where what it is of holds NaN or infinity.

        - ``gradient`` : (step, parameter). rms of the gradient that the step used.
        - ``first_moment`` : (step, parameter). rms(m̂), or rms(m) where the rule knows no correction.
        - ``second_moment`` : (step, parameter). sqrt(mean(v̂)), or sqrt(mean(v)): of the size of ``gradient``.
        - ``signal`` : (step, parameter), unitless. first over second moment of Adam: near 1 where gradients agree from
          step to step, sqrt((1 - beta1) / (1 + beta1)), 0.23 for 0.9, where they are independent noise.
        - ``effective_step`` : (step, parameter). The estimate above.
        - ``update`` : (step, parameter). rms of the measured update, weight decay included.
        - ``predicted_ratio`` : (step, parameter), unitless. Norm of the update that the optimizer's rule gives, element
          by element, over that of the measured one; where it was recorded.
        - ``idle`` : (step, parameter), 0 to 1. Share of elements whose second moment (else first) is 0: no gradient
          ever reached them.
        - ``nonfinite`` : (step, parameter). Count of NaN and infinite values in its moments.
        - ``gradient_norm`` : (step). Norm of all recorded gradients as one long vector; infinite where one holds NaN or
          infinity.
        - ``lr``, ``weight_decay`` : (step, group). What the step used.
        - ``correction`` : (step, group), >= 1. 1 / (1 - beta2^t).
        - ``beta1``, ``beta2`` : (group). At the last step.
        - ``peak_at`` : (group), steps. First step that used the highest lr of all.
        - ``pull`` : (group), unitless. Sum over all steps of lr times weight decay: the share by which decay alone
          would have shrunk a weight, as long as it is small.
        - ``optimizer`` : (group). Class that holds the group; "" where that is not known.
        - ``rule`` : (parameter), "Adam", "momentum", "RMSprop", "Adagrad", "gradient" or "unknown": how it was read.
        - ``eps`` : (parameter). What the rule adds to the root of the second moment.

        Coordinates role, kind, stack, layer, path, tied_to, trainable, numel and ``of_group`` (parameter; -1: no
        optimizer ever held it).
    """
    table = _judged(parameters(run))
    names = table[schema.PARAMETER].values.tolist()
    of_group = groups_of(run, names)
    if (of_group < 0).all():
        return skip("no optimizer was watched", remedy="pass it too: wdyn.watch(model, optimizer, to=...)")
    found = read(run, names)
    if found is None:
        return skip("neither gradients, updates nor moments were recorded", remedy=_REMEDY)
    used = settings(run, steps=found.steps, count=1 + int(of_group.max()))
    rule = _rules(found, used, of_group)
    first, second = (_corrections(found, used[name].values, of_group) for name in ("beta1", "beta2"))
    eps = spread(used["eps"].values, of_group)
    stepped = _stepped(found, rule, _Used(spread(used["lr"].values, of_group), first, second, eps, of_group))
    coordinates = {schema.STEP: found.steps, schema.PARAMETER: names, schema.GROUP: used[schema.GROUP].values}
    about = {name: table[name].variable for name in _COPIED} | {"of_group": (schema.PARAMETER, of_group)}
    return xr.Dataset(
        {
            **{name: (_OVER, values) for name, values in stepped.items()},
            "predicted_ratio": (_OVER, _predicted_ratio(run, found)),
            "gradient_norm": (schema.STEP, _norm(found)),
            **used.drop_vars(["eps", "momentum", "nesterov"]).data_vars,
            "correction": ((schema.STEP, schema.GROUP), second),
            "rule": (schema.PARAMETER, rule),
            "eps": (schema.PARAMETER, eps),
        },
        coordinates | about,
    )


@dataclass(frozen=True)
class _Used:
    """What steps used: lr (step, parameter); corrections of both moments (step, group); eps (parameter)."""

    lr: Floats
    first: Floats
    second: Floats
    eps: Floats
    of_group: Groups


def _judged(table: xr.Dataset) -> xr.Dataset:
    """Keep the parameters that hold values of their own."""
    own = (table["tied_to"] == "") & (table["kind"] != Kind.BUFFER)
    return table.isel({schema.PARAMETER: np.flatnonzero(own.values)})


def _rules(found: Recorded, used: xr.Dataset, of_group: Groups) -> Words:
    optimizer, momentum, nesterov = (used[name].values.tolist() for name in ("optimizer", "momentum", "nesterov"))
    rules = [
        rule_of(held, optimizer=optimizer[group], momentum=momentum[group], nesterov=nesterov[group])
        if group >= 0
        else UNKNOWN
        for held, group in zip(found.held(), of_group.tolist(), strict=True)
    ]
    return np.array(rules, dtype=np.str_)


def _corrections(found: Recorded, betas: Floats, of_group: Groups) -> Floats:
    """Give 1 / (1 - beta^t), (step, group); 1 where moments are older than the run."""
    steps = found.steps.astype(np.float64)
    older = np.isin(np.arange(len(betas)), of_group[found.before_training()])
    return np.where(older & ~np.isnan(betas), 1.0, correction(betas, steps[:, None]))


def _stepped(found: Recorded, rule: Words, used: _Used) -> dict[str, Floats]:
    """Compute what stands over (step, parameter)."""
    first = _filled(found.of("exp_avg", "rms"), found.of("momentum_buffer", "rms"))
    squares, largest = _squares(found, rule), found.of("max_exp_avg_sq", "mean")
    adam = rule == ADAM
    second = divided = np.sqrt(_corrected(squares, adam, used.second, used.of_group))
    if not np.isnan(largest).all():
        divided = np.sqrt(_corrected(_filled(largest, squares), adam, used.second, used.of_group))
    first = _corrected(first, adam, used.first, used.of_group)
    gradient = found.of(Quantity.GRADIENTS, "rms")
    moved = direction(rule, gradient=gradient, first=first, second=divided, eps=used.eps)
    with np.errstate(invalid="ignore", divide="ignore"):
        signal = np.where(adam, first / second, np.nan)
    return {
        "gradient": gradient,
        "first_moment": first,
        "second_moment": second,
        "signal": signal,
        "effective_step": used.lr * moved,
        "update": found.of(Quantity.UPDATES, "rms"),
        "idle": _idle(found),
        "nonfinite": _nonfinite(found),
    }


def _squares(found: Recorded, rule: Words) -> Floats:
    """Read the mean of what each rule keeps of the squares of the gradients."""
    squares = np.broadcast_to(np.nan, (len(found.steps), len(found.names)))
    for name, moment in SECOND.items():
        if (rule == name).any():
            squares = np.where(rule == name, found.of(moment, "mean"), squares)
    return squares


def _corrected(values: Floats, adam: npt.NDArray[np.bool_], factor: Floats, of_group: Groups) -> Floats:
    """Rid moments of Adam of their bias towards 0."""
    return np.where(adam, values * spread(factor, of_group), values) if adam.any() else values


def _filled(values: Floats, others: Floats) -> Floats:
    """Give the others where values are NaN."""
    unknown = np.isnan(values)
    return others if unknown.all() else np.where(unknown, others, values)


def _idle(found: Recorded) -> Floats:
    """Give the share of elements that no gradient ever reached: those whose oldest memory is still zero."""
    share = np.broadcast_to(np.nan, (len(found.steps), len(found.names)))
    for moment in (*SECOND.values(), "exp_avg", "momentum_buffer"):
        if moment in found.moments:
            with np.errstate(invalid="ignore"):  # an empty tensor has no share
                share = _filled(share, found.of(moment, "zeros") / found.of(moment, "count"))
    return share


def _nonfinite(found: Recorded) -> Floats:
    """Count what is NaN or infinite in all moments together; NaN where none was recorded."""
    counts = np.broadcast_to(np.nan, (len(found.steps), len(found.names)))
    for moment in found.moments:
        here = found.of(moment, "nonfinite")
        counts = np.where(np.isnan(here), counts, np.nan_to_num(counts) + here)  # not all have every moment
    return counts


def _norm(found: Recorded) -> Floats:
    """Give the norm of all gradients together; parameters without a gradient have no part in it."""
    norms, bad = found.of(Quantity.GRADIENTS, "l2"), found.of(Quantity.GRADIENTS, "nonfinite") > 0
    told = ~np.isnan(norms)
    whole = np.sqrt((np.where(told, norms, 0.0) ** 2).sum(axis=1))
    return np.where(bad.any(axis=1), np.inf, np.where(told.any(axis=1), whole, np.nan))


def _predicted_ratio(run: xr.DataTree, found: Recorded) -> Floats:
    related = group_or_none(run, schema.RELATIONS)
    if related is None or schema.PREDICTED_RATIO not in related:
        return np.broadcast_to(np.nan, (len(found.steps), len(found.names)))
    return on_grid(related[schema.PREDICTED_RATIO], steps=found.steps, names=found.names)
