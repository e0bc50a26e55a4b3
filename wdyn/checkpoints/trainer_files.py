"""What did transformers' Trainer save beside the weights: its optimizer, its schedule, and what it logged?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wdyn.checkpoints.beside import json_beside
from wdyn.checkpoints.contents import Contents
from wdyn.checkpoints.torch_files import read_torch_file

STATE = "trainer_state.json"
_OPTIMIZERS = ("optimizer.pt", "optimizer.bin")
_SCHEDULER = "scheduler.pt"
_OURS = {"learning_rate": "lr"}
"""Names of what it logs -> wdyn's."""


def optimizer(folder: Path) -> Contents | None:
    """Read the optimizer; None where none was saved. Its tensors stay in the file."""
    file = next((folder / name for name in _OPTIMIZERS if (folder / name).is_file()), None)
    return None if file is None else read_torch_file(file)


def is_scheduled(folder: Path) -> bool:
    """Whether a schedule of the learning rate was saved."""
    return (folder / _SCHEDULER).is_file()


def state(folder: Path) -> Mapping[str, Any]:
    """Read ``trainer_state.json``; empty where there is none.

    Raises
    ------
    InvalidArgument
        It is there, and is no JSON object.
    """
    return json_beside(folder / STATE)


def history(folder: Path) -> dict[int, dict[str, float]]:
    """Give what was logged, by step: ``loss``, ``lr``, ``grad_norm``, ``epoch``, ``eval_loss``..."""
    logged: dict[int, dict[str, float]] = {}
    for entry in state(folder).get("log_history") or ():
        step = entry.get("step") if isinstance(entry, dict) else None
        if isinstance(step, int):
            numbers = {
                name: value for name, value in entry.items() if isinstance(value, int | float) and name != "step"
            }
            logged.setdefault(step, {}).update({_OURS.get(name, name): float(one) for name, one in numbers.items()})
    return dict(sorted(logged.items()))
