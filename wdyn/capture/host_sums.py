"""How are tensors in host memory summed up at the speed of memory? In blocks that fit a cache, on every core.

The compiled kernel needs numba (``pip install wdyn[fast]``) and is several times faster than numpy, which gives the
same numbers. torch is not used for the sums: its thread pool stalls where cores are shared with training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wdyn.capture.sums import EMPTY, Sums, merge_all

Block = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Kernel = Callable[[Block, Block], Sums]
"""Sums of ``values - before``, elementwise in float64; an empty `before` subtracts nothing. Values must be 1-D."""

_PIECE = 1 << 20
_BLOCK = 1 << 16
_WORTH_THREADS = 1 << 22
WORTH_COMPILING = 1 << 24
"""Elements from which on the compiled kernel is used."""
_NOTHING = np.empty(0, dtype=np.float32)


def host_sums(tensor: Tensor, before: Tensor | None = None, *, add: Kernel | None = None) -> Sums:
    """Sum up one host tensor, or its difference to another of its shape; complex numbers by their modulus.

    `add` is the kernel to use; default: the one that suits a tensor of this size.
    """
    pieces = _pieces(tensor.detach(), None if before is None else before.detach())
    add = add or kernel(tensor.numel())
    if tensor.numel() < _WORTH_THREADS:
        return merge_all(add(values, minus) for values, minus in pieces)
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        return merge_all(threads.map(lambda piece: add(*piece), pieces))


def kernel(elements: int) -> Kernel:
    """Choose the kernel for this many elements: loading the compiled one takes longer than numpy needs for few."""
    return numpy_sums if elements < WORTH_COMPILING else _compiled_or_numpy()


@cache
def _compiled_or_numpy() -> Kernel:
    try:
        from wdyn.capture.compiled import compiled_sums
    except ImportError:
        return numpy_sums
    return compiled_sums


def numpy_sums(values: Block, before: Block) -> Sums:
    """Sum up with numpy, in float64 about the mean of each block."""
    with np.errstate(invalid="ignore"):  # NaN and Inf are counted; numpy would warn of a signalling NaN or Inf - Inf
        return merge_all(_block_sums(block) for block in _float64_blocks(values, before))


def _float64_blocks(values: Block, before: Block) -> Iterator[npt.NDArray[np.float64]]:
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK].astype(np.float64)
        if before.size:
            block -= before[start : start + _BLOCK]
        yield block


def _block_sums(block: npt.NDArray[np.float64]) -> Sums:
    finite = np.isfinite(block)
    if not finite.all():
        nans = np.isnan(block).sum()
        infs = block.size - finite.sum() - nans
        rest: Sums = _block_sums(block[finite]) + np.array([0] * 9 + [nans, infs])
        return rest
    if block.size == 0:
        return EMPTY
    low, high, zeros = block.min(), block.max(), block.size - np.count_nonzero(block)
    l1, mean = np.abs(block).sum(), block.mean()
    # Sums rather than dot products: BLAS would start threads of its own.
    deviation = block - mean
    square = deviation * deviation
    m2 = square.sum()
    deviation *= square
    square *= square
    return np.array([block.size, mean, m2, deviation.sum(), square.sum(), l1, low, high, zeros, 0, 0])


def _pieces(tensor: Tensor, before: Tensor | None) -> Iterator[tuple[Block, Block]]:
    others = [None] if before is None else before.reshape(-1).split(_PIECE)
    for at, piece in enumerate(tensor.reshape(-1).split(_PIECE)):
        other = others[at] if before is not None else None
        if piece.is_complex():
            yield _modulus(piece, other), _NOTHING
        else:
            yield _real(piece), _NOTHING if other is None else _real(other)


def _modulus(piece: Tensor, before: Tensor | None) -> Block:
    wide = piece.to(torch.complex128)
    modulus: Block = (wide if before is None else wide - before.to(torch.complex128)).abs().numpy()
    return modulus


def _real(piece: Tensor) -> Block:
    """Values as float32 where that holds them exactly, else as float64."""
    exact = piece.is_floating_point() and piece.element_size() <= 4
    array: Block = piece.to(torch.float32 if exact else torch.float64).numpy()
    return array
