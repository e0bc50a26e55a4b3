"""Does optimizer_state give what the optimizer holds, and find what was planted?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch import nn

import wdyn
from wdyn.analysis.optimizer_state import optimizer_state
from wdyn.analysis.optimizer_state_piling import pile
from wdyn.analysis.optimizer_state_rules import correction, correction_ends
from wdyn.findings import Finding, Severity

WHAT = ("weights", "updates", "gradients", "moments", "predicted_update")
Make = Callable[[Any], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "SGD": lambda weights: torch.optim.SGD(weights, lr=0.01),
    "momentum": lambda weights: torch.optim.SGD(weights, lr=0.01, momentum=0.9),
    "RMSprop": lambda weights: torch.optim.RMSprop(weights, lr=0.01),
    "Adagrad": lambda weights: torch.optim.Adagrad(weights, lr=0.01),
    "Adam": lambda weights: torch.optim.Adam(weights, lr=0.01),
    "AMSGrad": lambda weights: torch.optim.AdamW(weights, lr=0.01, amsgrad=True, betas=(0.8, 0.9), weight_decay=0),
    "AdamW": lambda weights: torch.optim.AdamW(weights, lr=0.01, weight_decay=0),
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1))


def loss_of(model: nn.Module, step: int) -> torch.Tensor:
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
    return (model(x.to(next(model.parameters()).dtype)) - x.sum(1, keepdim=True)).square().mean()


def record(
    place: Path,
    make: Make,
    *,
    model: nn.Module | None = None,
    steps: int = 12,
    reset: bool = True,
    what: Sequence[str] = WHAT,
    each: Callable[[nn.Module, torch.optim.Optimizer, int], None] = lambda model, optimizer, step: None,
) -> xr.DataTree:
    """Train for a few steps under a real optimizer; `each` is called before every step."""
    model = network() if model is None else model
    optimizer = make(model.parameters())
    with wdyn.watch(model, optimizer, to=place, every=1, snapshots=None, what=what):
        for step in range(steps):
            if reset:
                optimizer.zero_grad()
            loss_of(model, step).backward()
            each(model, optimizer, step)
            optimizer.step()
    return wdyn.open_run(place)


def found_in(run: xr.DataTree, **limits: Any) -> dict[str, Finding]:
    return {finding.code: finding for finding in optimizer_state.judge(optimizer_state(run), **limits)}


class Scalars(nn.Module):
    """Three numbers with gradients of very different size: of one element, ratios of means are exact."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Parameter(torch.tensor(value)) for value in (1.0, -0.5, 2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.a * x[:, :1] + 100 * self.b * x[:, 1:2] ** 2 + 1e-3 * self.c * x[:, 2:3]).tanh()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_effective_step__of_single_numbers_is_the_update_that_torch_makes(name: str, place: Path) -> None:
    result = optimizer_state(record(place, OPTIMIZERS[name], model=Scalars().double())).sel(step=slice(1, None))
    assert set(result["rule"].values) == {{"SGD": "gradient", "AMSGrad": "Adam", "AdamW": "Adam"}.get(name, name)}
    moved = result["update"].values
    assert (moved > 0).all()
    assert_allclose(result["effective_step"], moved, rtol=1e-6)


def test_moments__equal_float64_means_of_the_true_state(place: Path) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.8, 0.95))
    true = []
    with wdyn.watch(model, optimizer, to=place, every=1, snapshots=None, what=WHAT):
        for step in range(6):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            gradient = model[0].weight.grad.double().numpy().copy()
            optimizer.step()
            state = optimizer.state[model[0].weight]
            first, second = (state[key].double().numpy() for key in ("exp_avg", "exp_avg_sq"))
            t = step + 1
            root = np.sqrt((second / (1 - 0.95**t)).mean())
            centre = np.sqrt(((first / (1 - 0.8**t)) ** 2).mean())
            true.append([np.sqrt((gradient**2).mean()), centre, root, centre / root, 0.01 * centre / (root + 1e-8)])
    result = optimizer_state(wdyn.open_run(place))
    names = ["gradient", "first_moment", "second_moment", "signal", "effective_step"]
    assert_allclose(result[names].sel(parameter="0.weight").to_array().values.T, true, rtol=1e-6)
    assert_allclose(result["correction"].isel(group=0), 1 / (1 - 0.95 ** np.arange(1, 7)), rtol=1e-12)
    assert_allclose(result["signal"].isel(step=0), 1, rtol=1e-5)
    assert (result["step"].values == np.arange(1, 7)).all()


