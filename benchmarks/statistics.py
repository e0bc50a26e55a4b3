"""What do the numbers and histograms of all weights cost, in reads of memory? ``python -m benchmarks.statistics``.

The yardstick is one pass over the weights of GPT-2 small: 124 million float32 values, 498 MB.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import torch
from torch import Tensor

from benchmarks import peers as others
from benchmarks.harness import installed, milliseconds, options, publish, scratch, seconds, side_by_side
from benchmarks.subjects import CHAR, GPT2_SMALL, parameters_of
from wdyn.capture.statistics import measure

READ, COPY = "one read (sum)", "one copy into memory used again"
OURS, PURE = "wdyn, weights", "wdyn, weights, without numba"


def naive(tensors: Sequence[Tensor]) -> None:
    """Compute the same numbers, without a histogram, as a user would write them: in float64 over whole tensors."""
    for tensor in tensors:
        wide = tensor.double()
        deviation = wide - wide.mean()
        (deviation**2).mean(), (deviation**3).mean(), (deviation**4).mean()
        wide.abs().sum(), wide.abs().max(), wide.min(), wide.max(), (wide == 0).sum(), wide.isnan().sum()


class Without:
    """wdyn as it is where a package is not installed, beside wdyn as it is here."""

    def __init__(self, package: str) -> None:
        self._roots = (package, "wdyn")
        self._modules: dict[str, ModuleType | None] = {package: None}  # None: to import it is an ImportError

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Make the package missing, for wdyn alone."""
        outside = self._taken_away()
        sys.modules.update(self._modules)  # type: ignore[arg-type]
        try:
            yield
        finally:
            self._modules = self._taken_away()
            sys.modules.update(outside)  # type: ignore[arg-type]

    def measure(self, tensors: Sequence[Tensor]) -> Any:
        """Take wdyn's statistics."""
        with self.inside():
            return importlib.import_module(measure.__module__).measure(tensors)

    def _taken_away(self) -> dict[str, ModuleType | None]:
        names = [name for name in sys.modules if name.partition(".")[0] in self._roots]
        return {name: sys.modules.pop(name) for name in names}


@click.command()
@click.option("--small", is_flag=True, help="Weights of a char-GPT instead.")
@options()
def main(small: bool, rounds: int, peers: bool, file: Path | None) -> None:
    """Measure statistics and histograms of all weights of GPT-2 small, beside one read of them. Takes 1 minute."""
    tensors = parameters_of(CHAR if small else GPT2_SMALL)
    before = [torch.empty_like(tensor).copy_(tensor).mul_(0.999) for tensor in tensors]
    buffers = [torch.empty_like(tensor) for tensor in tensors]
    without = Without("numba")
    work: dict[str, Callable[[], object]] = {
        READ: lambda: [tensor.sum() for tensor in tensors],
        COPY: lambda: [a.copy_(b) for a, b in zip(buffers, tensors, strict=True)],
        OURS: lambda: measure(tensors),
        "wdyn, updates": lambda: measure(tensors, minus=before),
        PURE: lambda: without.measure(tensors),
        "torch in float64, no histogram": lambda: naive(tensors),
    }
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        if peers and installed("wandb"):
            work["wandb, log_tensor_stats"] = stack.enter_context(others.wandb_statistics(tensors, folder))
        if peers and installed("tensorboard"):
            work["TensorBoard, add_histogram"] = stack.enter_context(others.tensorboard_histograms(tensors, folder))
        found = side_by_side({name: seconds(one) for name, one in work.items()}, rounds=rounds)
    values = sum(tensor.numel() for tensor in tensors)
    title = f"Statistics and histograms of {values / 1e6:.0f} M float32 values"
    yardsticks = {"reads": READ, "x wdyn": OURS, "x without numba": PURE}
    publish([milliseconds(title, found, yardsticks=yardsticks)], file=file, rounds=rounds, small=small)


if __name__ == "__main__":
    main()
