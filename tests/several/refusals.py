"""Try to record what cannot be recorded."""

import time

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import Shard
from torch.distributed.tensor.placement_types import _StridedShard

import wdyn
from several.counting import Counting
from several.models import group, mesh, rank, ranks, spread
from wdyn.errors import WdynError


def refused(folder, *, how, **options):
    """Try to record, and give the name and the words of the error on this rank, and how long it took."""
    with group():
        model, optimizer = WRONG.get(how, spread_counting)(folder)
        options = {"every": 1, "to": folder / "run.zarr"} | options | (OWN[how](folder)[rank()] if how in OWN else {})
        began = time.monotonic()
        try:
            if how != "only some" or rank() == 0:
                with wdyn.watch(model, optimizer, **options):
                    pass
        except WdynError as error:
            return [type(error).__name__, str(error), time.monotonic() - began]
        finally:
            dist.barrier()
        return ["", "", time.monotonic() - began]


def spread_counting(_=None):
    model = Counting()
    model.spread()
    return model, torch.optim.SGD(model.parameters(), lr=1.0)


def stages(_):
    """Each rank holds other layers."""
    model = nn.Module()
    weight = spread(torch.zeros(4, 2), init_device_mesh("cpu", (ranks(),)), (Shard(0),))
    model.register_parameter(f"stage{rank()}", nn.Parameter(weight))
    return model, torch.optim.SGD(model.parameters(), lr=1.0)


def other_shapes(_):
    model, optimizer = spread_counting()
    model.register_parameter("odd", nn.Parameter(torch.zeros(2 + rank())))
    return model, optimizer


def older_fsdp(_):
    model = FullyShardedDataParallel(nn.Linear(4, 3), use_orig_params=True, device_id=torch.device("cpu"))
    return model, torch.optim.SGD(model.parameters(), lr=1.0)


def deepspeed_engine(_):
    """An engine as DeepSpeed makes it, as far as one can tell from outside."""
    engine = type("DeepSpeedEngine", (nn.Module,), {"__module__": "deepspeed.runtime.engine"})()
    engine.module = nn.Linear(3, 2)
    return engine, torch.optim.SGD(engine.parameters(), lr=1.0)


def zero_parameters(_):
    """A model whose parameters ZeRO 3 has taken away."""
    model = nn.Linear(3, 2)
    for number, one in enumerate(model.parameters()):
        one.ds_id = number
        one.data = torch.empty(0)
    return model, torch.optim.SGD(model.parameters(), lr=1.0)


def scattered(_):
    """A fused weight of which each rank holds rows that are not next to each other."""
    model, _ = spread_counting()
    model.fused = nn.Parameter(spread(torch.zeros(12, 2), mesh(("all",)), (_StridedShard(0, split_factor=3),)))
    return model, torch.optim.SGD(model.parameters(), lr=1.0)


WRONG = {
    "stages": stages,
    "other shapes": other_shapes,
    "older fsdp": older_fsdp,
    "deepspeed engine": deepspeed_engine,
    "zero parameters": zero_parameters,
    "scattered": scattered,
}
"""What makes a model that is refused; where it is not the model, any will do."""


def named(step):
    return step == 1


OWN = {
    "other arguments": lambda _: ({"what": "weights"}, {"what": "updates"}),
    "other schedules": lambda _: ({"every": 2}, {"every": 3}),
    "other snapshots": lambda _: ({"snapshots": wdyn.at(1)}, {"snapshots": named}),
    "other selections": lambda _: ({"select": select_but("rows")}, {"select": select_but("few")}),
    "other places": lambda folder: ({}, {"to": folder / "other.zarr"}),
    "spike": lambda _: [{"every": wdyn.spike("loss")}] * 2,
}
"""By what is wrong, the arguments that each rank gives."""


def select_but(name):
    return lambda address: address.name != name
