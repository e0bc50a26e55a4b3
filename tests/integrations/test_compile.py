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
LENGTHS = (6, 7, 9, 5)


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


def text_loss(model: nn.Module, length: int) -> torch.Tensor:
    tokens = torch.randint(0, 11, (2, length), generator=torch.Generator().manual_seed(length))
    return nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def counted(place: Path | None, *, whole: bool, **options: Any) -> tuple[dict[str, torch.Tensor], int, int]:
    """Train on texts of several lengths, the model compiled or the whole step; give weights, frames and breaks."""
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    model, counter = Tiny(), CompileCounterWithBackend("eager")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, foreach=True)
    compiled = model if whole else torch.compile(model, backend=counter, **options)

    def step(length: int) -> None:
        optimizer.zero_grad()
        text_loss(compiled, length).backward()
        optimizer.step()

    run_step = torch.compile(step, backend=counter, **options) if whole else step
    with nullcontext() if place is None else wdyn.watch(model, optimizer, to=place, every=2, what="all"):
        for length in LENGTHS:
            run_step(length)
    return model.state_dict(), counter.frame_count, sum(counters["graph_break"].values())


def test_compiled_model__of_dynamic_shapes_and_no_break_at_all_stays_so(place: Path) -> None:
    options = {"whole": False, "fullgraph": True, "dynamic": None}
    without, recorded = counted(None, **options), counted(place, **options)
    assert recorded[1:] == without[1:] == (2, 0)  # one of the first length, one of any
    assert all(torch.equal(recorded[0][name], value) for name, value in without[0].items())
    assert steps_of(wdyn.open_run(place), "statistics/updates") == [0, 2, 4]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning", "ignore:The .grad attribute")  # within torch
def test_compiled_step__of_model_loss_and_optimizer_has_no_more_frames_and_breaks(place: Path) -> None:
    without, recorded = counted(None, whole=True), counted(place, whole=True)
    assert recorded[1] == without[1]
    assert recorded[2] <= without[2]
    assert all(torch.equal(recorded[0][name], value) for name, value in without[0].items())
    assert steps_of(wdyn.open_run(place), "statistics/updates") == [0, 2, 4]
