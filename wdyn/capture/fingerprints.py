"""Do two processes hold the same bits? A number for each tensor, made where it lies."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wdyn.capture.pieces import local

_AT_ONCE = 1 << 22
"""Words that are multiplied at one time."""


def fingerprints(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Give a number of 64 bits for the bits of each tensor, of a DTensor for those of the piece in this process.

    It is the sum over all words of ``(word + 1) * (2 * place + 1)`` modulo 2**64: a single changed word always changes
    it, and so does an exchange of two different ones.
    """
    sums = {name: _summed(local(tensor)) for name, tensor in tensors.items()}
    found: dict[str, int] = {}
    for device in {one.device for one in sums.values()}:  # one transfer for each
        here = {name: one for name, one in sums.items() if one.device == device}
        found |= dict(zip(here, torch.stack(list(here.values())).tolist(), strict=True))
    return {name: found[name] for name in tensors}


def _summed(tensor: Tensor) -> Tensor:
    words = _words(tensor.contiguous())
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for first in range(0, len(words), _AT_ONCE):
        some = words[first : first + _AT_ONCE].to(torch.int64)
        place = torch.arange(first, first + len(some), device=tensor.device, dtype=torch.int64)
        total += ((some + 1) * (2 * place + 1)).sum()
    return total


def _words(tensor: Tensor) -> Tensor:
    """Show the bits of a tensor as the widest integers that it divides into, up to 32 bits."""
    flat = tensor.view(-1) if tensor.dim() else tensor.reshape(1)
    if flat.dtype == torch.bool:
        return flat.view(torch.uint8)
    narrow = {1: torch.uint8, 2: torch.int16}.get(flat.element_size(), torch.int32)
    if flat.is_complex():
        flat = torch.view_as_real(flat.resolve_conj()).reshape(-1)
    return flat.view(narrow)
