"""Does watching attach to any loop, refuse what cannot work, and change nothing?"""

import contextlib
import copy
import gc
import multiprocessing
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

import wdyn
from loops import Tiny, adamw, hooks_of, loss_of, steps_of, train
from wdyn.errors import (
    CannotRecord,
    InvalidArgument,
    NotARun,
    NothingToWatch,
    RunExists,
    RunLocked,
    WdynWarning,
)


@pytest.fixture
def model() -> Tiny:
    torch.manual_seed(0)
    return Tiny()


# Steps.


def test_step__counts_in_a_loop_without_an_optimizer(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place, every=1, snapshots=1) as w:
        for _ in range(3):
            with torch.no_grad():
                model.tok.weight.data.add_(0.5)
            w.step()
    run = wdyn.open_run(place)
    assert steps_of(run, "statistics/weights") == [0, 1, 2, 3]
    kept = wdyn.state_dict(run, step=3)["tok.weight"]
    assert torch.equal(kept, model.tok.weight)
    changes = wdyn.statistics(run, "updates")["mean"].sel(parameter="tok.weight", step=[1, 2, 3])
    np.testing.assert_allclose(changes, 0.5, rtol=1e-6)


def test_step__beside_an_optimizer_is_refused(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, adamw(model), to=place) as w, pytest.raises(InvalidArgument, match="count each step twice"):
        w.step()


def test_watch__several_optimizers_end_a_step_with_the_last(model: Tiny, place: Path) -> None:
    one = torch.optim.SGD(model.tok.parameters(), lr=0.1)
    two = torch.optim.SGD(model.blocks.parameters(), lr=0.2)
    with wdyn.watch(model, [one, two], to=place, every=1, snapshots=1):
        for step in (1, 2):
            model.zero_grad()
            loss_of(model, step).backward()
            one.step()
            two.step()
    run = wdyn.open_run(place)
    assert steps_of(run, "statistics/weights") == [0, 1, 2]
    np.testing.assert_array_equal(run["scalars/lr"].sel(step=1), [0.1, 0.2])
    before, after = (wdyn.state_dict(run, step=at)["tok.weight"].double() for at in (1, 2))
    row = wdyn.statistics(run, "updates")["l2"].sel(step=2, parameter="tok.weight")
    np.testing.assert_allclose(row, (after - before).norm(), rtol=1e-12)
    gradients = wdyn.statistics(run, "gradients")["l2"].sel(step=[1, 2])
    assert (gradients > 0).all()


def test_watch__lbfgs_counts_once_whatever_its_closure_does(place: Path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)
    x = torch.randn(8, 4)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    with wdyn.watch(model, optimizer, to=place, every=1):
        for _ in range(3):
            optimizer.step(closure)
    assert steps_of(wdyn.open_run(place), "statistics/weights") == [0, 1, 2, 3]


def test_watch__a_micro_batch_is_no_step(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=1):
        for micro in range(8):
            loss_of(model, micro).backward()
            if micro % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
    assert steps_of(wdyn.open_run(place), "statistics/weights") == [0, 1, 2]


def test_watch__a_wrapped_optimizer_is_unwrapped(model: Tiny, place: Path) -> None:
    class Wrapper:
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.optimizer, self.param_groups = optimizer, optimizer.param_groups

    optimizer = adamw(model)
    with wdyn.watch(model, Wrapper(optimizer), to=place, every=1):
        train(model, optimizer, 2)
    assert steps_of(wdyn.open_run(place), "statistics/weights") == [0, 1, 2]


# Nothing changes.


def trained(place: Path | None, *, compiled: bool = False) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    torch.manual_seed(1)
    model = Tiny()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=compiled)
    if place is None:
        train(model, optimizer, 12)
    else:
        with wdyn.watch(model, optimizer, to=place, every=1, snapshots=2) as w:
            train(model, optimizer, 12, each=lambda step: w.log(loss=step))
    return model.state_dict(), torch.get_rng_state()


@pytest.mark.parametrize("foreach", [False, True])
def test_watch__training_is_bit_for_bit_the_same(place: Path, foreach: bool) -> None:
    (plain, state), (watched, watched_state) = trained(None, compiled=foreach), trained(place, compiled=foreach)
    assert all(torch.equal(plain[name], watched[name]) for name in plain)
    assert torch.equal(state, watched_state)


