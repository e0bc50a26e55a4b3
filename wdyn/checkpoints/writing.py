"""How are saved models appended to a run, each as a whole or not at all?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from wdyn.capture.circumstances import circumstances
from wdyn.capture.model_config import as_config
from wdyn.checkpoints.continuing import IMPORTED
from wdyn.checkpoints.fitting import Member
from wdyn.checkpoints.rows import Importer
from wdyn.checkpoints.saved import Saved
from wdyn.schema import Extra, Quantity
from wdyn.store.held import held_before
from wdyn.store.root import is_run
from wdyn.store.writer import Writer

Progress = Callable[[str, int, int], None]
"""Told what is read now, how many tensors of all were read, and how many there are."""

_FRESH = -1


def write(
    run: Path,
    members: Sequence[Member],
    *,
    series: Sequence[Member],
    what: Collection[Quantity | Extra],
    progress: Progress,
) -> None:
    """Append saved models to a run, or begin it with them; each is committed before the next is read.

    Parameters
    ----------
    run
        The run, or where it goes.
    members
        What is appended, in the order of their steps.
    series
        All of the series: what comes before is the measure of displacement.
    what
        Quantities, and extras, that are wanted.
    progress
        Told of each tensor that was read.
    """
    if not members:
        return
    resume = is_run(run)
    after = max((one.step for one in series if one.step < members[0].step), default=_FRESH)
    sources = [{"step": one.step, "from": one.called, "step_from": one.step_source} for one in members]
    attempt = {"resumed_from_step": members[0].step if resume else _FRESH, **circumstances(), IMPORTED: sources}
    writer = Writer(run, about=_about(members[0].origin.open()), attempt=attempt, resume=resume)
    try:
        bar = _Bar(members, progress)
        before = held_before(writer.path, writer.arrays, attempt=writer.attempt, step=max(after, 0))
        importer = Importer(what=what, first=_First(series).read, before=before, told=bar.read)
        for member in members:
            bar.step = member.step
            for batch in importer.batches(member.origin.open(), step=member.step, after=after):
                writer.append(batch)
            writer.commit()
            after = member.step
    except BaseException:
        writer.abandon()
        raise
    writer.close()


def _about(saved: Saved) -> dict[str, Any]:
    """Root attributes: the class of the model, and what the optimizer was set to."""
    names = saved.config.get("architectures") or ()
    groups = [{name: value for name, value in group.items() if _is_plain(value)} for group in saved.training.settings]
    optimizers = [{"name": "", "groups": groups}] if groups else []
    model = str(names[0]) if isinstance(names, list) and names else ""
    return {"model": model, "config": as_config(saved.config), "optimizers": optimizers}


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bool | int | float)


@dataclass
class _Bar:
    """How far an import is, in tensors."""

    members: Sequence[Member]
    progress: Progress
    step: int = 0
    done: int = 0

    def read(self, name: str) -> None:
        """Count one tensor that was read."""
        self.done += 1
        self.progress(f"step {self.step}: {name}", self.done, sum(len(member.forms) for member in self.members))


@dataclass
class _First:
    """Reads the first values of tensors that a series has, and keeps one of its saved models open."""

    members: Sequence[Member]
    opened: dict[int, Saved] = field(default_factory=dict)

    def read(self, name: str) -> Tensor:
        member = next(one for one in self.members if name in one.forms)
        if member.step not in self.opened:
            self.opened = {member.step: member.origin.open()}
        return self.opened[member.step].read(name)
