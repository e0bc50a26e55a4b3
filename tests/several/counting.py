"""Train weights that tell which step they are of, in ranks that do not wait for each other."""

import contextlib
import functools
import operator
import os
import signal
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import Shard

import wdyn
from several.models import group, mesh, rank, spread


class Counting(nn.Module):
    """Each step adds 1 to every weight."""

    def __init__(self, start=0.0):
        super().__init__()
        self.start = start
        for name, shape in {"rows": (7, 3), "few": (1, 2), "copied": (2, 2)}.items():
            self.register_parameter(name, nn.Parameter(torch.full(shape, start)))
        self.layers = nn.ModuleList(nn.Linear(3, 5, bias=False) for _ in range(2))
        for layer in self.layers:
            nn.init.constant_(layer.weight, start)

    def spread(self):
        on = mesh(("all",))
        self.rows = nn.Parameter(spread(self.rows.detach(), on, (Shard(0),)))
        self.few = nn.Parameter(spread(self.few.detach(), on, (Shard(0),)))
        for axis, layer in enumerate(self.layers):  # differently: what one process stacks may not be so in several
            layer.weight = nn.Parameter(spread(layer.weight.detach(), on, (Shard(axis),)))


def count(model, optimizer):
    for one in model.parameters():
        one.grad = torch.full_like(one, -1.0)
    optimizer.step()


def counting(folder, *, steps, start=0.0, pace=0.0, leaves=None, asks=None, own=None, budgets=None, **options):
    """Train, without a word between the ranks.

    Parameters
    ----------
    pace
        Seconds that a step takes; a list has one number for each rank.
    leaves
        ``{"rank", "step", "how"}``: which rank goes after which step; it is ``"killed"``, ``"raises"`` or ``"ends"``.
    asks
        ``{"ranks", "step", "what"}``: which ranks call which method of the watch after which step.
    own
        By rank, options that only this one gives.
    budgets
        By argument, shares of the time; budgets of these are joined.
    """
    for name, shares in (budgets or {}).items():
        options[name] = functools.reduce(operator.or_, map(wdyn.budget, shares))
    pace = pace[rank()] if isinstance(pace, list) else pace
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    model = Counting(start)
    model.spread()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, foreach=False)
    made, committed, answer = 0, [], None
    with (
        contextlib.suppress(Gone),
        wdyn.watch(
            model,
            optimizer,
            to=folder / "run.zarr",
            **{"every": 1, "snapshots": 1} | options | (own or {}).get(str(rank()), {}),
        ) as w,
    ):
        if rank() == 0:
            (folder / "entered").touch()
        while made < steps:
            count(model, optimizer)
            w.log(loss=start + made)
            made += 1
            if leaves and leaves["rank"] == rank() and leaves["step"] == made:
                leave(leaves["how"])
            if asks and rank() in asks["ranks"] and asks["step"] == made:
                answer = getattr(w, asks["what"])()
            time.sleep(pace)
            committed.append(w.committed)
        began = time.monotonic()
    ended = time.monotonic() - began if made == steps else None
    return {"made": made, "state": w.state_dict(), "committed": committed, "answer": answer, "ending": ended}


class Gone(Exception):
    """A rank left its loop."""


def leave(how):
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise {"raises": ZeroDivisionError, "ends": Gone}[how]


def in_turns(folder, *, blocks, **options):
    """Record several attempts, one after another, over one group."""
    with group():
        model = Counting()
        model.spread()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0, foreach=False)
        states = []
        for steps in blocks:
            w = wdyn.watch(
                model, optimizer, to=folder / "run.zarr", **{"every": 1, "snapshots": 1, "resume": True} | options
            )
            with w:
                for _ in range(steps):
                    count(model, optimizer)
            states.append(w.state_dict())
        return states
