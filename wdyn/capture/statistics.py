"""What are the numbers of a tensor, right to float64, whatever its dtype, size or content?

Each tensor is read in pieces that fit a cache. Within a piece everything is summed in float64 about the piece's own
mean; pieces are joined by the update formulas of Pébay (2008, Sandia report SAND2008-6212, eqs. 3.1 to 3.3), so that
nothing is lost to cancellation: E[x^2] - E[x]^2 is never formed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wdyn.rows import Values

_PIECE = 1 << 18
_SUMS = ("n", "mean", "m2", "m3", "m4", "l1", "min", "max", "zeros", "nans", "infs")


def statistics(tensors: Sequence[Tensor | None], *, minus: Sequence[Tensor | None] | None = None) -> dict[str, Values]:
    """Measure tensors, each as one population.

    Parameters
    ----------
    tensors
        Any shapes and dtypes; complex numbers are measured by their modulus. None stands for "not there".
    minus
        Subtracted elementwise in float64 before anything is measured, if given.

    Returns
    -------
    dict
        For each statistic an array with one value a tensor. ``mean std rms min max abs_max l1 l2 skewness kurtosis``
        are float64, over the finite elements, NaN where there are none; std is the population's (ddof 0), kurtosis is
        3 for a normal distribution. ``count zeros nonfinite nans infs`` are int64, -1 where the tensor is None.
    """
    others = [None] * len(tensors) if minus is None else minus
    sums = np.full((len(tensors), len(_SUMS)), np.nan)
    pieces = [_pieces(one, other) for one, other in zip(tensors, others, strict=True) if one is not None]
    rows = _to_host([row for of_tensor in pieces for row in of_tensor])
    start = 0
    present = [number for number, one in enumerate(tensors) if one is not None]
    for number, of_tensor in zip(present, pieces, strict=True):
        sums[number] = _join(rows[start : start + len(of_tensor)])
        start += len(of_tensor)
    return _finish(sums, there=np.array([one is not None for one in tensors], dtype=bool))


def _pieces(tensor: Tensor, other: Tensor | None) -> list[Tensor]:
    flat = tensor.detach().reshape(-1).split(_PIECE)
    if other is None:
        return [_sums(_as_float64(piece)) for piece in flat]
    others = other.detach().reshape(-1).split(_PIECE)
    return [_sums(_difference(piece, before)) for piece, before in zip(flat, others, strict=True)]


def _as_float64(piece: Tensor) -> Tensor:
    return piece.to(torch.complex128).abs() if piece.is_complex() else piece.to(torch.float64)


def _difference(after: Tensor, before: Tensor) -> Tensor:
    if after.is_complex():
        return (after.to(torch.complex128) - before.to(torch.complex128)).abs()
    return after.to(torch.float64) - before.to(torch.float64)


def _sums(values: Tensor) -> Tensor:
    """Sums of one piece, on its device, in the order of `_SUMS`; NaN and Inf are counted and left out."""
    finite = values.isfinite()
    if values.device.type != "cpu" or not finite.all():
        return _sums_of_finite(values, finite)
    return _central_sums(values, torch.tensor(values.numel(), dtype=torch.float64))


def _central_sums(values: Tensor, n: Tensor) -> Tensor:
    nothing = torch.zeros((), dtype=torch.float64)
    if values.numel() == 0:
        return torch.stack([nothing] * 6 + [nothing + torch.inf, nothing - torch.inf] + [nothing] * 3)
    low, high = torch.aminmax(values)
    l1 = torch.linalg.vector_norm(values, 1)
    zeros = n - torch.count_nonzero(values)
    mean = values.mean()
    deviation = values - mean
    square = deviation * deviation
    m2, m3, m4 = square.sum(), torch.dot(square, deviation), torch.dot(square, square)
    return torch.stack([n, mean, m2, m3, m4, l1, low, high, zeros, nothing, nothing])


def _sums_of_finite(values: Tensor, finite: Tensor) -> Tensor:
    """The same with a mask and no wait for the device."""
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


def _to_host(rows: list[Tensor]) -> npt.NDArray[np.float64]:
    """Bring all rows over in one transfer for each device."""
    result = np.empty((len(rows), len(_SUMS)))
    for device in {row.device for row in rows}:
        here = [number for number, row in enumerate(rows) if row.device == device]
        result[here] = torch.stack([rows[number] for number in here]).cpu().numpy()
    return result


def _join(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    total: npt.NDArray[np.float64] = rows[0]
    for row in rows[1:]:
        total = merge(total, row)
    return total


def merge(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Join the sums of two disjoint populations (Pébay 2008, eqs. 2.1, 3.1 to 3.3)."""
    na, mean_a, m2a, m3a, m4a = a[:5]
    nb, mean_b, m2b, m3b, m4b = b[:5]
    n = na + nb
    if na == 0 or nb == 0:
        first = b[:5] if na == 0 else a[:5]
    else:
        d = mean_b - mean_a
        mean = mean_a + d * nb / n
        m2 = m2a + m2b + d**2 * na * nb / n
        m3 = m3a + m3b + d**3 * na * nb * (na - nb) / n**2 + 3 * d * (na * m2b - nb * m2a) / n
        m4 = (
            m4a
            + m4b
            + d**4 * na * nb * (na**2 - na * nb + nb**2) / n**3
            + 6 * d**2 * (na**2 * m2b + nb**2 * m2a) / n**2
            + 4 * d * (na * m3b - nb * m3a) / n
        )
        first = np.array([n, mean, m2, m3, m4])
    l1 = a[5] + b[5]
    return np.concatenate([first, [l1, min(a[6], b[6]), max(a[7], b[7])], a[8:] + b[8:]])


def _finish(sums: npt.NDArray[np.float64], *, there: npt.NDArray[np.bool_]) -> dict[str, Values]:
    n, mean, m2, m3, m4, l1, low, high, zeros, nans, infs = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):  # 0/0 is NaN, which is the answer
        some = np.where(n > 0, n, np.nan)
        mean = np.where(n > 0, mean, np.nan)
        low, high = np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)
        rms = np.sqrt(m2 / some + mean**2)
        floats = {
            "mean": mean,
            "std": np.sqrt(m2 / some),
            "rms": rms,
            "min": low,
            "max": high,
            "abs_max": np.maximum(np.abs(low), np.abs(high)),
            "l1": l1,
            "l2": np.where(n > 0, rms * np.sqrt(n), np.where(n == 0, 0.0, np.nan)),
            "skewness": np.sqrt(some) * m3 / m2**1.5,
            "kurtosis": some * m4 / m2**2,
        }
    counts = {"count": n + nans + infs, "zeros": zeros, "nonfinite": nans + infs, "nans": nans, "infs": infs}
    return {**floats, **{name: np.where(there, values, -1).astype(np.int64) for name, values in counts.items()}}
