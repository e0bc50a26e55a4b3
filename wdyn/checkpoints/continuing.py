"""Which saved models of a series does a run not hold yet?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.checkpoints.fitting import Member, Origin, check_one_model
from wdyn.errors import InvalidArgument
from wdyn.reading.tables import parameters
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
        The run is of another model; or it holds a step from elsewhere, or later ones that would have to be written
        again and are not there.
    """
    opened = open_run(run)
    held = _imported(opened)
    check_one_model([_as_member(run, opened), *members])
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


def _as_member(run: Path, opened: xr.DataTree) -> Member:
    """Give a run as what came before a series: all tensors that it was made from."""
    table = parameters(opened)
    columns = (table[column].values.tolist() for column in (schema.PARAMETER, "shape", "dtype"))
    forms = {name: (tuple(json.loads(shape)), dtype) for name, shape, dtype in zip(*columns, strict=True)}
    return Member(Origin(run), step=0, step_source="", forms=forms, nbytes=0)


def _imported(run: xr.DataTree) -> dict[int, str]:
    """Give where each step that the run holds was read from."""
    said = {
        one["step"]: one["from"]
        for attempt in run.attrs[schema.ATTRIBUTES]["attempts"]
        for one in attempt.get(IMPORTED, ())
    }
    states = run.children.get(schema.STATES)
    steps = [] if states is None else np.asarray(states[schema.STEP]).tolist()
    return {step: said[step] for step in steps}
