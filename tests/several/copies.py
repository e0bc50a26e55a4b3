"""Train ranks that hold the same weights, or should."""

import contextlib

import numpy as np
import torch
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import wdyn
from several.models import ByHand, give_gradients, group, mesh, own_data, rank, small
from several.training import ALL, STEPS

HELD = []
"""Models of which a rank must not let go: to free a DistributedDataParallel may wait for a thread that waits for it."""


def copied(folder, *, wrapper, everywhere=True, **options):
    """Train copies that see different data, watched by all ranks or by the first alone."""
    with group():
        losses, gave = [], {}
        model = small()
        model = DistributedDataParallel(model) if wrapper else model
        HELD.append(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        watched = everywhere or rank() == 0
        block = wdyn.watch(model, optimizer, to=folder / "run.zarr", **ALL | options) if watched else None
        with block or contextlib.nullcontext() as w:
            for step in range(1, STEPS + 1):
                optimizer.zero_grad()
                loss = own_data(model, step)
                optimizer.step()
                losses.append(loss.item())
                if w is not None:
                    w.log(loss=loss)
            if w is not None:
                gave = {"state": w.state_dict(), "snapshot": w.snapshot(), "row": w.row(), "flushed": w.flush()}
        if rank() == 0:
            np.savez(folder / "held.npz", **{name: one.double().numpy() for name, one in small_state(model).items()})
        return {"losses": losses, "hooks": hooks(optimizer), **gave}


def small_state(model):
    return (model.module if isinstance(model, DistributedDataParallel) else model).state_dict()


def hooks(optimizer):
    return len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)


def drifting(folder, *, layout, drifts, at, name, value, **options):
    """Train copies by hand, of which those of some ranks are told to differ from a step on."""
    with group():
        model = ByHand()
        if layout == "spread":
            model.spread(mesh(("a", "b"), 2, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        with wdyn.watch(model, optimizer, to=folder / "run.zarr", every=1, snapshots=1, **options):
            for step in range(1, STEPS + 1):
                give_gradients(model, step)
                if step == at and rank() in drifts:
                    with torch.no_grad():
                        one = model.get_parameter(name)
                        held = one.to_local() if isinstance(one, DTensor) else one
                        held.view(-1)[-1] = value
                        one.grad = None
                elif step >= at:
                    model.get_parameter(name).grad = None
                optimizer.step()


def staged(folder, **options):
    """Train a model of its own on each rank, and record a run each."""
    with group():
        torch.manual_seed(rank())
        model = torch.nn.Linear(3, 2 + rank())
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        with wdyn.watch(model, optimizer, to=folder / f"stage-{rank()}.zarr", alone=True, **ALL | options) as w:
            for _ in range(STEPS):
                give_gradients(model, 1)
                optimizer.step()
            w.flush()
        return {"weight": model.weight.tolist(), "committed": w.committed}
