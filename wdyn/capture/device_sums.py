"""How are tensors on an accelerator measured, with no wait for the device until one transfer at the end?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wdyn import bins
from wdyn.capture.layout import Aligned, pieces
from wdyn.capture.plain import modulus
from wdyn.capture.sums import NAMES, Sums, join

_PIECE = 1 << 22


def device_sums(populations: Sequence[Aligned]) -> tuple[Sums, npt.NDArray[np.int64]]:
    """Measure tensors, or their differences to others of their shape; complex numbers by their modulus.

    Returns
    -------
    sums, counts
        (population, `sums.NAMES`) and (population, `bins.CODES`).
    """
    rows: list[Tensor] = []
    counts: list[Tensor] = []
    sizes = np.zeros(len(populations), dtype=np.int64)
    for at, population in enumerate(populations):
        found = torch.zeros(bins.CODES, dtype=torch.int64, device=population[0].device)
        for piece in pieces(population, size=_PIECE):
            values = _float64(piece)
            rows.append(piece_sums(values))
            codes = codes_of(values)
            found.scatter_add_(0, codes, torch.ones_like(codes))
            sizes[at] += 1
        counts.append(found)
    packed = _to_host([*rows, *(found.view(torch.float64) for found in counts)])  # bits only; no number is changed
    sums = np.array(packed[: len(rows)]).reshape(-1, len(NAMES))
    counted = np.array(packed[len(rows) :]).reshape(-1, bins.CODES).view(np.int64)
    return join(sums, sizes=sizes), counted


def _float64(piece: Aligned) -> Tensor:
    """The numbers to measure, in one row."""
    tensor, *minus = piece
    if tensor.is_complex():
        return modulus(*piece).view(-1)
    wide = tensor.to(torch.float64)
    for before in minus:
        wide = wide - before.to(torch.float64)
    return wide.reshape(-1)


def piece_sums(values: Tensor) -> Tensor:
    """Sums of one float64 piece that is not empty, on its device, in the order of `wdyn.capture.sums.NAMES`.

    What is not finite is masked rather than looked for, since looking would wait for the device.
    """
    finite = values.isfinite()
    n = finite.sum(dtype=torch.float64)
    kept = torch.where(finite, values, 0.0)
    low = torch.where(finite, values, torch.inf).amin()
    high = torch.where(finite, values, -torch.inf).amax()
    some = n > 0
    mean = torch.where(some, (kept.sum() / n.clamp(min=1)).clamp(low, high), 0.0)
    deviation = torch.where(finite, values - mean, 0.0)
    square = deviation * deviation
    moments = [square.sum(), (square * deviation).sum(), (square * square).sum()]
    zeros = (values == 0).sum(dtype=torch.float64)
    nans = values.isnan().sum(dtype=torch.float64)
    infs = values.numel() - n - nans
    return torch.stack([n, mean, *moments, kept.abs().sum(), low, high, zeros, nans, infs])


def codes_of(values: Tensor) -> Tensor:
    """The code of each float64 number, as `wdyn.bins` counts it."""
    bits = values.view(torch.int64)
    leading = ((bits >> 50) & 0x1FFF) - 4 * (1023 - 127)
    codes = leading.clamp(0, bins.SIGN - 1) + bins.SIGN * (bits < 0)
    codes = torch.where(values == 0, bins.CODE_OF_ZERO, codes)
    return torch.where(values.isnan(), bins.CODE_OF_NAN, codes)


def _to_host(rows: list[Tensor]) -> list[npt.NDArray[np.float64]]:
    """Bring all rows over, in one transfer for each device."""
    result: list[npt.NDArray[np.float64]] = [np.empty(0)] * len(rows)
    for device in {row.device for row in rows}:
        here = [number for number, row in enumerate(rows) if row.device == device]
        flat = torch.cat([rows[number] for number in here]).cpu().numpy()
        ends = np.cumsum([rows[number].numel() for number in here])
        for number, values in zip(here, np.split(flat, ends[:-1]), strict=True):
            result[number] = values
    return result
