"""Are the schedules of torch and transformers recognised, with the parameters that were given to them?"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from wdyn.analysis.schedule_shapes import Shape, recognise

PEAK = 3e-4


def rates(make: Callable[[torch.optim.Optimizer], Any], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and the rate that was used to reach each, by the scheduler itself."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    used = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR calls its own parts in a way that torch warns about
        scheduler = make(optimizer)
        for _ in range(count):
            used.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    return np.arange(1.0, count + 1), np.array(used)


def shape(make: Callable[[torch.optim.Optimizer], Any], count: int, rows: Any = slice(None)) -> Shape:
    steps, used = rates(make, count)
    return recognise(steps[rows], used[rows])


def test_constant__with_and_without_warmup() -> None:
    plain = shape(transformers.get_constant_schedule, 50)
    assert (plain.name, plain.warmup, plain.peak, plain.residual) == ("constant", 0.0, PEAK, 0.0)
    warm = shape(lambda o: transformers.get_constant_schedule_with_warmup(o, 17), 100)
    assert (warm.name, warm.warmup) == ("constant", pytest.approx(17))
    assert warm.fitted == pytest.approx(rates(lambda o: transformers.get_constant_schedule_with_warmup(o, 17), 100)[1])


@settings(max_examples=30)
@given(warmup=st.integers(0, 40), steps=st.integers(60, 300), made=st.integers(60, 400))
def test_linear__gives_back_its_warmup_and_horizon(warmup: int, steps: int, made: int) -> None:
    found = shape(lambda o: transformers.get_linear_schedule_with_warmup(o, warmup, steps), made)
    assert found.name == "linear"
    assert found.warmup == pytest.approx(warmup, abs=1e-6)
    assert found.horizon == pytest.approx(steps, rel=1e-6)
    assert found.peak == pytest.approx(PEAK)
    assert found.floor == 0
    assert found.residual < 1e-9


@settings(max_examples=40)
@given(
    warmup=st.integers(0, 40),
    steps=st.integers(80, 300),
    halves=st.integers(1, 8),
    made=st.floats(0.4, 1.0),
    floor=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_cosine__gives_back_warmup_cycles_and_floor(
    warmup: int, steps: int, halves: int, made: float, floor: float
) -> None:
    count = warmup + int(made * (steps - warmup))
    found = shape(
        lambda o: transformers.get_cosine_with_min_lr_schedule_with_warmup(
            o, warmup, steps, halves / 2, min_lr_rate=floor
        ),
        count,
    )
    assert found.name == "cosine"
    assert found.warmup == pytest.approx(warmup, abs=1e-3)
    assert found.period == pytest.approx(2 * (steps - warmup) / halves, rel=1e-5)
    assert found.cycles == pytest.approx(halves / 2 * (count - warmup) / (steps - warmup), rel=1e-4)
    assert found.horizon == pytest.approx(warmup + (steps - warmup) / halves, rel=1e-4)
    assert found.peak == pytest.approx(PEAK, rel=1e-5)
    assert found.floor == pytest.approx(floor * PEAK, abs=1e-5 * PEAK)
    assert found.residual < 1e-6


@settings(max_examples=25)
@given(warmup=st.integers(0, 30), falls=st.integers(2, 6), steps=st.integers(100, 300))
def test_restarts__give_back_their_count(warmup: int, falls: int, steps: int) -> None:
    make = transformers.get_cosine_with_hard_restarts_schedule_with_warmup
    found = shape(lambda o: make(o, warmup, steps, falls), steps)
    assert (found.name, found.factor) == ("cosine_restarts", 1)
    assert found.warmup == pytest.approx(warmup, abs=1e-3)
    assert found.cycles == pytest.approx(falls, rel=1e-6)
    assert found.period == pytest.approx((steps - warmup) / falls, rel=1e-6)
    assert found.residual < 1e-7


@pytest.mark.parametrize(("first", "multiple", "made"), [(15, 2, 100), (20, 1, 90), (10, 3, 125)])
def test_warm_restarts__of_growing_period(first: int, multiple: int, made: int) -> None:
    found = shape(lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, first, multiple, eta_min=1e-5), made)
    assert (found.name, found.factor) == ("cosine_restarts", multiple)
    assert found.period == pytest.approx(first)
    assert found.floor == pytest.approx(1e-5)
    begun, length, falls = 0, first, 0.0
    while begun + length <= made:
        begun, length, falls = begun + length, length * multiple, falls + 1
    assert found.cycles == pytest.approx(falls + (made - begun) / length)


@settings(max_examples=30)
@given(interval=st.integers(3, 60), factor=st.floats(0.05, 0.9), drops=st.integers(1, 4), more=st.integers(2, 20))
def test_steps__give_back_factor_and_interval(interval: int, factor: float, drops: int, more: int) -> None:
    found = shape(lambda o: lr_scheduler.StepLR(o, interval, factor), drops * interval + min(more, interval))
    assert found.name == "step"
    assert found.factor == pytest.approx(factor, rel=1e-6)
    assert found.period == interval


def test_steps__at_uneven_milestones_have_no_interval() -> None:
    found = shape(lambda o: lr_scheduler.MultiStepLR(o, [30, 50, 95], 0.5), 120)
    assert (found.name, found.factor) == ("step", pytest.approx(0.5))
    assert np.isnan(found.period)


@given(factor=st.floats(0.9, 0.999))
def test_exponential__gives_back_its_factor(factor: float) -> None:
    found = shape(lambda o: lr_scheduler.ExponentialLR(o, factor), 200)
    assert (found.name, found.factor) == ("exponential", pytest.approx(factor, rel=1e-9))


@given(warmup=st.integers(2, 40))
def test_inverse_square_root__gives_back_its_warmup(warmup: int) -> None:
    found = shape(lambda o: transformers.get_inverse_sqrt_schedule(o, warmup), 150)
    assert found.name == "inverse_sqrt"
    assert found.warmup == pytest.approx(warmup, abs=1e-3)
    assert found.peak == pytest.approx(PEAK)


def test_one_cycle__is_told_from_a_linear_one() -> None:
    found = shape(lambda o: lr_scheduler.OneCycleLR(o, PEAK, total_steps=100), 100)
    assert (found.name, found.warmup, found.peak) == ("one_cycle", pytest.approx(29, abs=1e-3), pytest.approx(PEAK))
    straight = shape(lambda o: lr_scheduler.OneCycleLR(o, PEAK, total_steps=100, anneal_strategy="linear"), 100)
    assert (straight.name, straight.warmup) == ("linear", pytest.approx(29))


def test_one_cycle__falls_from_where_it_rose_to() -> None:
    """A warmup times a cosine bends as a wave does, but the fall has begun with the first step."""

    def rate(made: int) -> float:
        return min(1.0, (made + 1) / 30) * (0.55 + 0.45 * np.cos(np.pi * made / 300))

    assert shape(lambda o: lr_scheduler.LambdaLR(o, rate), 300).name != "one_cycle"


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_hold__between_warmup_and_decay(kind: str) -> None:
    make = transformers.get_wsd_schedule
    found = shape(lambda o: make(o, 10, 30, num_training_steps=100, min_lr_ratio=0.1, decay_type=kind), 120)
    assert (found.name, found.warmup, found.hold) == (kind, pytest.approx(10), pytest.approx(60, abs=0.01))
    assert found.floor == pytest.approx(0.1 * PEAK)
    assert found.horizon == pytest.approx(100, abs=0.01)


def test_torch__warmup_then_cosine_in_sequence() -> None:
    found = shape(
        lambda o: lr_scheduler.SequentialLR(
            o,
            [lr_scheduler.LinearLR(o, 0.1, 1, total_iters=20), lr_scheduler.CosineAnnealingLR(o, 80, eta_min=1e-5)],
            [20],
        ),
        100,
    )
    assert (found.name, found.warmup) == ("cosine", pytest.approx(20, abs=1e-3))
    assert (found.cycles, found.floor) == (pytest.approx(0.5, abs=1e-4), pytest.approx(1e-5, rel=1e-4))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda o: transformers.get_cosine_schedule_with_warmup(o, 30, 400), "cosine"),
        (lambda o: transformers.get_linear_schedule_with_warmup(o, 30, 400), "linear"),
        (lambda o: transformers.get_inverse_sqrt_schedule(o, 30), "inverse_sqrt"),
        (lambda o: transformers.get_constant_schedule_with_warmup(o, 30), "constant"),
    ],
)
def test_sparse_rows__give_the_same_parameters(make: Callable[..., Any], name: str) -> None:
    rows = np.sort(np.random.default_rng(0).choice(400, 40, replace=False))
    found = shape(make, 400, rows)
    assert found.name == name
    assert found.warmup == pytest.approx(30, abs=1)
    if name in ("cosine", "linear"):
        assert found.horizon == pytest.approx(400, rel=1e-3)


def test_other__is_said_of_what_is_no_schedule() -> None:
    noise = np.random.default_rng(0).uniform(1, 2, size=200)
    found = recognise(np.arange(1.0, 201), noise)
    assert found.name == "other"
    assert np.isnan(found.fitted).all()
    assert shape(lambda o: lr_scheduler.CyclicLR(o, 1e-5, 1e-3, step_size_up=20), 100).name == "other"
    assert shape(lambda o: lr_scheduler.PolynomialLR(o, 100, 2), 100).name == "other"


def test_tolerance__is_the_share_of_the_largest_rate_that_a_row_may_miss() -> None:
    steps, used = rates(lambda o: transformers.get_linear_schedule_with_warmup(o, 0, 100), 100)
    used[50] += 2e-3 * PEAK
    assert recognise(steps, used).name == "other"
    loose = recognise(steps, used, tolerance=5e-3)
    assert loose.name == "linear"
    assert loose.residual == pytest.approx(2e-3, rel=0.1)


@pytest.mark.parametrize("scale", [0.0, 1.0])
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_rows__tell_of_no_more_than_a_constant(count: int, scale: float) -> None:
    found = recognise(np.arange(1.0, count + 1), np.full(count, scale))
    assert found.name == ("constant" if count > 1 else "other")


def test_float32__rates_are_recognised_too() -> None:
    steps, used = rates(lambda o: transformers.get_cosine_schedule_with_warmup(o, 13, 200), 200)
    found = recognise(steps, used.astype(np.float32).astype(np.float64))
    assert (found.name, found.warmup) == ("cosine", pytest.approx(13, abs=0.01))
    assert found.residual < 1e-6
