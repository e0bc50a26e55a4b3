"""Models, and the ways to spread them over ranks.

Shards of torch 2.13 that are uneven, empty or misaligned, as (offsets, sizes):

- ``fully_shard`` cuts axis 0 into chunks of ceil(n / ranks): 11 rows over 4 ranks are 3, 3, 3, 2; 6 are 2, 2, 2, 0. An
  empty piece begins behind the end: ``((6,), (0,))``.
- Tensor parallel and ``fully_shard`` on the same axis are ``(_StridedShard(0, sf=2), Shard(0))``: of 11 rows on a mesh
  of 2 x 2 rank 0 holds 0:3, rank 1 6:9, rank 2 3:6, rank 3 9:11. Two plain ``Shard(0)`` are cut in the other order.
- ``_StridedShard`` alone, as for a fused weight whose q, k and v are each cut, holds rows that are not next to each
  other: 0, 4 and 8 of 12 on rank 0 of 4. Its chunk list is wrong then: it says 0:3.
"""

import contextlib
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel, parallelize_module
from torch.distributed.tensor.placement_types import _StridedShard

from loops import Tiny, loss_of

PARTS = {"*.attn.qkv.weight": "q,k,v per_head:3"}
"""How the fused weights of `Small` split: three heads, of one element each in q, k and v."""


def rank():
    return int(os.environ["RANK"])


def ranks():
    return int(os.environ["WORLD_SIZE"])


