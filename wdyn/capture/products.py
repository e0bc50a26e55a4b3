"""What are the inner products from which cosines of tensors are made?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wdyn.capture.host_sums import PLAIN, batches
from wdyn.capture.layout import Aligned, pieces
from wdyn.capture.plain import BATCH, dots, place
from wdyn.capture.threads import share

_PIECE_ON_DEVICE = 1 << 22
Products = npt.NDArray[np.float64]


def host_products(triples: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Products:
    """Give (triple, 2) for triples (tensor, minus, other) in host memory: sums of ``U * other`` and ``other ** 2``."""
    cut = [(at, piece) for at, triple in enumerate(triples) for piece in pieces(_real(triple), size=BATCH)]
    found = np.empty((len(cut), 2))

    def work(numbered: Iterator[tuple[int, Sequence[Aligned]]]) -> None:
        buffers = np.empty((3, BATCH))
        for start, batch in numbered:
            lengths = np.array([other.numel() for *_, other in batch])
            starts = np.cumsum(lengths) - lengths
            update, against, product = buffers[:, : lengths.sum()]
            pairs = (update, against), (against, against)
            with np.errstate(invalid="ignore", over="ignore"):  # of what is not finite the products are not either
                place([(tensor, minus) for tensor, minus, _ in batch], update)
                place([(other,) for *_, other in batch], against)
                found[start : start + len(batch)] = np.transpose([dots(a, b, starts, product) for a, b in pairs])

    elements = sum(one.numel() for one, _, _ in triples)
    share(list(batches([piece for _, piece in cut], way=PLAIN)), work, elements=elements)
    total = np.zeros((len(triples), 2))
    np.add.at(total, [at for at, _ in cut], found)
    return total


def device_products(triples: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Products:
    """Do what `host_products` does on the device of the tensors, which all share one, with one transfer."""
    rows = [_on_device(triple) for triple in triples]
    total: Products = torch.stack(rows).cpu().numpy()
    return total


def _on_device(triple: Aligned) -> Tensor:
    total = torch.zeros(2, dtype=torch.float64, device=triple[0].device)
    for piece in pieces(_real(triple), size=_PIECE_ON_DEVICE):
        tensor, minus, other = (one.to(torch.float64) for one in piece)
        total += torch.stack([((tensor - minus) * other).sum(), (other * other).sum()])
    return total


def _real(triple: Aligned) -> Aligned:
    """Complex numbers as pairs: the product of such is the real part of ``a * conj(b)``."""
    if not any(one.is_complex() for one in triple):
        return triple
    return tuple(torch.view_as_real(one.detach().to(torch.complex128).resolve_conj()) for one in triple)
