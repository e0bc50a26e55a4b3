"""What does recording cost a sharded training? ``python -m benchmarks.processes``: FSDP2 over processes of one machine.

Beside it stands what one does without such a tool: gather each parameter by ``full_tensor()`` in every process, and
compute its mean and standard deviation in the first; and, for snapshots, write the gathered weights by ``torch.save``.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from statistics import median

import click
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

import wdyn
from benchmarks.harness import Table, options, publish, scratch, side_by_side
from benchmarks.subjects import SUBJECTS
from wdyn.demo.model import GPT

EVERY = 10
"""Steps from one row to the next."""
Tool = Callable[[nn.Module, torch.optim.Optimizer, Path], AbstractContextManager[object]]


def watched(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> AbstractContextManager[object]:
    """Record statistics of weights, updates and gradients."""
    return wdyn.watch(model, optimizer, to=folder / "run.zarr", every=EVERY, snapshots=None)


def kept(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> AbstractContextManager[object]:
    """Record the same, and all weights at each row."""
    return wdyn.watch(model, optimizer, to=folder / "run.zarr", every=EVERY, snapshots=EVERY)


def gathered(*, save: bool) -> Tool:
    """Gather the weights, and take two numbers of each, or `save` them."""

    @contextmanager
    def tool(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> Iterator[None]:
        made = 0

        def after(*_: object) -> None:
            nonlocal made
            made += 1
            if made % EVERY:
                return
            whole = {name: one.detach().full_tensor() for name, one in model.named_parameters()}  # type: ignore[operator]
            if dist.get_rank() == 0 and save:
                torch.save(whole, folder / f"{made}.pt")
            elif dist.get_rank() == 0:
                torch.stack([torch.stack((one.mean(), one.std())) for one in whole.values()]).tolist()

        hook = optimizer.register_step_post_hook(after)
        yield
        hook.remove()

    return tool


TOOLS: Mapping[str, Tool] = {
    "alone": lambda model, optimizer, folder: nullcontext(),
    "wdyn": watched,
    "wdyn, with snapshots": kept,
    "full_tensor(), mean and std": gathered(save=False),
    "full_tensor(), torch.save": gathered(save=True),
}


def play(rank: int, ranks: int, port: int, subject: str, steps: int, rounds: int, folder: str) -> None:
    """Train as one of the processes; the first leaves what each tool took in `folder`."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(ranks)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = GPT(SUBJECTS[subject].shape)
    for block in model.h:
        fully_shard(block)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    turn = 0

    def timed(tool: Tool) -> Callable[[], float]:
        def measured() -> float:
            nonlocal turn
            turn += 1
            place = Path(folder) / str(turn)
            place.mkdir(exist_ok=True)
            with tool(model, optimizer, place):
                dist.barrier()
                began = time.perf_counter()
                for _ in range(steps):
                    step_of(model, optimizer, subject)
                dist.barrier()
                return (time.perf_counter() - began) / steps

        return measured

    found = side_by_side({name: timed(tool) for name, tool in TOOLS.items()}, rounds=rounds)
    if rank == 0:
        torch.save(found, Path(folder) / "found.pt")
    dist.destroy_process_group()


def step_of(model: nn.Module, optimizer: torch.optim.Optimizer, subject: str) -> Tensor:
    """Make one step."""
    one = SUBJECTS[subject]
    tokens = torch.randint(one.shape.alphabet, (one.batch, one.length + 1))
    loss = nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def table(title: str, found: Mapping[str, Sequence[float]]) -> Table:
    """Tabulate seconds a step, and their ratio to those of the same round without a tool."""
    alone = found["alone"]
    rows = tuple(
        (name, 1e3 * median(values), median(one / other for one, other in zip(values, alone, strict=True)))
        for name, values in found.items()
    )
    return Table(title, ("", "ms a step", "x alone"), rows, found)


@click.command()
@click.option("--subject", default="char-small-batch", show_default=True, type=click.Choice(list(SUBJECTS)))
@click.option("--steps", default=40, show_default=True, type=click.IntRange(EVERY), help="Steps of one training.")
@click.option("--processes", default=2, show_default=True, type=click.IntRange(2), help="How many train.")
@options(rounds=5)
def main(subject: str, steps: int, processes: int, rounds: int, peers: bool, file: Path | None) -> None:
    """Measure what recording costs a training that FSDP2 shards. Takes 2 minutes."""
    with scratch() as folder, socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        one.close()
        arguments = (processes, port, subject, steps, rounds, str(folder))
        torch.multiprocessing.spawn(play, args=arguments, nprocs=processes)
        found = torch.load(folder / "found.pt")
    shown = {name: values for name, values in found.items() if peers or not name.startswith("full_tensor")}
    title = f"{SUBJECTS[subject].title}, FSDP2 over {processes} processes, a row every {EVERY} steps"
    publish([table(title, shown)], file=file, rounds=rounds, steps=steps, subject=subject)


if __name__ == "__main__":
    main()
