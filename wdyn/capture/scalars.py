"""What is kept of every step, in host memory alone: learning rates, time, cost, and what the user logs?"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.optim import Optimizer

from wdyn import schema
from wdyn.capture.optimizers import HYPERPARAMETERS, Settings, by_name, hyperparameters, loss_scale, unused
from wdyn.capture.schedule import Listener
from wdyn.naming import sanitised, with_checksum
from wdyn.rows import Row, Values

_LONG = 512
_OLD_SECONDS = 5.0
_COSTS = ("wall_time", "capture_seconds", "write_seconds", "bytes_written")
_OWN = frozenset({*HYPERPARAMETERS, *_COSTS, schema.STEP, schema.ATTEMPT, schema.GROUP})
_Ended = tuple[Settings, tuple[float, ...]]
"""What a step has of its own: the settings that it used, and its `_COSTS`."""


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
        self._logged.setdefault(row.step, {}).update(known)  # before settings, which no step of this attempt used yet

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

    def take(self, *, before: int) -> tuple[Row, ...]:
        """Give a row for each step below `before`, and forget it: nothing more can be logged there."""
        self._since = time.monotonic()
        ended = {step: self._ended.pop(step) for step in list(self._ended) if step < before}
        rows: dict[int, dict[str, Values]] = dict(zip(ended, _numbers(ended.values()), strict=True))
        for step in [step for step in self._logged if step < before]:
            logged: dict[str, Values] = {name: _on_host(value) for name, value in self._logged.pop(step).items()}
            rows[step] = rows.get(step, {}) | logged
        return tuple(self._row(step, rows[step]) for step in sorted(rows))

    def _row(self, step: int, numbers: dict[str, Values]) -> Row:
        names = {array: name for name, array in self._array_of.items() if array != name and array in numbers}
        return Row(schema.SCALARS, step, numbers, names)

    def _safe(self, name: str) -> str:
        """Name the array of a logged value: the name itself where that is safe as a path and not taken."""
        if name not in self._array_of:
            safe = sanitised(name)
            taken = _OWN | {array.lower() for array in self._array_of.values()}
            self._array_of[name] = with_checksum(name) if not safe or safe.lower() in taken else safe
        return self._array_of[name]


def _numbers(ended: Collection[_Ended]) -> Iterator[dict[str, Values]]:
    """Make arrays of what steps have of their own, of all at once: one by one that would take longer than the steps."""
    costs = np.array([costs for _, costs in ended], dtype=np.float64)
    for at, settings in enumerate(by_name([settings for settings, _ in ended])):
        yield {**settings, **{name: costs[at, column, ...] for column, name in enumerate(_COSTS)}}


def _as_scalar(value: object) -> float | torch.Tensor | None:
    """A number, or a copy of a one-element tensor that lies on a device; None for anything else."""
    if isinstance(value, torch.Tensor):
        if value.numel() != 1 or value.is_complex():
            return None
        return float(value.item()) if value.device.type == "cpu" else value.detach().clone()
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def _on_host(value: object) -> npt.NDArray[np.float64]:
    plain = value.item() if type(value) is not float and isinstance(value, torch.Tensor) else value
    return np.array(plain, np.float64)
