"""What is kept of every step, in host memory alone: learning rates, time, cost, and what the user logs?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.optim import Optimizer

from wdyn import schema
from wdyn.capture.optimizers import HYPERPARAMETERS, Settings, by_name, hyperparameters, loss_scale, unused
from wdyn.capture.pieces import is_divided, local
from wdyn.capture.schedule import Listener
from wdyn.naming import sanitised, with_checksum
from wdyn.rows import Row, Rows

_LONG = 512
_OLD_SECONDS = 5.0
_COSTS = ("wall_time", "capture_seconds", "write_seconds", "bytes_written")
_OWN = frozenset({*HYPERPARAMETERS, *_COSTS, schema.STEP, schema.ATTEMPT, schema.GROUP})
_Ended = tuple[Settings, tuple[float, ...]]
"""What a step has of its own: the settings that it used, and its `_COSTS`."""
_NOT_ENDED: _Ended = ((), (np.nan,) * len(_COSTS))
_Columns = dict[str, npt.NDArray[np.float64]]
"""(step,) or (step, group), by name of the array."""


class ScalarLog:
    """Scalars by step, until they are taken as rows.

    Reading a tensor that lies on a device would wait for it, so such a value is copied there and read when taken.

    Parameters
    ----------
    optimizers
        Whose hyperparameters every step has.
    listeners
        Told of each number as it is logged; of a value that lies on a device they hear nothing.
    """

    def __init__(self, optimizers: Sequence[Optimizer], *, listeners: Sequence[Listener] = ()) -> None:
        self._optimizers, self._listeners = optimizers, listeners
        self._logged: dict[int, dict[str, object]] = {}
        self._ended: dict[int, _Ended] = {}
        self._array_of: dict[str, str] = {}
        self._since = time.monotonic()
        self._written = 0.0
        self._written_bytes = 0

    @property
    def is_long(self) -> bool:
        """Whether enough has gathered that it should be taken."""
        return max(len(self._ended), len(self._logged)) >= _LONG or time.monotonic() - self._since > _OLD_SECONDS

    def log(self, step: int, scalars: Mapping[str, object]) -> list[str]:
        """Keep values at `step`; return the names of those that are no numbers, kept as NaN."""
        row = self._logged.setdefault(step, {})
        bad = []
        for name, value in scalars.items():
            number = _as_scalar(value)
            bad += [name] if number is None else []
            row[self._safe(name)] = np.nan if number is None else number
            if isinstance(number, float):
                for one in self._listeners:
                    one.heard(name, number)
        return bad

    def take_over(self, row: Row) -> None:
        """Begin with what a row of the run that is continued tells of its step: all but time and cost."""
        self._array_of |= {name: array for array, name in row.long_names.items()}
        known = {name: value for name, value in row.values.items() if name not in _COSTS}
        self._logged.setdefault(row.step, {}).update(known)

    def end_step(
        self,
        step: int,
        *,
        seconds: float,
        written: float = 0.0,
        written_bytes: int = 0,
        read_tensors: bool,
        stepped: bool = True,
    ) -> None:
        """Keep what every step has: hyperparameters used to reach it, time, and what recording cost.

        `seconds` the loop has waited in this step; `written` the writer has worked beside it since it started, and
        `written_bytes` it has written since then.
        """
        settings = hyperparameters(self._optimizers, read_tensors=read_tensors)
        if (scale := loss_scale(self._optimizers)) is not None:
            self.log(step, {"loss_scale": scale})
        costs = time.time(), seconds, written - self._written, float(written_bytes - self._written_bytes)
        self._ended[step] = settings if stepped else unused(settings), costs
        self._written, self._written_bytes = written, written_bytes

    def take(self, *, before: int) -> tuple[Rows, ...]:
        """Give a row for each step below `before`, and forget it: nothing more can be logged there."""
        self._since = time.monotonic()
        ended = {step: self._ended.pop(step) for step in list(self._ended) if step < before}
        logged = {step: self._logged.pop(step) for step in list(self._logged) if step < before}
        steps = tuple(sorted(ended.keys() | logged.keys()))
        if not steps:
            return ()
        columns = _own_columns([ended.get(step, _NOT_ENDED) for step in steps]) if ended else {}
        for at, step in enumerate(steps):
            for name, value in logged.get(step, {}).items():
                _put(columns, name, _on_host(value), at=at, count=len(steps))
        names = {array: name for name, array in self._array_of.items() if array != name and array in columns}
        return (Rows(schema.SCALARS, steps, columns, names),)

    def _safe(self, name: str) -> str:
        """Name the array of a logged value: the name itself where that is safe as a path and not taken."""
        if name not in self._array_of:
            safe = sanitised(name)
            taken = _OWN | {array.lower() for array in self._array_of.values()}
            self._array_of[name] = with_checksum(name) if not safe or safe.lower() in taken else safe
        return self._array_of[name]


def _own_columns(ended: Sequence[_Ended]) -> _Columns:
    """Make arrays of what steps have of their own, of all at once: one by one that would take longer than the steps."""
    costs = np.array([costs for _, costs in ended], dtype=np.float64)
    return by_name([settings for settings, _ in ended]) | dict(zip(_COSTS, costs.T, strict=True))


def _put(columns: _Columns, name: str, value: float | npt.NDArray[np.float64], *, at: int, count: int) -> None:
    """Set the value of one step, of `count`: a number, or one for each group."""
    groups = value.shape if isinstance(value, np.ndarray) else ()
    column = columns.get(name)
    if column is None or column.shape[1:] < groups:  # a run that is continued may have had more groups
        wider = np.full((count, *groups), np.nan)
        if column is not None:
            wider[:, : column.shape[1]] = column
        columns[name] = column = wider
    if groups:
        column[at, : groups[0]] = value
    else:
        column[at] = value


def _as_scalar(value: object) -> float | torch.Tensor | None:
    """A number, or a copy of a one-element tensor that lies on a device; None for anything else."""
    if isinstance(value, torch.Tensor):
        if value.numel() != 1 or value.is_complex() or is_divided(value):
            return None
        held = local(value)
        return float(held.item()) if held.device.type == "cpu" else held.clone()
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def _on_host(value: object) -> float | npt.NDArray[np.float64]:
    return value.item() if isinstance(value, torch.Tensor) else value  # type: ignore[return-value]
