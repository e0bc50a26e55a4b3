"""What are the numbers of a tensor, right to float64, whatever its dtype, size or content?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from wdyn import bins
from wdyn.capture.device_sums import device_sums
from wdyn.capture.host_sums import host_sums
from wdyn.capture.layout import Aligned
from wdyn.capture.products import device_products, host_products
from wdyn.capture.sums import NAMES, Sums, join
from wdyn.rows import Values


@dataclass(frozen=True)
class Measured:
    """Sums and histograms of several populations.

    Attributes
    ----------
    sums
        (population, `wdyn.capture.sums.NAMES`); NaN where the tensor was None.
    used
        (bin,): the bins of `wdyn.bins` in which anything is, in order; nearly all are empty.
    counts
        (population, bin): counts in these bins; 0 where the tensor was None.
    """

    sums: npt.NDArray[np.float64]
    used: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    @property
    def histograms(self) -> npt.NDArray[np.int64]:
        """Counts in all the bins of `wdyn.bins`, (population, bin)."""
        dense = np.zeros((len(self.counts), bins.COUNT), dtype=np.int64)
        dense[:, self.used] = self.counts
        return dense

    def statistics(self) -> dict[str, Values]:
        """Give the statistics of each population, by name.

        Returns
        -------
        dict
            ``mean std rms min max abs_max l1 l2 skewness kurtosis`` are float64 (population,), over the finite
            elements, NaN where there are none; std is the population's (ddof 0), kurtosis is 3 for a normal
            distribution. ``count zeros nonfinite nans infs`` are int64, -1 where the tensor was None.
        """
        return _finish(self.sums)

    def joined(self, groups: Sequence[Sequence[int]]) -> Measured:
        """Join populations: each group of their numbers becomes one.

        A group with a population that was None is None, and an empty group is an empty population.
        """
        sizes = np.array([len(group) for group in groups], dtype=np.int64)
        members = np.array([number for group in groups for number in group], dtype=np.int64)
        sums = join(self.sums[members], sizes=sizes)
        counts = np.zeros((len(groups), len(self.used)), dtype=np.int64)
        some = sizes > 0  # where nothing is to be added, `reduceat` would take what comes next
        if some.any():
            starts = (np.cumsum(sizes) - sizes)[some]
            counts[some] = np.add.reduceat(self.counts[members], starts, axis=0)
        absent = np.isnan(sums[:, 0])
        sums[absent], counts[absent] = np.nan, 0
        return Measured(sums, self.used, counts)


def together(several: Sequence[Measured]) -> Measured:
    """Put the populations of several measurements behind one another."""
    used = np.unique(np.concatenate([one.used for one in several]))
    counts = np.zeros((sum(len(one.counts) for one in several), len(used)), dtype=np.int64)
    first = 0
    for one in several:
        counts[first : first + len(one.counts), np.searchsorted(used, one.used)] = one.counts
        first += len(one.counts)
    return Measured(np.concatenate([one.sums for one in several]), used, counts)


def measure(tensors: Sequence[Tensor | None], *, minus: Sequence[Tensor | None] | None = None) -> Measured:
    """Measure tensors, each as one population.

    Parameters
    ----------
    tensors
        Any shapes, strides and dtypes; complex numbers are measured by their modulus. None stands for "not there".
    minus
        Subtracted elementwise in float64 before anything is measured, if given; None subtracts nothing.

    Raises
    ------
    InvalidArgument
        What is to be subtracted has another shape.
    """
    others = [None] * len(tensors) if minus is None else list(minus)
    populations: dict[int, Aligned] = {
        number: (one,) if other is None else (one, other)
        for number, (one, other) in enumerate(zip(tensors, others, strict=True))
        if one is not None
    }
    sums = np.full((len(tensors), len(NAMES)), np.nan)
    counts = np.zeros((len(tensors), bins.CODES), dtype=np.int64)
    here = [number for number, population in populations.items() if population[0].device.type == "cpu"]
    away = [number for number in populations if number not in set(here)]
    if here:
        sums[here], counts[here] = host_sums([populations[number] for number in here])
    if away:
        sums[away], counts[away] = device_sums([populations[number] for number in away])
    histograms = bins.of_codes(counts)
    used = np.flatnonzero(np.bitwise_or.reduce(histograms, axis=0))
    return Measured(sums, used, histograms[:, used])


def statistics(tensors: Sequence[Tensor | None], *, minus: Sequence[Tensor | None] | None = None) -> dict[str, Values]:
    """Give the statistics of tensors, each as one population; see `measure` and `Measured.statistics`."""
    return measure(tensors, minus=minus).statistics()


def products(
    tensors: Sequence[Tensor | None], *, minus: Sequence[Tensor | None], others: Sequence[Tensor | None]
) -> npt.NDArray[np.float64]:
    """Sum up what cosines are made of, in float64, with U for a tensor less its `minus`.

    Returns
    -------
    array
        (population, 2): the sums of ``U * other`` and of ``other * other``, of complex numbers the real part of
        ``U * conj(other)``. NaN where any of the three is None, or holds a NaN.

    Raises
    ------
    InvalidArgument
        The three have not the same shape.
    """
    triples = {
        number: (tensor, before, other)
        for number, (tensor, before, other) in enumerate(zip(tensors, minus, others, strict=True))
        if tensor is not None and before is not None and other is not None
    }
    found = np.full((len(tensors), 2), np.nan)
    for device in {tensor.device for tensor, _, _ in triples.values()}:
        here = [number for number, (tensor, _, _) in triples.items() if tensor.device == device]
        multiply = host_products if device.type == "cpu" else device_products
        found[here] = multiply([triples[number] for number in here])
    return found


def _finish(sums: Sums) -> dict[str, Values]:
    n, mean, m2, m3, m4, l1, low, high, zeros, nans, infs = sums.T
    # 0/0 is NaN, which is the answer; powers of what is beyond 1e77 are infinite.
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
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
    absent = np.isnan(n)
    return {**floats, **{name: np.where(absent, -1, values).astype(np.int64) for name, values in counts.items()}}
