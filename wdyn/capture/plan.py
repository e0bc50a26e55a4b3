"""What was asked for? The arguments of `watch`, read and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wdyn.capture.declared import Declared
from wdyn.capture.schedule import Schedule
from wdyn.schema import Address, Extra, Quantity


@dataclass(frozen=True)
class Plan:
    """The arguments of `watch`, read and checked."""

    place: Path
    rows: Schedule
    snapshots: Schedule | None
    """None: the default, which depends on the size of a snapshot."""
    what: tuple[Quantity | Extra, ...]
    wanted: Callable[[Address], bool]
    parts: Declared
    heads: bool
    compression: str | None
    resume: bool | int
    disk_limit: int
    queue_bytes: int
