"""How large is a product of two thin matrices, and how many directions does it use?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def product_spectrum(b: Floats, a: Floats) -> Floats:
    """Give the singular values of ``b @ a``, (fan_out, r) times (r, fan_in), by way of an r x r matrix.

    With b = Q R and a.T = P S, orthonormal Q and P, the singular values are those of R S.T.

    >>> product_spectrum(np.array([[3.0], [4.0]]), np.array([[1.0, 0.0, 0.0]])).round(12).tolist()
    [5.0]
    """
    left = np.asarray(np.linalg.qr(b, mode="r"))
    right = np.asarray(np.linalg.qr(a.T, mode="r"))
    return np.linalg.svd(left @ right.T, compute_uv=False)


def effective_rank(spectrum: Floats) -> float:
    """Give exp of the entropy of singular values over their sum: k where k are equal and the rest 0; NaN where all are.

    >>> round(effective_rank(np.array([2.0, 2.0, 0.0])), 12)
    2.0
    """
    total = spectrum.sum()
    if total == 0:
        return np.nan
    shares = spectrum[spectrum > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def dora_change(base: Floats, b: Floats, a: Floats, magnitude: Floats, *, scale: float) -> float:
    """Give ``||m (W + s B A) / ||W + s B A|| - W||``, the inner norm and m for each row, which is an output."""
    moved = base + scale * (b @ a)
    directions = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return float(np.linalg.norm(magnitude.reshape(-1, 1) * directions - base))