@contextlib.contextmanager
def group():
    """Be in the group of all ranks; one that a rank left without a word is given up at the exit."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    yield
    dist.destroy_process_group()


class Small(Tiny):
    """A GPT with a tied head, a weight of one element, one in bfloat16, and buffers."""

    def __init__(self):
        super().__init__(width=6)
        self.low = nn.Linear(6, 3, bias=False, dtype=torch.bfloat16)
        self.gain = nn.Parameter(torch.ones(1))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("level", torch.zeros(3))

    def forward(self, x):
        hidden = self.tok(x)
        for block in self.blocks:
            hidden = block(hidden)
        low = self.low(hidden.to(torch.bfloat16)).float()
        if self.training:
            self.seen += 1
            self.level.copy_(low.detach().mean((0, 1)))
        return self.head(hidden) * self.gain + low.mean()


def small():
    torch.manual_seed(0)
    return Small()


def mesh(names, *shape):
    return init_device_mesh("cpu", shape or (ranks(),), mesh_dim_names=names)


def cut_by_fsdp(model, on):
    fully_shard(model.low, mesh=on)
    for block in model.blocks:
        fully_shard(block, mesh=on)
    fully_shard(model, mesh=on)


def cut_by_tensor_parallel(model, on):
    """Cut what a user would: 18 rows of qkv in two, through the middle of k; 11 tokens unevenly."""
    whole_out = {"output_layouts": Replicate()}
    for block in model.blocks:
        plan = {"attn.qkv": ColwiseParallel(**whole_out), "attn.proj": RowwiseParallel(input_layouts=Replicate())}
        parallelize_module(block, on, plan)
    parallelize_module(model, on, {"tok": RowwiseParallel(input_layouts=Replicate())})
    parallelize_module(model, on, {"head": ColwiseParallel(**whole_out)})
    model.head.weight = model.tok.weight


class ByHand(nn.Module):
    """Weights that are spread in every way that there is, trained with gradients that are given."""

    SHAPES = {  # noqa: RUF012
        "uneven": (11, 3),
        "few": (3, 2),
        "twice": (9, 2),
        "strided": (11, 2),
        "columns": (3, 7),
        "both": (5, 3),
        "copied": (4, 2),
        "none": (0, 3),
        "plain": (3, 3),
    }

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        for name, shape in self.SHAPES.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape, generator=draw)))
        self.layers = nn.ModuleList(nn.Linear(3, 5, dtype=torch.bfloat16) for _ in range(2))
        for one in self.layers.parameters():
            nn.init.normal_(one, generator=draw)

    def spread(self, on):
        ways = {
            "uneven": (Replicate(), Shard(0)),
            "few": (Shard(0), Shard(0)),
            "twice": (Shard(0), Shard(0)),
            "strided": (_StridedShard(0, split_factor=2), Shard(0)),
            "columns": (_StridedShard(1, split_factor=2), Shard(1)),
            "both": (Shard(0), Shard(1)),
            "copied": (Replicate(), Replicate()),
            "none": (Replicate(), Shard(0)),
        }
        for name, placements in ways.items():
            setattr(self, name, nn.Parameter(spread(getattr(self, name).detach(), on, placements)))
        for layer in self.layers:
            layer.weight = nn.Parameter(spread(layer.weight.detach(), on, (Shard(1), Shard(0))))
            layer.bias = nn.Parameter(spread(layer.bias.detach(), on, (Replicate(), Shard(0))))


def spread(full, on, placements):
    """Spread what every rank has, without a word between them."""
    return distribute_tensor(full, on, placements, src_data_rank=None)


def give_gradients(model, step):
    """Give every weight a gradient that is the same however it is spread."""
    draw = torch.Generator().manual_seed(1000 + step)
    for one in model.parameters():
        full = torch.randn(one.shape, generator=draw).to(one.dtype)
        one.grad = spread(full, one.device_mesh, one.placements) if isinstance(one, DTensor) else full


class InSequence(nn.Sequential):
    """A model whose activations are divided along the sequence, so that gradients are not placed like their weights.

    That of the norm is this rank's share of a sum, ``Partial``; that of the embedding is whole on every rank.
    """

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(nn.Embedding(11, 6), nn.LayerNorm(6), nn.Linear(6, 4), nn.Linear(4, 6), nn.Linear(6, 5))

    def spread(self, on):
        across = {"output_layouts": Shard(1)}
        plan = {"0": RowwiseParallel(input_layouts=Replicate(), **across), "1": SequenceParallel()}
        plan |= {"2": ColwiseParallel(input_layouts=Shard(1)), "3": RowwiseParallel()}
        parallelize_module(self, on, plan)


@dataclass(frozen=True)
class Layout:
    """A model before it is spread, how it is, and how a step gets its gradients on this rank."""

    make: object
    spread: object
    backward: object


def own_data(model, step):
    loss = loss_of(model, 100 * step + rank())
    loss.backward()
    return loss


def data_of_half(model, step):
    loss = loss_of(model, 100 * step + rank() // 2)  # both ranks of a tensor parallel pair see the same
    loss.backward()
    return loss


def same_data(model, step):
    loss = loss_of(model, step)
    loss.backward()
    return loss


def even_data(model, step):
    tokens = torch.randint(0, 11, (2, 4), generator=torch.Generator().manual_seed(step))  # 4 are divided among 2
    loss = model(tokens).square().mean()
    loss.backward()
    return loss


def given(model, step):
    give_gradients(model, step)
    return torch.tensor(float(step))


def by_fsdp(model):
    cut_by_fsdp(model, mesh(("dp",)))


def by_tensor_parallel(model):
    cut_by_tensor_parallel(model, mesh(("tp",)))


def by_both(model):
    on = mesh(("dp", "tp"), 2, 2)
    cut_by_tensor_parallel(model, on["tp"])
    cut_by_fsdp(model, on["dp"])


def by_hybrid(model):
    cut_by_fsdp(model, mesh(("copies", "shards"), 2, 2))


LAYOUTS = {
    "fsdp": Layout(small, by_fsdp, own_data),
    "tensor parallel": Layout(small, by_tensor_parallel, same_data),
    "2-D": Layout(small, by_both, data_of_half),
    "hybrid": Layout(small, by_hybrid, own_data),
    "in sequence": Layout(InSequence, lambda model: model.spread(mesh(("tp",))), even_data),
    "by hand": Layout(ByHand, lambda model: model.spread(mesh(("a", "b"), 2, 2)), given),
}
