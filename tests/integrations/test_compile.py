"""Does a compiled model stay one graph, compiled once, however often it is recorded?"""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

import wdyn
from loops import Tiny, adamw, loss_of, steps_of

STEPS = 5


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def trained(place: Path | None, *, before: bool, **options: Any) -> tuple[dict[str, torch.Tensor], int, int, int]:
    """Train a model that is compiled before or behind `watch`; give its weights, and what the compiler counted."""
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    model = Tiny()
    counter = CompileCounterWithBackend("aot_eager")
    compiled: nn.Module = torch.compile(model, backend=counter) if before else model
    optimizer = adamw(model)
    with nullcontext() if place is None else wdyn.watch(compiled, optimizer, to=place, **options):
        if not before:
            compiled = torch.compile(model, backend=counter)
        for step in range(STEPS):
            optimizer.zero_grad()
            loss_of(compiled, step).backward()
            optimizer.step()
    breaks = sum(counters["graph_break"].values())
    return model.state_dict(), counter.frame_count, breaks, counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("before", [True, False], ids=["compiled before", "compiled behind"])
@pytest.mark.parametrize("every", [2, *(pytest.param(often, marks=pytest.mark.long) for often in (1, 100))])
def test_compiled_model__is_one_graph_compiled_once(every: int, before: bool, place: Path) -> None:
    without = trained(None, before=before)
    options = {"every": every, "snapshots": every, "what": "all"}
    recorded = trained(place, before=before, **options)
    assert recorded[1:] == without[1:] == (1, 0, 1)
    assert all(torch.equal(recorded[0][name], without[0][name]) for name in without[0])
    run = wdyn.open_run(place)
    assert steps_of(run, "statistics/weights") == [*range(0, STEPS, every), STEPS]
    kept = wdyn.state_dict(run, step=STEPS)
    assert all(torch.equal(kept[name], value) for name, value in recorded[0].items())
