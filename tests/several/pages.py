"""Play a program of the page on several processes."""

import os

import torch
from torch.distributed.fsdp import fully_shard

import wdyn
from loops import Tiny, loss_of
from several.models import group


class Transformer(Tiny):
    """A model with layers, made from a config."""

    def __init__(self, config):
        super().__init__(**config)
        self.layers = self.blocks


def documented(folder, *, program):
    """Run a program in every process, on what it does not make itself."""
    os.chdir(folder)
    names = {"torch": torch, "wdyn": wdyn, "fully_shard": fully_shard, "Transformer": Transformer}

    def train_step(batch):
        names["optimizer"].zero_grad()
        loss_of(names["model"], batch).backward()

    with group():
        torch.manual_seed(0)
        model = Transformer({})
        names |= {"config": {}, "model": model, "optimizer": torch.optim.AdamW(model.parameters(), lr=3e-4)}
        names |= {"loader": range(4), "train_step": train_step}
        exec(compile(program.replace("/shared/", ""), "the page", "exec"), names)
        return sum(hasattr(one, "device_mesh") for one in names["model"].parameters())
