"""What is trained and measured? GPTs of two sizes, and an optimizer that does nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from wdyn.demo.model import GPT, Shape


@dataclass(frozen=True)
class Subject:
    """A model and the batch that it learns from."""

    title: str
    shape: Shape
    batch: int
    length: int
    quick: bool = False
    """Whether 40 steps take about a second."""


CHAR = Shape(alphabet=65, length=256, layers=6, width=128, heads=4, dropout=0.0)
"""1.2 million parameters: the usual exercise, a GPT of characters."""

GPT2_SMALL = Shape(alphabet=50257, length=1024, layers=12, width=768, heads=12, dropout=0.0)
"""124 million parameters, 148 of them by name, in the shapes of GPT-2 small."""

SUBJECTS = {
    "char-small-batch": Subject("char-GPT, 12 x 64 tokens", CHAR, 12, 64, quick=True),
    "char": Subject("char-GPT, 64 x 256 tokens", CHAR, 64, 256),
    "gpt2-small": Subject("GPT-2 small, 1 x 128 tokens", GPT2_SMALL, 1, 128),
    "tiny": Subject("a GPT for a try, 2 x 8 tokens", replace(CHAR, length=8, layers=2, width=16), 2, 8, quick=True),
}


def parameters_of(shape: Shape) -> list[Tensor]:
    """Give the tensors of a model of this shape, without the model."""
    return [parameter.detach() for parameter in GPT(shape).parameters()]


def training(subject: Subject) -> tuple[nn.Module, torch.optim.Optimizer, Callable[[], Tensor]]:
    """Make a model, its optimizer, and a function that makes one step and gives the loss."""
    torch.manual_seed(0)
    model = GPT(subject.shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    tokens = torch.randint(subject.shape.alphabet, (subject.batch, subject.length + 1))

    def step() -> Tensor:
        loss = functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return model, optimizer, step


class StandStill(torch.optim.Optimizer):
    """An optimizer whose step does nothing: what is left of its time is its hooks'."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), {"lr": 0.0})

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Leave everything as it is."""
