"""Which singular values does the change of a matrix have?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wdyn.checkpoints.pairs import PIECE, changes

EXACT_UP_TO = 1024
"""Shorter side of a matrix up to which all its singular values are found."""

ACCURACY = 0.01
"""Relative error of the largest eigenvalue of a larger one, and so of its stable rank."""

FAILURE = 1e-6
"""Probability with which the error is larger than that."""

_NOISE_MARGIN = 2.0
_PRECISION, _PRECISION_OF_UPPER = 1e-6, 1e-3
"""Singular values below this share of the largest are lost in the rounding of what they are computed from, which is
float64 where all are found, and float32 in larger matrices."""


@dataclass(frozen=True)
class Spectrum:
    """Singular values of a change.

    Attributes
    ----------
    values
        In descending order: all of them, or where the matrix is large the upper end, each at most the true one.
    squares
        Sum of the squares of all: the squared Frobenius norm.
    least
        Below this a value may be rounding: of what is stored, or of what it was computed from.
    """

    values: npt.NDArray[np.float64]
    squares: float
    least: float

    @property
    def stable_rank(self) -> float:
        """||D||_F^2 / ||D||_2^2; NaN where nothing changed."""
        return self.squares / float(self.values[0]) ** 2 if self.values.size and self.values[0] > 0 else math.nan

    @property
    def rank(self) -> int:
        """Count of singular values that are larger than rounding explains."""
        return int((self.values > self.least).sum())

    @property
    def held(self) -> float:
        """Share of the squared norm that these hold: at least this."""
        return float((self.values[: self.rank] ** 2).sum()) / self.squares if self.squares else math.nan


def spectrum(a: Tensor, b: Tensor) -> Spectrum | None:
    """Find the singular values of b - a, whose axes but the first are taken together.

    Up to a shorter side of `EXACT_UP_TO` they are the roots of the eigenvalues of the Gram matrix, in float64. Beyond,
    Lanczos' method on it gives the upper end: after k steps from a random start the largest eigenvalue is too small by
    a share of more than ε with a probability below 1.648 √n exp(-√ε (2k - 1)) (Kuczyński and Woźniakowski 1992, Theorem
    4.2), and k is chosen for `ACCURACY` and `FAILURE`.

    Returns
    -------
    Spectrum or None
        None of what is no matrix of numbers, or not finite.
    """
    if a.ndim < 2 or a.numel() == 0 or a.is_complex() or b.is_complex():
        return None
    a, b = a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1)
    noise = _noise(a, b)
    if a.shape[0] < a.shape[1]:
        a, b = a.T, b.T
    columns = a.shape[1]
    squares = sum(float(block.square().sum()) for block in changes(a, b, columns=columns))
    if not math.isfinite(squares):
        return None
    exact = columns <= EXACT_UP_TO
    values = np.sqrt(np.clip(_all(a, b) if exact else _upper(a, b), 0.0, None))[::-1]
    lost = (_PRECISION if exact else _PRECISION_OF_UPPER) * float(values[0])
    return Spectrum(values, squares, max(noise, lost))


def lanczos_steps(size: int) -> int:
    """Count the steps that `ACCURACY` takes for a square matrix of `size` rows."""
    return math.ceil((math.log(1.648 * math.sqrt(size) / FAILURE) / math.sqrt(ACCURACY) + 1) / 2)


def _noise(a: Tensor, b: Tensor) -> float:
    """Bound the spectral norm of what rounding b may have added: eps rms / sqrt(12) (sqrt(m) + sqrt(n)), twice."""
    floats = [one.dtype for one in (a, b) if one.dtype.is_floating_point]
    if not floats:
        return 0.0
    eps = max(torch.finfo(dtype).eps for dtype in floats)
    # What is not finite, and yet did not change, was not rounded either.
    blocks = b.split(max(1, PIECE // b.shape[1]))
    squares = sum(float(block.double().nan_to_num(0.0, 0.0, 0.0).square().sum()) for block in blocks)
    rms = math.sqrt(squares / b.numel())
    return _NOISE_MARGIN * eps * rms / math.sqrt(12) * (math.sqrt(b.shape[0]) + math.sqrt(b.shape[1]))


def _all(a: Tensor, b: Tensor) -> npt.NDArray[np.float64]:
    gram = torch.zeros(a.shape[1], a.shape[1], dtype=torch.float64)
    for block in changes(a, b, columns=a.shape[1]):
        gram += block.T @ block
    found: npt.NDArray[np.float64] = torch.linalg.eigvalsh(gram).numpy()
    return found


def _upper(a: Tensor, b: Tensor) -> npt.NDArray[np.float64]:
    """Lanczos' method with full reorthogonalization, on D^T D."""
    blocks = [block.to(torch.float32) for block in changes(a, b, columns=a.shape[1])]
    scale = max(float(block.abs().max()) for block in blocks) or 1.0
    size = a.shape[1]
    start = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    basis = [start / start.norm()]
    diagonal, beside = [], []
    for _ in range(lanczos_steps(size)):
        vector = _gram_times(blocks, basis[-1], scale)
        diagonal.append(float(vector @ basis[-1]))
        whole = torch.stack(basis)
        for _ in range(2):  # once leaves what is lost to rounding
            vector = vector - whole.T @ (whole @ vector)
        beside.append(float(vector.norm()))
        if beside[-1] <= _PRECISION * max(diagonal):
            break  # the basis spans all there is: a matrix of low rank
        basis.append(vector / beside[-1])
    inner = torch.tensor(beside[: len(diagonal) - 1], dtype=torch.float64)
    ritz = torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(inner, 1) + torch.diag(inner, -1)
    found: npt.NDArray[np.float64] = torch.linalg.eigvalsh(ritz).numpy() * scale**2
    return found


def _gram_times(blocks: list[Tensor], vector: Tensor, scale: float) -> Tensor:
    """D^T D v / scale^2; the products of a block are formed in float32, and added in float64."""
    total = torch.zeros_like(vector)
    short = vector.to(torch.float32)
    for block in blocks:
        total += (block.T @ ((block @ short) / scale)).to(torch.float64) / scale
    return total