def test_settings__are_those_of_each_group(place: Path) -> None:
    model = network()
    matrices, vectors = model[0].weight, model[0].bias
    groups = [{"params": [matrices]}, {"params": [vectors], "weight_decay": 0.5, "lr": 0.1}]
    optimizer = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 4))
    with wdyn.watch(model, optimizer, to=place, every=2, snapshots=None, what=WHAT):
        for step in range(8):
            loss_of(model, step).backward()
            optimizer.step()
            schedule.step()
    result = optimizer_state(wdyn.open_run(place))
    assert result["of_group"].sel(parameter=["0.weight", "0.bias", "3.weight"]).values.tolist() == [0, 1, -1]
    assert result["peak_at"].values.tolist() == [4, 4]
    assert_allclose(result["pull"], [6.5 * 0.01 * 0.1, 6.5 * 0.1 * 0.5], rtol=1e-12)
    assert result["optimizer"].values.tolist() == ["AdamW", "AdamW"]
    assert result["step"].values.tolist() == [2, 4, 6, 8]


def test_moments_from_before__are_taken_as_settled(place: Path) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loss_of(model, 0).backward()
    optimizer.step()
    result = optimizer_state(record(place, lambda weights: optimizer, model=model, steps=3))
    assert (result["correction"] == 1).all()
    assert "OPT001" not in {one.code for one in optimizer_state.judge(result)}


def test_rules_that_are_not_known__give_no_step(place: Path) -> None:
    for number, make in enumerate(
        (
            lambda weights: torch.optim.Adadelta(weights),
            lambda weights: torch.optim.SGD(weights, lr=0.01, momentum=0.9, nesterov=True),
            lambda weights: torch.optim.Adamax(weights),
        )
    ):
        run = record(place / str(number), make, what=WHAT[:4])
        result = optimizer_state(run)
        assert set(result["rule"].values) == {"unknown"}
        assert result["effective_step"].isnull().all()
        assert result["first_moment"].notnull().any() or number == 0
    unread = optimizer_state(record(place / "adam", OPTIMIZERS["Adam"], what=WHAT[:3]))
    assert set(unread["rule"].values) == {"unknown"}  # without moments Adam is not taken for plain SGD


def test_optimizer_state__is_skipped_with_a_remedy(plant: Any, tree: Any, place: Path) -> None:
    values = np.ones((2, 3))
    bare = optimizer_state(tree([plant("a", "linear", values)], steps=[0, 1]))
    assert bare.attrs["skipped"] == "neither gradients, updates nor moments were recorded"
    assert "moments" in bare.attrs["remedy"]
    alone = optimizer_state(tree([plant("a", "linear", values, in_optimizer=False)], steps=[0, 1]))
    assert alone.attrs["skipped"] == "no optimizer was watched"


def test_runs__pass_through(place: Path) -> None:
    runs = {name.lower(): record(place / name, OPTIMIZERS[name], steps=3) for name in ("SGD", "Adam")}
    joined = optimizer_state(wdyn.join_runs(**runs))
    assert joined["effective_step"].dims == ("run", "step", "parameter")
    for label, run in runs.items():
        own = optimizer_state(run)
        xr.testing.assert_allclose(joined["effective_step"].sel(run=label, drop=True), own["effective_step"])
        assert set(joined["rule"].sel(run=label).values) == set(own["rule"].values)


# --- checks: one run that fires, one that must not


