"""Which saved models of a series does a run not hold yet?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wdyn import schema
from wdyn.checkpoints.fitting import Member
from wdyn.errors import InvalidArgument
from wdyn.store.reader import open_run
from wdyn.store.root import read_root

IMPORTED = "imported"
"""Attribute of an attempt: the saved models that it was made from, each with ``step``, ``from`` and ``step_from``."""


def is_imported(run: Path) -> bool:
    """Whether a run was made of saved models, in all of its attempts."""
    return all(IMPORTED in attempt for attempt in read_root(run).attributes["attempts"])


def missing(run: Path, members: Sequence[Member]) -> list[Member]:
    """Give the members that are to be written: those from the first one on that the run does not hold.

    Raises
    ------
    InvalidArgument
        The run holds a step from elsewhere, or later ones that would have to be written again and are not there.
    """
    held = _imported(run)
    for member in members:
        if member.step in held and held[member.step] != member.called:
            raise InvalidArgument(
                f"{run} has step {member.step} from {held[member.step]}, and not from {member.called}. Import it into "
                f"a run of its own"
            )
    new = [member.step for member in members if member.step not in held]
    if not new:
        return []
    again = {step for step in held if step > new[0]}
    if lost := sorted(again - {member.step for member in members}):
        raise InvalidArgument(
            f"Step {new[0]} comes before step {lost[0]}, which {run} holds and which would have to be read again from "
            f"{held[lost[0]]}: give that too, or import into a run of its own"
        )
    return [member for member in members if member.step >= new[0]]


def _imported(run: Path) -> dict[int, str]:
    """Give where each step that the run holds was read from."""
    said = {
        one["step"]: one["from"]
        for attempt in read_root(run).attributes["attempts"]
        for one in attempt.get(IMPORTED, ())
    }
    states = open_run(run).children.get(schema.STATES)
    steps = [] if states is None else np.asarray(states[schema.STEP]).tolist()
    return {step: said[step] for step in steps}
