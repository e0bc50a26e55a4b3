"""How are tensors on an accelerator summed up, with no wait for the device until one transfer at the end?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wdyn.capture.sums import Sums, merge_all

_PIECE = 1 << 22


def device_sums(tensors: Sequence[Tensor], before: Sequence[Tensor | None]) -> list[Sums]:
    """Sum up each tensor, or its difference to another of its shape; complex numbers by their modulus."""
    rows = [_rows(tensor.detach(), other) for tensor, other in zip(tensors, before, strict=True)]
    flat = _to_host([row for of_tensor in rows for row in of_tensor])
    ends = np.cumsum([len(of_tensor) for of_tensor in rows])
    return [merge_all(flat[end - len(of_tensor) : end]) for of_tensor, end in zip(rows, ends, strict=True)]


def _rows(tensor: Tensor, before: Tensor | None) -> list[Tensor]:
    pieces = tensor.reshape(-1).split(_PIECE)
    if before is None:
        return [piece_sums(_as_float64(piece)) for piece in pieces]
    others = before.detach().reshape(-1).split(_PIECE)
    return [piece_sums(_difference(piece, other)) for piece, other in zip(pieces, others, strict=True)]


def _as_float64(piece: Tensor) -> Tensor:
    return piece.to(torch.complex128).abs() if piece.is_complex() else piece.to(torch.float64)


def _difference(after: Tensor, before: Tensor) -> Tensor:
    if after.is_complex():
        return (after.to(torch.complex128) - before.to(torch.complex128)).abs()
    return after.to(torch.float64) - before.to(torch.float64)


def piece_sums(values: Tensor) -> Tensor:
    """Sums of one float64 piece, on its device, in the order of `wdyn.capture.sums.NAMES`.

    What is not finite is masked rather than looked for, since looking would wait for the device.
    """
    finite = values.isfinite()
    n = finite.sum(dtype=torch.float64)
    kept = torch.where(finite, values, 0.0)
    mean = kept.sum() / n.clamp(min=1)
    deviation = torch.where(finite, values - mean, 0.0)
    square = deviation * deviation
    moments = [square.sum(), torch.dot(square, deviation), torch.dot(square, square)]
    low = torch.where(finite, values, torch.inf).amin() if values.numel() else n + torch.inf
    high = torch.where(finite, values, -torch.inf).amax() if values.numel() else n - torch.inf
    zeros = (values == 0).sum(dtype=torch.float64)
    nans = values.isnan().sum(dtype=torch.float64)
    infs = values.numel() - n - nans
    return torch.stack([n, mean, *moments, kept.abs().sum(), low, high, zeros, nans, infs])


def _to_host(rows: list[Tensor]) -> Sums:
    """Bring all rows over, in one transfer for each device."""
    result = np.empty((len(rows), 11))
    for device in {row.device for row in rows}:
        here = [number for number, row in enumerate(rows) if row.device == device]
        result[here] = torch.stack([rows[number] for number in here]).cpu().numpy()
    return result