def test_watch__leaves_model_and_optimizer_as_they_were(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    before = (set(vars(model)), set(vars(optimizer)), [set(vars(p)) for p in model.parameters()])
    with wdyn.watch(model, optimizer, to=place):
        assert hooks_of(optimizer) == 2
    assert hooks_of(optimizer) == 0
    assert (set(vars(model)), set(vars(optimizer)), [set(vars(p)) for p in model.parameters()]) == before


def test_watch__an_exception_in_the_loop_passes_and_all_rows_are_kept(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    with pytest.raises(ZeroDivisionError, match="the user's own"), wdyn.watch(model, optimizer, to=place, every=1):
        train(model, optimizer, 3)
        raise ZeroDivisionError("the user's own")
    assert hooks_of(optimizer) == 0
    run = wdyn.open_run(place)
    assert steps_of(run, "statistics/weights") == [0, 1, 2, 3]
    assert run.attrs["wdyn"]["closed"]


# Bad input.


def test_watch__refuses_an_existing_run_and_names_three_ways_on(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place):
        pass
    with pytest.raises(RunExists, match=r"resume=True.*to=.*delete"):
        wdyn.watch(model, to=place)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_watch__refuses_a_path_that_holds_something_else(kind: str, model: Tiny, place: Path) -> None:
    if kind == "file":
        place.write_text("hello")
    else:
        place.mkdir()
        (place / "thesis.tex").write_text("hello")
    with pytest.raises(InvalidArgument, match="exists and is no run"):
        wdyn.watch(model, to=place)


def test_watch__takes_an_empty_folder(model: Tiny, place: Path) -> None:
    place.mkdir()
    with wdyn.watch(model, to=place):
        pass
    assert steps_of(wdyn.open_run(place), "states") == [0]


def test_watch__refuses_every_0(model: Tiny, place: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"every=0.*1 or more"):
        wdyn.watch(model, to=place, every=0)
    with pytest.raises(InvalidArgument, match=r"snapshots=0.*1 or more"):
        wdyn.watch(model, to=place, snapshots=0)
    assert not place.exists()


def test_watch__refuses_a_model_without_parameters(place: Path) -> None:
    with pytest.raises(NothingToWatch, match="ReLU has no parameters"):
        wdyn.watch(nn.ReLU(), to=place)


def test_watch__refuses_a_pattern_that_matches_nothing(model: Tiny, place: Path) -> None:
    with pytest.raises(
        InvalidArgument, match=r"'blocks\.0\.attn\.qvk\.weight' matches no.*blocks\.0\.attn\.qkv\.weight"
    ):
        wdyn.watch(model, to=place, select="blocks.0.attn.qvk.weight")


def test_watch__refuses_an_unknown_quantity(model: Tiny, place: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"what='momenta'.*weights, updates, gradients"):
        wdyn.watch(model, to=place, what=["momenta"])


def test_watch__refuses_an_unknown_compression(model: Tiny, place: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"compression='gzip'.*'fast'"):
        wdyn.watch(model, to=place, compression="gzip")


def test_watch__selects_by_what_parameters_are(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place, select={"role": "k", "layer": [1], "kind": "weight"}):
        pass
    assert wdyn.parameters(wdyn.open_run(place))["parameter"].values.tolist() == ["blocks.1.attn.qkv.weight"]


def test_watch__selects_by_the_parts_that_were_declared(place: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    with wdyn.watch(model, to=place, parts={"0.weight": "left:2,right:4"}, select={"role": "right"}):
        pass
    assert wdyn.parameters(wdyn.open_run(place))["parameter"].values.tolist() == ["0.weight", "0.bias"]


def test_watch__tells_its_model_and_optimizers(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    w = wdyn.watch(model, optimizer, to=place)
    assert w.model is model
    assert w.optimizers == (optimizer,)


# Schedules.


@pytest.mark.parametrize("argument", ["every", "snapshots"])
def test_watch__a_spike_gives_a_row_of_the_step_that_it_leads_to(argument: str, model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    others = {"every": wdyn.at(0), "snapshots": wdyn.at(0), "what": ("weights", "updates", "gradients")}
    with wdyn.watch(model, optimizer, to=place, **{**others, argument: wdyn.at(0) | wdyn.spike("loss")}) as w:
        for step in range(1, 31):
            optimizer.zero_grad()
            loss = loss_of(model, step)
            w.log(loss=torch.tensor(40.0) if step == 25 else loss)
            loss.backward()
            optimizer.step()
    run = wdyn.open_run(place)
    group = "statistics/updates" if argument == "every" else "weights/tok-weight-0000"
    assert steps_of(run, group) == [0, 25, 30]  # the loss of the weights of step 24, and what it did to them
    if argument == "every":
        for quantity in ("updates", "gradients"):
            assert (wdyn.statistics(run, quantity)["l2"].sel(step=25, parameter="tok.weight") > 0).all()


def test_watch__a_spike_without_an_optimizer_gives_a_row_one_step_later(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place, every=wdyn.spike("loss")) as w:
        for step in range(1, 31):
            w.log(loss=9.0 if step == 25 else 1.0)
            w.step()
    assert steps_of(wdyn.open_run(place), "statistics/weights") == [0, 26, 30]


def test_watch__a_schedule_is_asked_about_each_step_once_in_order(model: Tiny, place: Path) -> None:
    asked: list[int] = []
    one = torch.optim.SGD(model.tok.parameters(), lr=0.1)
    two = torch.optim.SGD(model.blocks.parameters(), lr=0.2)
    with wdyn.watch(model, [one, two], to=place, every=lambda step: bool(asked.append(step))):
        for step in range(1, 4):
            model.zero_grad()
            loss_of(model, step).backward()
            one.step()
            two.step()
    assert asked == [0, 1, 2, 3]


def test_watch__refuses_what_is_no_model_or_optimizer(model: Tiny, place: Path) -> None:
    with pytest.raises(InvalidArgument, match="model is a dict"):
        wdyn.watch({}, to=place)
    with pytest.raises(InvalidArgument, match="optimizer is a float"):
        wdyn.watch(model, 0.1, to=place)
    with pytest.raises(InvalidArgument, match="optimizer is a str"):
        wdyn.watch(model, ["adam"], to=place)


def test_watch__refuses_lazy_and_meta_parameters(place: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that lazy modules are new
        lazy = nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(3))
    with pytest.raises(InvalidArgument, match=r"1\.weight.*run one forward"):
        wdyn.watch(lazy, to=place)
    with pytest.raises(InvalidArgument, match="meta device"):
        wdyn.watch(nn.Linear(2, 2, device="meta"), to=place)


def test_watch__a_place_that_cannot_be_written_is_told_before_training(model: Tiny) -> None:
    with (
        pytest.raises(CannotRecord, match=r"Cannot record into /proc/run\.zarr"),
        wdyn.watch(model, to="/proc/run.zarr"),
    ):
        pytest.fail("the block must not be entered")


def test_watch__a_second_writer_is_refused_by_name(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place):
        with pytest.raises(RunLocked, match="this very process"), wdyn.watch(model, to=place, resume=True):
            pytest.fail("the block must not be entered")
        other = "import sys, torch, wdyn; wdyn.watch(torch.nn.Linear(2, 2), to=sys.argv[1], resume=True).__enter__()"
        done = subprocess.run([sys.executable, "-c", other, place], capture_output=True, text=True, check=False)
    assert "RunLocked" in done.stderr
    assert "is being written by process" in done.stderr


def test_watch__calls_outside_the_block_say_so(model: Tiny, place: Path) -> None:
    w = wdyn.watch(model, to=place)
    with pytest.raises(InvalidArgument, match=r"log was called before the block was entered"):
        w.log(loss=1)
    with w:
        pass
    with pytest.raises(InvalidArgument, match="entered before"), w:
        pass


# Compiled steps.


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # within torch, when it compiles
@pytest.mark.parametrize("compiled_first", [True, False])
def test_compiled_step__is_one_graph_as_without_and_its_rows_are_right(compiled_first: bool, tmp_path: Path) -> None:
    graphs, weights = [], []
    for watched in (False, True):
        torch._dynamo.reset()
        torch.manual_seed(0)
        model, counter = nn.Linear(4, 3), CompileCounter()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        w = wdyn.watch(model, optimizer, to=tmp_path / "run.zarr", every=2, snapshots=1)
        with contextlib.ExitStack() as block:
            if watched and not compiled_first:
                block.enter_context(w)
            step = torch.compile(optimizer.step, backend=counter)
            if watched and compiled_first:
                block.enter_context(w)
            for number in range(5):
                optimizer.zero_grad()
                model(torch.full((2, 4), float(number))).square().mean().backward()
                step()
        graphs.append(counter.frame_count)
        weights.append(model.weight.detach().clone())
    assert graphs == [1, 1]
    assert torch.equal(*weights)
    run = wdyn.open_run(tmp_path / "run.zarr")
    assert steps_of(run, "scalars") == [*range(6)]
    assert steps_of(run, "statistics/updates") == [0, 2, 4, 5]
    for step in (2, 4):
        before, after = (wdyn.state_dict(run, step=at)["weight"].double() for at in (step - 1, step))
        got = wdyn.statistics(run, "updates")["l2"].sel(step=step, parameter="weight")
        np.testing.assert_allclose(got, (after - before).norm(), rtol=1e-12)


# Resume.


def test_resume__continues_after_the_last_step_as_a_new_attempt(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=1):
        train(model, optimizer, 3)
    with wdyn.watch(model, optimizer, to=place, every=1, resume=True):
        train(model, optimizer, 2)
    run = wdyn.open_run(place)
    assert steps_of(run, "statistics/weights") == [0, 1, 2, 3, 4, 5]
    assert run["statistics/weights/attempt"].values.tolist() == [0, 0, 0, 1, 1, 1]
    assert [attempt["resumed_from_step"] for attempt in run.attrs["wdyn"]["attempts"]] == [-1, 3]


def test_resume__from_an_earlier_step_hides_what_came_after_it(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=1, snapshots=1):
        train(model, optimizer, 5)
    wdyn.load_into(model, wdyn.open_run(place), step=2)
    with wdyn.watch(model, optimizer, to=place, every=1, snapshots=1, resume=2):
        train(model, optimizer, 1)
    run = wdyn.open_run(place)
    assert steps_of(run, "statistics/weights") == [0, 1, 2, 3]
    assert torch.equal(wdyn.state_dict(run, step=3)["tok.weight"], model.tok.weight)
    first = wdyn.open_run(place, attempt=0)
    assert steps_of(first, "statistics/weights") == [0, 1, 2, 3, 4, 5]


def test_resume__takes_the_step_of_the_users_own_checkpoint(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=1) as w:
        train(model, optimizer, 2)
        state = w.state_dict()
        train(model, optimizer, 3)
    again = wdyn.watch(model, optimizer, to=place, every=1, resume=True)
    again.load_state_dict(state)
    with again:
        train(model, optimizer, 1)
    assert steps_of(wdyn.open_run(place), "statistics/weights") == [0, 1, 2, 3]


def test_resume__true_starts_a_run_where_none_is(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place, resume=True):
        pass
    assert steps_of(wdyn.open_run(place), "states") == [0]


def test_resume__at_a_step_needs_a_run(model: Tiny, place: Path) -> None:
    with pytest.raises(NotARun, match="resume=5, but no run is at"):
        wdyn.watch(model, to=place, resume=5)


def test_resume__refuses_a_negative_step(model: Tiny, place: Path) -> None:
    with pytest.raises(InvalidArgument, match="resume=-2"):
        wdyn.watch(model, to=place, resume=-2)


def test_resume__with_other_weights_than_those_recorded_is_told(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=1):
        train(model, optimizer, 3)
    torch.manual_seed(7)
    fresh = Tiny()
    with (
        pytest.warns(WdynWarning, match=r"weights are not those that the run has at step 3: .* differ, such as tok"),
        wdyn.watch(fresh, to=place, resume=True),
    ):
        pass


def test_resume__with_the_recorded_weights_is_quiet(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place, every=1):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with wdyn.watch(model, to=place, every=1, resume=True):
            pass


def test_resume__beyond_the_last_recorded_step_is_told(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place):
        pass
    with (
        pytest.warns(WdynWarning, match="continues after step 50, but its last recorded step is 0"),
        wdyn.watch(model, to=place, resume=50),
    ):
        pass


def test_resume__with_another_model_is_refused_and_leaves_the_run_as_it_was(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place):
        pass
    with (
        pytest.raises(InvalidArgument, match="not the model of the run"),
        wdyn.watch(Tiny(width=4), to=place, resume=True),
    ):
        pytest.fail("the block must not be entered")
    assert len(wdyn.open_run(place).attrs["wdyn"]["attempts"]) == 1
    with wdyn.watch(model, to=place, resume=True):  # and the lock is free again
        pass


def test_watch__an_optimizer_of_another_model_is_told(model: Tiny, place: Path) -> None:
    other = adamw(Tiny())
    with pytest.warns(WdynWarning, match="holds none of the recorded parameters"), wdyn.watch(model, other, to=place):
        other.step()


def test_watch__an_optimizer_that_never_stepped_is_told(model: Tiny, place: Path) -> None:
    with pytest.warns(WdynWarning, match="never stepped inside the block"), wdyn.watch(model, adamw(model), to=place):
        pass


def test_load_state_dict__comes_before_the_block(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place) as w, pytest.raises(InvalidArgument, match="call it before"):
        w.load_state_dict({"step": 3})


@pytest.mark.parametrize("bad", [{}, {"step": "3"}, None])
def test_load_state_dict__refuses_what_is_no_state(bad: object, model: Tiny, place: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"needed is what Watch\.state_dict"):
        wdyn.watch(model, to=place).load_state_dict(bad)


# Ends that no block sees, copies, and cells that are run again.


def test_watch__that_nobody_holds_closes_itself_and_says_so(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    w = wdyn.watch(model, optimizer, to=place, every=1).__enter__()
    train(model, optimizer, 3)
    with pytest.warns(WdynWarning, match="let go before its end, so it closes itself after step 3"):
        del w
        gc.collect()
    assert hooks_of(optimizer) == 0
    run = wdyn.open_run(place)
    assert run.attrs["wdyn"]["closed"]
    assert steps_of(run, "statistics/weights") == [0, 1, 2, 3]
    train(model, optimizer, 1)


def test_watch__that_a_thread_collects_is_closed_by_another(model: Tiny, place: Path) -> None:
    """Garbage may be collected in the very thread that would be waited for."""
    optimizer, before = adamw(model), threading.enumerate()
    held = [wdyn.watch(model, optimizer, to=place, every=1).__enter__()]
    train(model, optimizer, 2)
    writer = held[0]._recording._background._writer
    commit = writer.commit
    writer.commit = lambda: (held.clear(), commit())[1]
    with pytest.warns(WdynWarning, match="let go before its end"):
        held[0].flush()
        for thread in threading.enumerate():
            if thread not in before:
                thread.join(60)
    assert wdyn.open_run(place).attrs["wdyn"]["closed"]
    assert hooks_of(optimizer) == 0


def test_close__ends_what_was_entered_by_hand(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    w = wdyn.watch(model, optimizer, to=place, every=1)
    w.close()  # nothing to end yet
    w.__enter__()
    train(model, optimizer, 2)
    w.close()
    w.close()
    train(model, optimizer, 2)
    assert hooks_of(optimizer) == 0
    assert steps_of(wdyn.open_run(place), "statistics/weights") == [0, 1, 2]


def test_cell__that_is_run_again_after_an_interrupt_finds_its_run_closed(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)

    def cell(**more: object) -> None:
        with wdyn.watch(model, optimizer, to=place, every=1, **more):
            train(model, optimizer, 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cell()
    assert hooks_of(optimizer) == 0
    with pytest.raises(RunExists, match=r"already holds a run\. Three ways on: .*resume=True.*to=.*delete"):
        cell()
    with pytest.raises(KeyboardInterrupt):
        cell(resume=True)
    assert steps_of(wdyn.open_run(place), "statistics/weights") == [0, 1, 2, 3, 4]


def test_cell__that_is_run_again_while_its_watch_is_open_is_told_to_end_that_first(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    w = wdyn.watch(model, optimizer, to=place, every=1)
    w.__enter__()
    train(model, optimizer, 1)
    with pytest.raises(RunExists, match=r"still written by process \d+ on .*: end that first.*resume=True"):
        wdyn.watch(model, optimizer, to=place, every=1)
    again = wdyn.watch(model, optimizer, to=place, every=1, resume=True)
    with pytest.raises(RunLocked, match=r"this very process; end that one first: .*close\(\)"):
        again.__enter__()
    assert hooks_of(optimizer) == 2
    train(model, optimizer, 1)
    with pytest.warns(WdynWarning, match="let go before its end"):
        w = again  # as the same cell does, whose name for the watch is the same
    with w:
        train(model, optimizer, 1)
    run = wdyn.open_run(place)
    assert steps_of(run, "statistics/weights") == [0, 1, 2, 3]
    assert len(run.attrs["wdyn"]["attempts"]) == 2


def test_watch__two_on_one_optimizer_record_each_into_its_own_run(model: Tiny, tmp_path: Path) -> None:
    optimizer = adamw(model)
    one, two = tmp_path / "one.zarr", tmp_path / "two.zarr"
    with wdyn.watch(model, optimizer, to=one, every=1):
        train(model, optimizer, 2)
        with wdyn.watch(model, optimizer, to=two, every=1):
            train(model, optimizer, 3)
        assert hooks_of(optimizer) == 2
        train(model, optimizer, 1)
    runs = [wdyn.open_run(path) for path in (one, two)]
    assert [steps_of(run, "statistics/updates") for run in runs] == [[*range(7)], [*range(4)]]
    long, short = (wdyn.statistics(run, "updates")["l2"] for run in runs)
    np.testing.assert_array_equal(long.sel(step=[3, 4, 5]), short.sel(step=[1, 2, 3]))


class Copied(torch.optim.SGD):
    """An optimizer that says itself what is copied of it: all, hooks included."""

    def __getstate__(self) -> dict[str, object]:
        return dict(self.__dict__)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, Copied])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies__of_a_watched_model_and_optimizer_record_nothing(
    kind: type[torch.optim.Optimizer], copied: Callable[[object], object], model: Tiny, place: Path
) -> None:
    optimizer = kind(model.parameters(), lr=1e-2)
    with wdyn.watch(model, optimizer, to=place, every=1):
        train(model, optimizer, 2)
        other, its = copied((model, optimizer))
        train(other, its, 5)
        train(model, optimizer, 1)
    assert not torch.equal(other.tok.weight, model.tok.weight)
    train(other, its, 1)
    assert steps_of(wdyn.open_run(place), "statistics/weights") == [0, 1, 2, 3]


def test_copies__that_were_saved_load_where_there_is_no_wdyn(model: Tiny, place: Path, tmp_path: Path) -> None:
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place):
        (tmp_path / "hook").write_bytes(pickle.dumps(list(optimizer._optimizer_step_pre_hooks.values())))
        train(model, optimizer, 1)
    code = (
        "import pickle, sys; hooks = pickle.load(open(sys.argv[1], 'rb')); "
        "assert hooks[0](None, (), {}) is None; assert 'wdyn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "hook"], check=True, timeout=120)


def test_copies__of_what_holds_a_watch_hold_the_same_one(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place) as w:
        assert copy.deepcopy({"trainer": w})["trainer"] is w
        with pytest.raises(TypeError, match="belongs to its process and cannot be pickled"):
            pickle.dumps(w)


def test_watch__left_in_the_middle_of_a_step_has_no_row_of_torn_weights(model: Tiny, place: Path) -> None:
    class Torn(torch.optim.SGD):
        def step(self, closure: object = None) -> None:
            with torch.no_grad():
                model.tok.weight.fill_(torn)
            if torn:
                raise KeyboardInterrupt

    torn = False
    optimizer = Torn(model.parameters(), lr=0.1)
    with (
        pytest.warns(WdynWarning, match="left while step 2 was made or recorded"),
        pytest.raises(KeyboardInterrupt),
        wdyn.watch(model, optimizer, to=place, every=wdyn.at(0), snapshots=wdyn.at(0)) as w,
    ):
        optimizer.step()
        w.log(loss=3.0)
        torn = True
        optimizer.step()
    run = wdyn.open_run(place)
    assert steps_of(run, "statistics/weights") == steps_of(run, "states") == [0]
    assert float(run["scalars/loss"].sel(step=1)) == 3.0


def test_flush_on_sigterm__needs_the_main_thread(model: Tiny, place: Path) -> None:
    w = wdyn.watch(model, to=place, flush_on_sigterm=True)
    with ThreadPoolExecutor(1) as other:
        with pytest.raises(InvalidArgument, match="handles signals in the main thread alone"):
            other.submit(w.__enter__).result()
    assert not place.exists()


def test_flush_on_sigterm__leaves_the_handler_that_was_there_in_any_order_of_ends(
    model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def own(number: int, frame: object) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGTERM, own)
    try:
        one, two = (
            wdyn.watch(model, to=tmp_path / f"{at}.zarr", every=1, flush_on_sigterm=True).__enter__() for at in (1, 2)
        )
        for w in (one, two):
            w.step()
        signal.raise_signal(signal.SIGTERM)
        assert seen == [signal.SIGTERM]
        assert (one.committed, two.committed) == (1, 1)
        one.close()
        two.close()
        assert signal.getsignal(signal.SIGTERM) is own
        with wdyn.watch(model, to=tmp_path / "3.zarr", flush_on_sigterm=True):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_run__that_was_deleted_and_begun_anew_is_not_written_by_its_old_writer(model: Tiny, place: Path) -> None:
    old = wdyn.watch(model, to=place, every=1).__enter__()
    old.step()
    shutil.rmtree(place)
    new = "import sys, torch, wdyn; w = wdyn.watch(torch.nn.Linear(2, 2), to=sys.argv[1]).__enter__(); w.step()"
    subprocess.run([sys.executable, "-c", new, place], check=True, timeout=120)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    with pytest.warns(
        WdynWarning, match=r"was deleted, or replaced .* on, and nothing more is written there\. What was"
    ):
        old.step()
        old.close()
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


# Forks, speed, other people's models.


def forked_loop(model: nn.Module, watch: wdyn.Watch) -> None:
    watch.log(loss=1.0)
    watch.snapshot()
    watch.__exit__(None, None, None)


def test_watch__a_forked_child_touches_nothing(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place, every=1) as w:
        w.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tested
            child = multiprocessing.get_context("fork").Process(target=forked_loop, args=(model, w))
            child.start()
            child.join(30)
        assert child.exitcode == 0
        w.step()
    assert steps_of(wdyn.open_run(place), "statistics/weights") == [0, 1, 2]


def test_watch__off_cadence_steps_read_nothing_of_the_model(
    model: Tiny, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with wdyn.watch(model, to=place, every=1000, snapshots=wdyn.at(0)) as w:
        for name in ("look", "prepare", "see_gradients", "numbers", "snapshot"):
            monkeypatch.setattr(
                f"wdyn.capture.recorder.Recorder.{name}", lambda *_, **__: pytest.fail("read the model")
            )
        for _ in range(50):
            w.step()
        monkeypatch.undo()


@pytest.fixture
def gpt2() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_embd=16, n_layer=2, n_head=2, vocab_size=64, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config)


def test_watch__gpt2_reads_like_any_other_model(gpt2: nn.Module, place: Path) -> None:
    optimizer = adamw(gpt2)
    tokens = torch.randint(0, 64, (2, 9))
    with wdyn.watch(gpt2, optimizer, to=place, every=1, snapshots=1):
        for _ in range(2):
            optimizer.zero_grad()
            gpt2(tokens, labels=tokens).loss.backward()
            optimizer.step()
    run = wdyn.open_run(place)
    q = wdyn.select(run, role="q", layer=1, step=2)
    fused = gpt2.transformer.h[1].attn.c_attn.weight.detach().numpy()
    assert q.dims == ("fan_out", "fan_in")
    np.testing.assert_array_equal(q, fused[:, :16].T)
    again = type(gpt2)(gpt2.config)
    wdyn.load_into(again, run, step=2)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), gpt2.parameters(), strict=True))


def test_watch__works_from_a_script_that_knows_nothing_else(place: Path) -> None:
    script = textwrap.dedent(
        """
        import sys, torch, wdyn
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        optimizer = torch.optim.Adam(model.parameters())
        with wdyn.watch(model, optimizer, to=sys.argv[1]) as w:
            for _ in range(10):
                optimizer.zero_grad()
                model(torch.randn(3, 4)).square().mean().backward()
                optimizer.step()
        """
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script, place], check=True, timeout=120)
    assert steps_of(wdyn.open_run(place), "statistics/weights") == [0, 1, 2, 4, 8, 10]
