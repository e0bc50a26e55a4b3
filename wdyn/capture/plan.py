"""What was asked for? The arguments of `watch`, read and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wdyn.capture.declared import Declared
from wdyn.capture.schedule import Schedule
from wdyn.errors import InvalidArgument
from wdyn.schema import Address, Extra, Quantity

DROP, BLOCK = "drop", "block"


@dataclass(frozen=True)
class Plan:
    """The arguments of `watch`, read and checked."""

    place: Path
    rows: Schedule
    snapshots: Schedule | None
    """None: the default, which depends on the size of a snapshot."""
    what: tuple[Quantity | Extra, ...]
    wanted: Callable[[Address], bool]
    left_out: tuple[str, ...]
    """Names of what is not."""
    parts: Declared
    heads: bool
    compression: str | None
    resume: bool | int
    disk_limit: int
    queue_bytes: int
    when_full: str
    """What a snapshot does that finds the queue full: `DROP` or `BLOCK`."""
    flush_on_sigterm: bool
    alone: bool
    check_replicas: bool


def check_when_full(when_full: str) -> str:
    """Give it back, if it is one that there is.

    Raises
    ------
    InvalidArgument
        It is not.
    """
    if when_full not in (DROP, BLOCK):
        raise InvalidArgument(f"when_full={when_full!r}: needed is '{DROP}' or '{BLOCK}'")
    return when_full
