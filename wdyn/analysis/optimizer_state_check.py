"""What is wrong, or worth knowing, about the optimizer's state and its settings?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis.evidence import sel_line
from wdyn.analysis.optimizer_state_parameters import odd_parameters
from wdyn.analysis.optimizer_state_piling import Pile, pile
from wdyn.analysis.optimizer_state_rules import correction_ends
from wdyn.findings import Finding, Severity

CODES = {
    "OPT001": "The learning rate is at its peak while the second moment still rests on few gradients.",
    "OPT002": "Gradients pile up from step to step, as without zero_grad.",
    "OPT003": "No optimizer holds a trainable parameter.",
    "OPT004": "Weight decay reaches norms and biases.",
    "OPT005": "The optimizer holds a trainable parameter that never got a gradient.",
    "OPT006": "There are NaN or infinite values in the optimizer's moments.",
    "OPT007": "Measured updates differ from what the optimizer's rule says.",
    "OPT008": "The second moment is so small that eps decides how far a weight moves.",
    "OPT009": "Some elements of a weight never got a gradient.",
}


def check(
    result: xr.Dataset,
    *,
    correction: float = 2.0,
    straightness: float = 0.97,
    least_rows: int = 6,
    growth: float = 5.0,
    pace: float = 0.1,
    pull: float = 0.05,
    misfit: float = 0.1,
    idle: float = 0.1,
) -> Iterator[Finding]:
    """Judge what `optimizer_state` measured.

    Parameters
    ----------
    result
        From `optimizer_state`.
    correction
        1 / (1 - beta2^t) above which the second moment rests on few gradients; 2 is where half of the weight of its
        average is still missing.
    straightness, least_rows, growth, pace
        What a rise of the gradient norm from the first row on must have to be a pile: R^2 of a line, rows, last norm
        over first norm, and slope as a share of that of equal gradients that add up. The slope may be at most twice
        that: gradients that grow faster grow by themselves.
    pull
        Sum of lr times weight decay below which the decay of norms and biases is no matter.
    misfit
        By which share the norm that the rule says may differ from the measured one, in the median row.
    idle
        Share of a weight's elements without any gradient beyond which that is told.
    """
    yield from _uncovered(result, correction)
    yield from _piled(result, find_pile(result, straightness=straightness, least_rows=least_rows), growth, pace)
    yield from odd_parameters(result, pull=pull, misfit=misfit, idle=idle)


def find_pile(result: xr.Dataset, *, straightness: float = 0.97, least_rows: int = 6) -> Pile:
    """Look for the straight rise of the gradient norm from the first row on; figures ask here too."""
    norms = result["gradient_norm"].dropna(schema.STEP)  # rows without a gradient
    norms = norms.isel({schema.STEP: np.flatnonzero(norms[schema.STEP].values > 0)})
    return pile(norms[schema.STEP].values, norms.values, straightness=straightness, least_rows=least_rows)


def is_pile(found: Pile, *, growth: float = 5.0, pace: float = 0.1) -> bool:
    """Say whether a rise is one that gradients without a reset make."""
    return found.rows > 0 and found.growth >= growth and pace <= found.pace <= 2


def _uncovered(result: xr.Dataset, limit: float) -> Iterator[Finding]:
    ends = {
        group: correction_ends(beta, limit)
        for group, beta in zip(result[schema.GROUP].values.tolist(), result["beta2"].values.tolist(), strict=True)
        if beta > 0 and (result["correction"].sel({schema.GROUP: group}) > limit).any()
    }
    early = [group for group, end in ends.items() if float(result["peak_at"].sel({schema.GROUP: group})) < end]
    for end in sorted({ends[group] for group in early}):
        groups = [group for group in early if ends[group] == end]
        peak = int(result["peak_at"].sel({schema.GROUP: groups}).min())
        beta, last = float(result["beta2"].sel({schema.GROUP: groups[0]})), int(result[schema.STEP].values[-1])
        beyond = f", later than the last step, {last}" if end > last else ""
        yield Finding(
            "OPT001",
            Severity.INFO,
            f"With beta2 = {beta:g} the second moment rests on few gradients before step {end}{beyond}, and the "
            f"learning rate is at its peak from step {peak} on",
            result[["correction", "lr"]].sel({schema.GROUP: groups}),
            "Where the first steps are rough, warm the learning rate up for longer, 2 / (1 - beta2) steps by the rule "
            "of Ma and Yarats (2019), or take a smaller beta2, 0.95 say.",
            sel_line("wdyn.optimizer_state(run).correction", group=groups),
        )


def _piled(result: xr.Dataset, found: Pile, growth: float, pace: float) -> Iterator[Finding]:
    if is_pile(found, growth=growth, pace=pace):
        yield Finding(
            "OPT002",
            Severity.WARNING,
            f"The gradient norm grew ×{found.growth:.3g} in a line up to step {found.last} (R² "
            f"{found.straightness:.3f}), at {found.pace:.2f} of the pace of gradients that are never reset",
            result[["gradient_norm"]].sel({schema.STEP: slice(None, found.last)}),
            "Call optimizer.zero_grad() once for every optimizer.step(): each step seems to use the sum of all "
            "gradients so far.",
            f"wdyn.optimizer_state(run).gradient_norm.sel(step=slice(None, {found.last}))",
        )
