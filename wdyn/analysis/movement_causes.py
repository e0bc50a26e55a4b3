"""Why may a frozen weight have moved, and why may a trainable one not have?"""

from __future__ import annotations

from dataclasses import dataclass

import xarray as xr

from wdyn.findings import Severity

_COARSE = ("bfloat16", "float16", "float8")


@dataclass(frozen=True)
class Cause:
    """What lies behind it most likely, what to do, and how bad that is."""

    text: str
    advice: str
    severity: Severity = Severity.ERROR


def cause_of_move(one: xr.Dataset, decayed: bool) -> Cause:
    """Give the likely cause of a frozen weight's move; `decayed`: it only shrank."""
    if one["of_cohort"].item() != "frozen":
        return Cause(
            "the optimizer still holds it, and momentum or weight decay goes on after a freeze in mid-training",
            "Take it out of the optimizer when you freeze it, or clear its gradient and its state. If it is thawed "
            "again between recorded steps, as when two models train in turn, nothing is wrong.",
            Severity.WARNING,
        )
    if bool(one["partner_trains"]):
        return Cause("it shares memory with a trainable weight", "Freeze both names, or untie them before training.")
    if decayed:
        return Cause(
            "weight decay, for it only shrank",
            "Give the optimizer only parameters with requires_grad=True, and clear old gradients (set_to_none=True).",
        )
    if bool(one["in_optimizer"]):
        return Cause(
            "an optimizer holds it",
            "Leave it out of the optimizer: a gradient from before the freeze, or momentum, still moves it.",
        )
    return Cause(
        "something other than the optimizer writes to it",
        "Look for load_state_dict, an averaged copy (EMA), a cast, or code that changes .data.",
    )


def cause_of_rest(one: xr.Dataset) -> tuple[str, str]:
    """Give the likely cause of a trainable weight's rest, and what to do."""
    if not bool(one["in_optimizer"]):
        return "no optimizer holds it", "Add it to the optimizer, or freeze it with requires_grad_(False)."
    if bool(one["lr_zero"]):
        return "the learning rate of its group was 0", "Check the schedule and the lr of its parameter group."
    if str(one["dtype"].item()).startswith(_COARSE):
        return (
            f"updates below the spacing of {one['dtype'].item()} are lost, or no gradient reaches it",
            "Keep a float32 copy for the optimizer (mixed precision), or round stochastically.",
        )
    return (
        "no gradient reaches it",
        "Look for a detach(), a branch that is not used, torch.no_grad(), or freeze it if that is meant.",
    )
