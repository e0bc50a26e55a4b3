"""A small model with everything that a real one has, and a loop as a user would write it."""

import math
from collections.abc import Callable

import torch
import xarray as xr
from torch import nn


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.drop = nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.attn["qkv"](self.ln(x)).chunk(3, -1)
        mixed = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v
        return x + self.drop(self.attn["proj"](mixed))


class Tiny(nn.Module):
    """A GPT of two blocks with a tied head: everything that a real one has, small."""

    def __init__(self, width: int = 8, vocab: int = 11, layers: int = 2) -> None:
        super().__init__()
        self.tok = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.head = nn.Linear(width, vocab, bias=False)
        self.head.weight = self.tok.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.tok(x)
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(hidden)


def loss_of(model: nn.Module, step: int) -> torch.Tensor:
    tokens = torch.randint(0, 11, (2, 6), generator=torch.Generator().manual_seed(step))
    return nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, *, each: Callable[[int], None] | None = None
) -> None:
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()
        if each is not None:
            each(step)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-2)


def steps_of(run: xr.DataTree, group: str) -> list[int]:
    return run[group]["step"].values.tolist()


def hooks_of(optimizer: torch.optim.Optimizer) -> int:
    return len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)
