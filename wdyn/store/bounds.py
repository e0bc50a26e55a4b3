"""How much memory may one reading take, by what metadata claims before anything was read?

A few hundred bytes of metadata can claim petabytes, and a sparse run may have a large shape and few files in earnest.
So the claim is compared with a limit: without one that the user gives, with the memory of this machine, beyond which no
reading would succeed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from wdyn.errors import DamagedRun
from wdyn.store.layout import Layout
from wdyn.store.pieces import Wanted, chunks, lengths

_CHUNK_COST: Final = 512
"""Bytes that it takes to keep track of one chunk."""
_HARDLY_COMPRESSED: Final = 4096
"""Bytes that a compressed chunk may be larger than its values, beside a hundredth of them."""


def memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_size(name: str, nbytes: int, *, limit: int | None, claim: str = "") -> None:
    """Refuse to take more than `limit` bytes (default: `memory`).

    Raises
    ------
    DamagedRun
        It would be more; the message repeats the `claim`.
    """
    bound = memory() if limit is None else limit
    if nbytes > bound:
        raise DamagedRun(
            f"{name} claims {nbytes:,} bytes{claim}, and one reading may take {bound:,}. If that is its true size, "
            "read a part of it, or raise the limit: wdyn.open_run(..., size_limit=bytes)"
        )


def check(folder: str, layout: Layout, wanted: Sequence[Wanted], *, limit: int | None) -> None:
    """Refuse a reading that would take more than `limit` bytes (default: `memory`), before it takes any.

    Raises
    ------
    DamagedRun
        It would.
    """
    size = layout.dtype.itemsize
    for length in lengths(wanted, layout.shape):
        size *= length
    needed = max(size + _CHUNK_COST * chunks(wanted, layout.shape, layout.chunk), layout.chunk_bytes)
    if size:
        shapes = f" (shape {list(layout.shape)}, chunks {list(layout.chunk)})"
        check_size(folder, needed, limit=limit, claim=shapes)


def most_bytes(layout: Layout, *, file_bytes: int) -> int:
    """Give the size that one chunk in a file cannot exceed; checksum included."""
    if layout.is_text:
        return file_bytes
    return layout.chunk_bytes + layout.chunk_bytes // 100 + _HARDLY_COMPRESSED
