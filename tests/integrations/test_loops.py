"""Do the loops that people really have record their own steps and weights, and train as without?"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import wdyn
from loops import Tiny, loss_of, steps_of

Weights = dict[str, torch.Tensor]
Record = Callable[..., AbstractContextManager[Any]]
"""Given a model and its optimizers, as `wdyn.watch` is: it, or nothing."""
Loop = Callable[[nn.Module, Record, Callable[[], None]], None]
"""Trains a model under a record, and calls the last after each step."""


def weights_of(model: nn.Module) -> Weights:
    return {name: one.detach().clone() for name, one in model.named_parameters()}


def followed(loop: Loop, record: Record) -> list[Weights]:
    """Train from the same start; give the weights before the first and after each step, copied by means of its own."""
    torch.manual_seed(1)
    model = Tiny()
    kept = [weights_of(model)]
    loop(model, record, lambda: kept.append(weights_of(model)))
    return kept


def checked(loop: Loop, place: Path, **options: Any) -> xr.DataTree:
    """Train with and without: the same weights, bit for bit, and each step a row of them and of their change."""
    plain = followed(loop, lambda *given: nullcontext())
    watched = followed(loop, lambda *given: wdyn.watch(*given, to=place, every=1, snapshots=1, what="all", **options))
    run = wdyn.open_run(place)
    assert steps_of(run, "statistics/weights") == list(range(len(plain)))
    assert len(plain) == len(watched) > 2
    for step, (one, other) in enumerate(zip(plain, watched, strict=True)):
        kept = wdyn.state_dict(run, step=step)
        for name, value in one.items():
            assert torch.equal(value, other[name])
            assert torch.equal(value, kept[name])
    updates = wdyn.statistics(run, "updates")["l2"]
    for step in range(1, len(plain)):
        for name, value in plain[step].items():
            change = (value.double() - plain[step - 1][name].double()).norm()
            np.testing.assert_allclose(updates.sel(step=step, parameter=name), change, rtol=1e-12)
    return run


@pytest.mark.parametrize("fused", [False, True])
def test_grad_scaler__a_skipped_step_is_none(fused: bool, place: Path) -> None:
    def loop(model: nn.Module, record: Record, stepped: Callable[[], None]) -> None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        with record(model, optimizer):
            for step in range(5):
                optimizer.zero_grad()
                scaler.scale(loss_of(model, step) * (np.inf if step == 2 else 1.0)).backward()
                scaler.step(optimizer)
                scaler.update()
                if step != 2:
                    stepped()

    run = checked(loop, place)
    gradients = wdyn.statistics(run, "gradients")["l2"].sel(parameter="blocks.0.attn.qkv.weight")
    assert (gradients.sel(step=range(1, 5)) < 10).all()  # unscaled


def test_accelerate__its_wrappers_accumulate_and_schedule(place: Path) -> None:
    accelerate = pytest.importorskip("accelerate")

    def loop(model: nn.Module, record: Record, stepped: Callable[[], None]) -> None:
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
        plain = torch.optim.AdamW(model.parameters(), lr=0.08)
        prepared, optimizer, scheduler = accelerator.prepare(
            model, plain, torch.optim.lr_scheduler.StepLR(plain, 1, gamma=0.5)
        )
        with record(prepared, optimizer):
            for micro in range(6):
                with accelerator.accumulate(prepared):
                    accelerator.backward(loss_of(prepared, micro))
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(prepared.parameters(), 0.5)
                    optimizer.step()
                    scheduler.step()
                    optimizer.zero_grad()
                if accelerator.sync_gradients:
                    stepped()
        assert not plain._optimizer_step_post_hooks

    run = checked(loop, place)
    np.testing.assert_allclose(run["scalars/lr"].sel(step=[1, 2, 3]).squeeze(), [0.08, 0.04, 0.02])
    assert "tok.weight" in wdyn.parameters(run)["parameter"]


def test_accelerate__a_model_inside_a_wrapper_keeps_its_names(place: Path) -> None:
    class Wrapper(nn.Module):  # as DistributedDataParallel holds what it wraps
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.module(x)

    def loop(model: nn.Module, record: Record, stepped: Callable[[], None]) -> None:
        wrapped = Wrapper(model)
        optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
        with record(wrapped, optimizer):
            for step in range(2):
                optimizer.zero_grad()
                loss_of(wrapped, step).backward()
                optimizer.step()
                stepped()

    checked(loop, place)


def test_lbfgs__its_gradients_are_those_of_its_closure(place: Path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    x = torch.randn(8, 4)
    last: list[float] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    with wdyn.watch(model, optimizer, to=place, every=1):
        for _ in range(2):
            optimizer.step(closure)
            last.append(float(model.weight.grad.double().norm()))
    gradients = wdyn.statistics(wdyn.open_run(place), "gradients")["l2"].sel(parameter="weight", step=[1, 2])
    np.testing.assert_allclose(gradients, last, rtol=1e-12)


class Sam(torch.optim.Optimizer):
    """Climbs to the worst point near by, and steps from where it was with the gradient of there."""

    def __init__(self, parameters: Any, base: type, **options: Any) -> None:
        super().__init__(parameters, {"rho": 0.05, **options})
        self.base_optimizer = base(self.param_groups, **options)

    @torch.no_grad()
    def first_step(self) -> None:
        trained = [one for group in self.param_groups for one in group["params"]]
        norm = torch.stack([one.grad.norm() for one in trained]).norm()
        for one in trained:
            self.state[one]["start"] = one.clone()
            one.add_(one.grad * 0.05 / norm)

    @torch.no_grad()
    def second_step(self) -> None:
        for group in self.param_groups:
            for one in group["params"]:
                one.copy_(self.state[one]["start"])
        self.base_optimizer.step()


@pytest.mark.parametrize("given", [lambda sam: sam, lambda sam: sam.base_optimizer], ids=["itself", "its base"])
def test_sam__a_step_of_two_is_one_and_its_update_is_the_whole(given: Any, place: Path) -> None:
    steepest: list[float] = []

    def loop(model: nn.Module, record: Record, stepped: Callable[[], None]) -> None:
        optimizer = Sam(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
        with record(model, given(optimizer)):
            for step in range(3):
                loss_of(model, step).backward()
                optimizer.first_step()
                model.zero_grad()
                loss_of(model, step).backward()
                steepest.append(float(model.tok.weight.grad.double().norm()))
                optimizer.second_step()
                model.zero_grad()
                stepped()

    run = checked(loop, place)
    gradients = wdyn.statistics(run, "gradients")["l2"].sel(parameter="tok.weight", step=[1, 2, 3])
    np.testing.assert_allclose(gradients, steepest[3:], rtol=1e-12)
    np.testing.assert_array_equal(run["scalars/lr"].sel(step=[1, 2, 3]).squeeze(), 0.1)


class Lookahead(torch.optim.Optimizer):
    """Goes half of the way back, every second step, behind the step of the optimizer that it holds."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(optimizer.param_groups, {})
        self.optimizer, self.made = optimizer, 0
        self.slow = [one.detach().clone() for group in self.param_groups for one in group["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        self.optimizer.step(closure)
        self.made += 1
        if self.made % 2 == 0:
            for slow, one in zip(self.slow, (p for group in self.param_groups for p in group["params"]), strict=True):
                one.copy_(slow.lerp_(one, 0.5))


def test_lookahead__a_row_is_of_the_weights_that_its_whole_step_left(place: Path) -> None:
    def loop(model: nn.Module, record: Record, stepped: Callable[[], None]) -> None:
        optimizer = Lookahead(torch.optim.SGD(model.parameters(), lr=0.1))
        with record(model, optimizer):
            for step in range(4):
                model.zero_grad()
                loss_of(model, step).backward()
                optimizer.step()
                stepped()

    checked(loop, place)


def test_optimizer_in_backward__the_loop_counts_the_steps(place: Path) -> None:
    def loop(model: nn.Module, record: Record, stepped: Callable[[], None]) -> None:
        each = {one: torch.optim.SGD([one], lr=0.1) for one in model.parameters()}

        def step_now(one: nn.Parameter) -> None:
            each[one].step()
            each[one].zero_grad()

        hooks = [one.register_post_accumulate_grad_hook(step_now) for one in model.parameters()]
        with record(model) as w:
            for step in range(3):
                loss_of(model, step).backward()
                if w is not None:
                    w.step()
                stepped()
        for hook in hooks:
            hook.remove()

    checked(loop, place)


def test_unfreezing__a_group_that_is_added_late_is_seen_from_then_on(place: Path) -> None:
    def loop(model: nn.Module, record: Record, stepped: Callable[[], None]) -> None:
        late = model.blocks[0]
        late.requires_grad_(False)
        optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=0.01)
        with record(model, optimizer):
            for step in range(4):
                if step == 2:
                    late.requires_grad_(True)
                    optimizer.add_param_group({"params": list(late.parameters()), "lr": 0.001})
                optimizer.zero_grad()
                loss_of(model, step).backward()
                optimizer.step()
                stepped()

    run = checked(loop, place)
    name = "blocks.0.attn.qkv.weight"
    states = run["states"].to_dataset().isel(parameter=list(wdyn.parameters(run)["parameter"]).index(name))
    assert states["trainable"].sel(step=range(5)).values.tolist() == [0, 0, 0, 1, 1]
    np.testing.assert_array_equal(states["group"].sel(step=range(1, 5)), [np.nan, np.nan, 1, 1])
    updates = wdyn.statistics(run, "updates")["l2"].sel(parameter=name)
    assert (updates.sel(step=[1, 2]) == 0).all()
    assert (updates.sel(step=[3, 4]) > 0).all()
    rates = run["scalars/lr"]
    np.testing.assert_array_equal(rates.sel(step=[2, 4]), [[0.01, np.nan], [0.01, 0.001]])


def test_half__in_mid_training_is_kept_in_both_precisions(place: Path) -> None:
    def loop(model: nn.Module, record: Record, stepped: Callable[[], None]) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with record(model, optimizer):
            for step in range(4):
                if step == 2:
                    model.half()
                optimizer.zero_grad()
                loss_of(model, step).backward()
                optimizer.step()
                stepped()

    plain = followed(loop, lambda *given: nullcontext())
    watched = followed(loop, lambda *given: wdyn.watch(*given, to=place, every=1, snapshots=1))
    run = wdyn.open_run(place)
    for step, (one, other) in enumerate(zip(plain, watched, strict=True)):
        kept = wdyn.state_dict(run, step=step)
        assert kept["tok.weight"].dtype == (torch.float32 if step < 3 else torch.float16)
        assert all(torch.equal(one[name], other[name]) and torch.equal(one[name], kept[name]) for name in one)


def test_ema__copies_of_what_is_watched_can_be_made_and_watched_themselves(tmp_path: Path) -> None:
    averages: list[Weights] = []

    def loop(model: nn.Module, record: Record, stepped: Callable[[], None]) -> None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        with record(model, optimizer):
            ema = AveragedModel(copy.deepcopy(model), multi_avg_fn=get_ema_multi_avg_fn(0.5))
            with wdyn.watch(ema, to=tmp_path / f"ema{len(averages)}.zarr", every=1, snapshots=1) as w:
                for step in range(3):
                    optimizer.zero_grad()
                    loss_of(model, step).backward()
                    optimizer.step()
                    ema.update_parameters(model)
                    w.step()
                    stepped()
            averages.append(weights_of(ema.module))

    checked(loop, tmp_path / "run.zarr")
    run = wdyn.open_run(tmp_path / "ema0.zarr")
    assert steps_of(run, "statistics/weights") == [0, 1, 2, 3]
    kept = wdyn.state_dict(run, step=3)
    assert all(torch.equal(kept[name], value) for name, value in averages[0].items())


def test_gan__two_models_have_each_a_watch_and_steps_of_their_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator, critic = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    by_g = torch.optim.Adam(generator.parameters(), lr=0.01)
    by_d = torch.optim.Adam(critic.parameters(), lr=0.02)
    places = tmp_path / "g.zarr", tmp_path / "d.zarr"
    with (
        wdyn.watch(generator, by_g, to=places[0], every=1, snapshots=1),
        wdyn.watch(critic, by_d, to=places[1], every=1, snapshots=1),
    ):
        for step in range(6):
            by_d.zero_grad()
            (critic(generator(torch.randn(5, 3)).detach()) - critic(torch.randn(5, 4))).mean().backward()
            by_d.step()
            if step % 3 == 2:
                by_g.zero_grad()
                (-critic(generator(torch.randn(5, 3)))).mean().backward()
                by_g.step()
    for place, steps, model, rate in zip(places, (2, 6), (generator, critic), (0.01, 0.02), strict=True):
        run = wdyn.open_run(place)
        assert steps_of(run, "statistics/weights") == list(range(steps + 1))
        kept = wdyn.state_dict(run, step=steps)
        assert all(torch.equal(kept[name], value) for name, value in model.named_parameters())
        assert (run["scalars/lr"].sel(step=range(1, steps + 1)) == rate).all()