def test_peak_rate_before_the_second_moment_settled__is_told_and_warmup_covers_it(place: Path) -> None:
    def adam(weights: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(weights, lr=0.01, betas=(0.9, 0.9))

    early = found_in(record(place / "early", adam))["OPT001"]
    assert early.severity is Severity.INFO
    assert "before step 7, and the learning rate is at its peak from step 1 on" in early.message

    def warm(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        optimizer.param_groups[0]["lr"] = 0.01 * min(1, (step + 1) / 8)

    assert "OPT001" not in found_in(record(place / "warm", adam, each=warm))
    assert "OPT001" not in found_in(record(place / "sgd", OPTIMIZERS["SGD"]))
    assert "later than the last step, 12" in found_in(record(place / "long", OPTIMIZERS["Adam"]))["OPT001"].message


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_gradients_never_reset__are_a_warning_and_reset_ones_are_none(name: str, place: Path) -> None:
    def slow(weights: Any) -> torch.optim.Optimizer:
        return OPTIMIZERS[name]([{"params": list(weights), "lr": 1e-5 if name == "SGD" else 1e-4}])

    forgotten = found_in(record(place / "forgotten", slow, steps=20, reset=False))["OPT002"]
    assert forgotten.severity is Severity.WARNING
    assert "in a line up to step 20" in forgotten.message
    assert forgotten.evidence["gradient_norm"].sizes["step"] == 20
    assert "OPT002" not in found_in(record(place / "reset", slow, steps=20))


@given(
    st.floats(0.01, 0.5), st.integers(6, 60), st.sampled_from(["exponential", "square", "level", "falling", "noise"])
)
def test_pile__is_not_what_grows_in_another_way(rate: float, count: int, shape: str) -> None:
    steps = np.arange(1, count + 1)
    norms = {
        "exponential": np.exp(rate * steps),
        "square": 1 + rate * (steps - 1.0) ** 2,
        "level": np.full(count, 1 + rate),
        "falling": 1 / (1 + rate * steps),
        "noise": 1 + np.abs(np.random.default_rng(count).normal(size=count)),
    }[shape]
    found = pile(steps, norms, straightness=0.97, least_rows=6)
    ordinary = found.rows == 0 or found.growth < 5 or not 0.1 <= found.pace <= 2
    assert ordinary


@given(st.floats(1e-6, 1e6), st.integers(6, 200), st.integers(1, 10))
def test_pile__of_equal_gradients_is_found_at_any_size_and_cadence(size: float, count: int, every: int) -> None:
    steps = every * np.arange(1, count + 1)
    found = pile(steps, size * steps, straightness=0.97, least_rows=6)
    assert (found.rows, found.last) == (count, every * count)
    assert_allclose([found.growth, found.pace, found.straightness], [count, 1, 1], rtol=1e-9)


def test_pile__ends_where_gradients_are_not_finite() -> None:
    norms = np.arange(1.0, 21)
    norms[12:] = np.nan
    assert pile(np.arange(1, 21), norms, straightness=0.97, least_rows=6).last == 12
    assert pile(np.arange(1, 21), norms * np.nan, straightness=0.97, least_rows=6).rows == 0
    assert pile(np.arange(1, 21), norms * 0, straightness=0.97, least_rows=6).rows == 0


def test_pile__is_found_in_one_of_joined_runs_with_other_rows(place: Path) -> None:
    def slow(weights: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(weights, lr=1e-4)

    runs = {"piled": record(place / "a", slow, steps=20, reset=False), "reset": record(place / "b", slow, steps=40)}
    joined = optimizer_state(wdyn.join_runs(**runs))
    for label, run in runs.items():
        codes = [one.code for one in optimizer_state.judge(joined.sel(run=label))]
        assert codes == [one.code for one in optimizer_state.judge(optimizer_state(run))]
        assert ("OPT002" in codes) == (label == "piled")


def test_gradient_norm__is_infinite_where_a_gradient_is_not_finite(place: Path) -> None:
    def spoil(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        if step == 2:
            model[3].bias.grad[:] = torch.nan

    norms = optimizer_state(record(place, OPTIMIZERS["SGD"], each=spoil, steps=3))["gradient_norm"]
    assert np.isfinite(norms.values).tolist() == [True, True, False]
    assert np.isinf(norms.values[2])


def test_trainable_without_optimizer__is_a_warning(place: Path) -> None:
    model = network()
    run = record(place / "loose", lambda weights: OPTIMIZERS["Adam"](list(model.parameters())[:-2]), model=model)
    loose = found_in(run)["OPT003"]
    assert loose.severity is Severity.WARNING
    assert "2 trainable parameters: 3.weight, 3.bias" in loose.message
    frozen = network()
    frozen[3].requires_grad_(False)
    held = record(place / "frozen", lambda weights: OPTIMIZERS["Adam"](list(frozen.parameters())[:-2]), model=frozen)
    assert "OPT003" not in found_in(held)


def test_parameters_that_join_later__are_held(place: Path) -> None:
    def join(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        if step == 4:
            optimizer.add_param_group({"params": list(model[3].parameters())})

    model = network()
    run = record(place, lambda weights: OPTIMIZERS["Adam"](list(model.parameters())[:-2]), model=model, each=join)
    assert optimizer_state(run)["of_group"].sel(parameter=["0.weight", "3.bias"]).values.tolist() == [0, 1]
    assert "OPT003" not in found_in(run)


def test_decay_of_norms_and_biases__is_told_once_it_matters(place: Path) -> None:
    def decaying(weights: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(weights, lr=0.1, weight_decay=0.1)

    decayed = found_in(record(place / "all", decaying))["OPT004"]
    assert decayed.severity is Severity.INFO
    assert "4 norms and biases: 0.bias, 1.weight, 1.bias and 1 more; lr times decay adds up to 0.12" in decayed.message
    assert "OPT004" not in found_in(record(place / "few", decaying, steps=2))

    def split(weights: Any) -> torch.optim.Optimizer:
        every = list(weights)
        soft = {"params": [one for one in every if one.ndim < 2], "weight_decay": 0.0}
        return torch.optim.AdamW([{"params": [one for one in every if one.ndim > 1]}, soft], lr=0.1, weight_decay=0.1)

    assert "OPT004" not in found_in(record(place / "split", split))


def test_parameters_that_no_gradient_reaches__are_a_warning(place: Path) -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused, self.zeroed = (nn.Linear(4, 1) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x) + 0 * self.zeroed(x)

    run = record(place, OPTIMIZERS["Adam"], model=Branches())
    found = found_in(run)
    dead = found["OPT005"]
    assert dead.severity is Severity.WARNING
    assert dead.evidence["parameter"].values.tolist() == [
        "unused.weight",
        "unused.bias",
        "zeroed.weight",
        "zeroed.bias",
    ]
    assert "up to step 12" in dead.message
    assert "OPT009" not in found
    assert "OPT005" not in found_in(record(place.with_name("all"), OPTIMIZERS["Adam"]))
    assert "OPT005" not in found_in(record(place.with_name("sgd"), OPTIMIZERS["SGD"], model=Branches()))


def test_elements_that_no_gradient_reaches__are_told(place: Path) -> None:
    class Words(nn.Module):
        def __init__(self, count: int) -> None:
            super().__init__()
            self.table, self.count = nn.Embedding(10, 4), count

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.table(torch.arange(16) % self.count).sum(1, keepdim=True) * x[:, :1]

    part = found_in(record(place / "part", OPTIMIZERS["Adam"], model=Words(4)))["OPT009"]
    assert part.severity is Severity.INFO
    assert "of table.weight 60% of the elements by step 12" in part.message
    assert "OPT009" not in found_in(record(place / "all", OPTIMIZERS["Adam"], model=Words(10)))


def test_moments_that_are_not_finite__are_an_error_at_their_first_step(place: Path) -> None:
    def overflow(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        if step == 4:
            model[0].weight.grad[0, 0] = 1e22  # its square is beyond float32

    broken = found_in(record(place / "broken", OPTIMIZERS["Adam"], each=overflow))["OPT006"]
    assert broken.severity is Severity.ERROR
    assert "first seen at step 5, in 0.weight" in broken.message
    assert "OPT006" not in found_in(record(place / "sound", OPTIMIZERS["Adam"]))


def test_updates_that_are_not_the_rule__are_a_warning(place: Path) -> None:
    lost = found_in(record(place / "lost", OPTIMIZERS["Adam"], model=network().bfloat16(), each=_slower))["OPT007"]
    assert lost.severity is Severity.WARNING
    assert "the rule gives" in lost.message
    assert "OPT007" not in found_in(record(place / "kept", OPTIMIZERS["Adam"], each=_slower))


def _slower(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    optimizer.param_groups[0]["lr"] = 2e-4


def test_eps_that_outweighs_the_second_moment__is_told(place: Path) -> None:
    def wide(weights: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(weights, lr=0.01, eps=1e3)

    swamped = found_in(record(place / "wide", wide))["OPT008"]
    assert swamped.severity is Severity.INFO
    assert "beside eps = 1e+03" in swamped.message
    assert "OPT008" not in found_in(record(place / "usual", OPTIMIZERS["Adam"]))


def test_sound_run__has_no_finding(place: Path) -> None:
    assert found_in(record(place, OPTIMIZERS["momentum"])) == {}


@given(st.floats(0.5, 0.9999), st.floats(1.01, 100))
def test_correction__ends_where_it_is_first_within_the_limit(beta: float, limit: float) -> None:
    end = correction_ends(beta, limit)
    assert correction(np.array(beta), np.array(float(end))) <= limit * (1 + 1e-9)
    if end > 1:
        assert correction(np.array(beta), np.array(end - 1.0)) > limit * (1 - 1e-9)


def test_reproduce__gives_the_evidence_again(place: Path) -> None:
    model = network()
    run = record(place, lambda weights: OPTIMIZERS["Adam"](list(model.parameters())[:-2]), model=model, reset=False)
    for finding in optimizer_state.judge(optimizer_state(run)):
        again = eval(finding.reproduce, {"wdyn": wdyn, "run": run})
        for name in finding.evidence.data_vars:
            shown = again[name] if isinstance(again, xr.Dataset) else again
            if shown.name == name:
                xr.testing.assert_identical(shown, finding.evidence[name])


@pytest.mark.parametrize("limits", [{}, {"pull": 0.2, "misfit": 0.3, "idle": 0.7}])
def test_reproduce__of_many_names_selects_the_very_parameters(place: Path, limits: dict[str, float]) -> None:
    """Where names are too many to list, the line holds the condition, with the limits that were asked for."""
    torch.manual_seed(0)
    shapes = ((6, 3), (6,), (4, 6), (4,), (4,), (4,), (2, 4), (2,))
    weights = {f"w{at}": nn.Parameter(torch.randn(shape)) for at, shape in enumerate(shapes)}
    model = nn.Module()
    for name, weight in weights.items():
        model.register_parameter(name, weight)
    held = list(weights.values())[:-2]
    optimizer = torch.optim.AdamW(held, lr=0.2, weight_decay=0.2, eps=10.0)
    optimizer.register_step_post_hook(lambda *_: [weight.data.mul_(0.7) for weight in held] and None)
    with wdyn.watch(model, optimizer, to=place, every=1, snapshots=None, what=WHAT):
        for _ in range(6):
            optimizer.zero_grad()
            sum(weight.flatten()[0] ** 2 for weight in held).backward()
            optimizer.step()
    run = wdyn.open_run(place)
    found = optimizer_state.judge(optimizer_state(run), **limits)
    conditions = [finding for finding in found if "lambda m" in finding.reproduce]
    assert {"OPT007", "OPT008", "OPT009"} <= {finding.code for finding in conditions}
    for finding in conditions:
        again = eval(finding.reproduce, {"wdyn": wdyn, "run": run, "abs": abs})
        assert set(again["parameter"].values) == set(finding.evidence["parameter"].values), finding.code


def test_norms__of_what_is_not_finite_are_not_told(place: Path) -> None:
    def overflow(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        if step == 4:
            model[0].weight.grad[0, 0] = torch.inf

    result = optimizer_state(record(place, OPTIMIZERS["Adam"], each=overflow)).sel(parameter="0.weight")
    for name in ("gradient", "update", "effective_step"):
        assert np.isnan(result[name].sel(step=5)), name
        assert result[name].sel(step=4) > 0, name
    assert result["gradient_norm"].sel(step=5) == np.inf
