"""How does the compiled code get at the memory of a piece of a tensor?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wdyn import bins
from wdyn.capture.compiled import ORIGIN, Geometry, measure_narrow, measure_rows, measure_wide
from wdyn.capture.layout import Aligned
from wdyn.capture.plain import modulus, narrow
from wdyn.capture.sums import EMPTY, Sums

_LONG = 512
"""Rows that are at least this long are read where they lie."""
_NOTHING = np.empty(0, dtype=np.float32)
_NOWHERE: Geometry = (0, 0, 0, 0)


def compiled_kernel(batch: Sequence[Aligned]) -> tuple[Sums, npt.NDArray[np.int64]]:
    """Give the sums (piece, `sums.NAMES`) and counts (piece, `bins.CODES`) of pieces."""
    totals = np.tile(np.append(EMPTY, 0.0), (len(batch), 1))
    counts = np.zeros((len(batch), bins.CODES), dtype=np.int64)
    for piece, total, counted in zip(batch, totals, counts, strict=True):
        _measure(piece, total, counted)
    totals[:, 1] += totals[:, ORIGIN]
    return totals[:, :ORIGIN], counts


def _measure(piece: Aligned, total: Sums, counts: npt.NDArray[np.int64]) -> None:
    if piece[0].is_complex():
        piece = (modulus(*piece),)
    memory = [_memory(one) for one in piece]
    flat, table, geometry = memory[0]
    if not narrow(piece):
        before, before_table, before_geometry = memory[1] if len(memory) > 1 else (_NOTHING, _NOTHING, _NOWHERE)
        measure_wide(flat, table, geometry, before, before_table, before_geometry, total, counts)
    elif table.size or geometry[3] != 1 or geometry[2] < _LONG < piece[0].numel():
        measure_narrow(flat, table, geometry, total, counts)
    else:
        measure_rows(flat, geometry, total, counts)


def _memory(piece: Tensor) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32], Geometry]:
    """Memory of a piece, from its first element on; what its codes mean where it holds such; and where rows lie."""
    if piece.dim() > 2:
        piece = piece.contiguous().view(-1)
    rows, run = (1, 1, *piece.shape)[-2:]
    between, step = (0, 1, *piece.stride())[-2:]
    span = 1 + (rows - 1) * between + (run - 1) * step
    flat = torch.as_strided(piece, (span,), (1,), piece.storage_offset())
    geometry = (rows, between, run, step)
    if piece.dtype.itemsize > 2:
        return flat.numpy(), _NOTHING, geometry
    bits = torch.uint8 if piece.dtype.itemsize == 1 else torch.int16
    return flat.view(bits).numpy().view(f"u{piece.dtype.itemsize}"), _table(piece.dtype), geometry


@cache
def _table(dtype: torch.dtype) -> npt.NDArray[np.float32]:
    """The number behind each code of a narrow type."""
    signed = np.int8 if dtype.itemsize == 1 else np.int16
    codes = np.arange(1 << 8 * dtype.itemsize).astype(f"u{dtype.itemsize}").view(signed)
    if dtype == torch.bool:
        codes = (codes != 0).astype(np.int8)
    table: npt.NDArray[np.float32] = torch.from_numpy(codes).view(dtype).to(torch.float32).numpy()
    return table
