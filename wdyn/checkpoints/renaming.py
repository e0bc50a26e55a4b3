"""Which tensors of one model are in the other under another name?

Decided by values: equal ones first, then those that lie nearest, and never by a name alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wdyn.checkpoints.pairs import real_bits

EQUAL: Final = "equal values"
_SAMPLED = 1024
_FARTHEST = 0.5
"""Distance over the norm beyond which the nearest tensor is a stranger: of unrelated ones it is about 1.4."""
_MOST_PAIRS = 1_000_000

Read = Callable[[str], Tensor]


@dataclass(frozen=True)
class Rename:
    """A tensor under another name, and by what that was decided."""

    name: str
    decided_by: str


@dataclass(frozen=True)
class _Print:
    """What a tensor is known by again: its bits, and a sample of its values."""

    name: str
    shape: tuple[int, ...]
    digest: bytes
    sample: npt.NDArray[np.float64]


def renames(missing: Iterable[str], extra: Iterable[str], *, read_a: Read, read_b: Read) -> dict[str, Rename]:
    """Find for names that only the first model has those that only the second one has.

    Where several have equal values, as the weights of norms at the start do, the order and the ends of names decide
    among them.
    """
    ours = [_print(name, read_a(name)) for name in missing]
    theirs = [_print(name, read_b(name)) for name in extra]
    found: dict[str, Rename] = {}
    taken: set[str] = set()
    for one, other, words in [*_equal(ours, theirs), *_nearest(ours, theirs)]:
        if one.name not in found and other.name not in taken:
            found[one.name] = Rename(other.name, words)
            taken.add(other.name)
    return found


def _print(name: str, tensor: Tensor) -> _Print:
    digest = hashlib.blake2b(str(tensor.dtype).encode(), digest_size=16)
    if tensor.numel():
        digest.update(real_bits(tensor).reshape(-1).view(torch.uint8).numpy().tobytes())
    flat = tensor.reshape(-1)
    at = torch.linspace(0, max(flat.numel() - 1, 0), min(flat.numel(), _SAMPLED)).long()
    values = flat[at] if flat.numel() else flat
    sample = (torch.view_as_real(values).reshape(-1) if values.is_complex() else values).to(torch.float64).numpy()
    return _Print(name, tuple(tensor.shape), digest.digest(), sample)


def _equal(ours: list[_Print], theirs: list[_Print]) -> Iterator[tuple[_Print, _Print, str]]:
    """Pair what has equal bits, those with the most alike names first, and else in order."""
    holders: dict[tuple[bytes, tuple[int, ...]], list[_Print]] = {}
    for other in theirs:
        if other.sample.size:  # what is empty looks like anything
            holders.setdefault((other.digest, other.shape), []).append(other)
    for one in ours:
        held = holders.get((one.digest, one.shape), [])
        if held:
            other = max(held, key=lambda known: _common_end(one.name, known.name))
            held.remove(other)
            yield one, other, EQUAL


def _nearest(ours: list[_Print], theirs: list[_Print]) -> Iterator[tuple[_Print, _Print, str]]:
    """Pair what lies nearest to each other, of one shape and by the sample; nearest of all first."""
    if len(ours) * len(theirs) > _MOST_PAIRS:
        return
    pairs = [
        (distance, -_common_end(one.name, other.name), at, one, other)
        for at, one in enumerate(ours)
        for other in theirs
        if one.shape == other.shape and (distance := _distance(one.sample, other.sample)) < _FARTHEST
    ]
    for distance, _, _, one, other in sorted(pairs, key=lambda pair: pair[:3]):
        yield one, other, f"nearest values, {distance:.2g} of their norm apart"


def _distance(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    norm = float(max(np.linalg.norm(one), np.linalg.norm(other), np.finfo(float).tiny))
    apart = float(np.linalg.norm(one - other)) / norm if one.size else np.inf
    return apart if np.isfinite(apart) else np.inf


def _common_end(one: str, other: str) -> int:
    """Count components that two names have in common, from the end."""
    ends = zip(reversed(one.split(".")), reversed(other.split(".")), strict=False)
    count = 0
    for mine, its in ends:
        if mine != its:
            break
        count += 1
    return count
