"""Are the numbers right where well-known ways to compute them go wrong?

Each test first computes the number as it is often computed, and shows that it fails on this very case; then it shows
that what was recorded is right. All goes through a recording and back, as a user would have it.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import wdyn
from loops import Tiny, adamw, loss_of


def model_of(**values: torch.Tensor) -> nn.ParameterDict:
    return nn.ParameterDict({name: nn.Parameter(value) for name, value in values.items()})


def recorded(model: nn.Module, place: Path) -> xr.DataTree:
    """Record the weights as they are."""
    with wdyn.watch(model, to=place):
        pass
    return wdyn.open_run(place)


def numbers(model: nn.Module, place: Path, *, histogram: bool = False) -> xr.Dataset:
    """Record the weights as they are, and give their statistics."""
    read = wdyn.statistics(recorded(model, place), **({"histogram": True} if histogram else {}))
    return read.sel(step=0)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


# Spread.


def test_pooled_std__adds_the_spread_between_the_pieces(place: Path) -> None:
    """Trainers with sharded weights: the deviation of each shard's mean subtracted where it must be added."""
    weight = torch.randn(300_000, dtype=torch.float64) * 0.1 + torch.tensor([-1.0, 1.0]).repeat_interleave(150_000)
    pieces = weight.reshape(2, -1)
    between = (pieces.mean(1) - weight.mean()) ** 2
    wrong = (pieces.var(1, correction=0) - between).mean()
    assert wrong < 0
    got = numbers(model_of(w=weight), place)
    np.testing.assert_allclose(got["std"], weight.numpy().std(), rtol=1e-12)


def test_pooled_std__of_the_matrices_of_a_layer_adds_the_spread_between_them(place: Path) -> None:
    """The same mistake one level up: several matrices of one role in one layer."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(nn.ModuleDict({"up_proj": nn.Linear(8, 16, bias=False)}) for _ in range(2))
            for shift, expert in zip((-1, 1), self.experts, strict=True):
                expert["up_proj"].weight.data += shift

    blocks = nn.ModuleDict({"layers": nn.ModuleList(Block() for _ in range(2))})
    weights = np.stack([one["up_proj"].weight.detach().double().numpy() for one in blocks["layers"][1].experts])
    wrong = (weights.var(axis=(1, 2)) - (weights.mean(axis=(1, 2)) - weights.mean()) ** 2).mean()
    assert wrong < 0
    growth = wdyn.depth_growth(recorded(blocks, place))
    np.testing.assert_allclose(growth["std"].sel(step=0, role="mlp_up", layer=1), weights.std(), rtol=1e-12)


def test_std__does_not_collapse_beside_a_large_mean(place: Path) -> None:
    """Loggers that keep sums: E[x^2] - E[x]^2 in float32 cancels to nothing."""
    weight = 1e4 + torch.tensor([-0.25, 0.25]).repeat(1000)
    wrong = (weight**2).mean() - weight.mean() ** 2
    assert not torch.isclose(wrong, torch.tensor(0.0625), rtol=0.5)
    np.testing.assert_allclose(numbers(model_of(w=weight), place)["std"], 0.25, rtol=1e-12)


def test_l2__of_many_float32_loses_no_small_ones(place: Path) -> None:
    """Clipping and norm loggers: a float32 sum of squares no longer grows by what is below its last digit."""
    weight = torch.ones(2_000_000)
    weight[:16] = 4096
    true = np.sqrt(16 * 4096.0**2 + 1_999_984)
    for wrong in (torch.norm(weight), torch._foreach_norm([weight])[0]):
        assert abs(wrong / true - 1) > 1e-3
    np.testing.assert_allclose(numbers(model_of(w=weight), place)["l2"], true, rtol=1e-13)


def test_l2__of_large_float16_does_not_overflow(place: Path) -> None:
    """Norm loggers under mixed precision: squares taken in the dtype of the weight."""
    weight = torch.full((100,), 300.0, dtype=torch.float16)
    assert (weight * weight).sum().isinf()
    np.testing.assert_allclose(numbers(model_of(w=weight), place)["l2"], 3000, rtol=1e-13)


# Counts.


def test_counts__beyond_the_mantissa_are_exact(place: Path) -> None:
    """Histogram loggers: counts kept in the dtype of the weight; beyond 256 bfloat16 misses every other number."""
    weight = torch.full((1001,), 0.5, dtype=torch.bfloat16)
    counter = torch.zeros((), dtype=torch.bfloat16)
    for _ in range(1001):
        counter += 1
    assert counter == 256
    got = numbers(model_of(w=weight), place, histogram=True)
    counts = got["histogram"].sel(parameter="w")
    assert counts.max() == counts.sum() == got["count"] == 1001


def test_counts__hold_the_nan_that_others_drop(place: Path) -> None:
    """Loggers of histograms: NaN and infinities filtered out first, so that a broken weight looks healthy."""
    weight = torch.randn(100)
    weight[[3, 50]], weight[7] = torch.nan, torch.inf
    healthy = weight[weight.isfinite()]
    assert healthy.std().isfinite()  # what is shown, without a word
    got = numbers(model_of(w=weight), place, histogram=True).sel(parameter="w")
    assert [got[name] for name in ("count", "nonfinite", "nans", "infs")] == [100, 3, 2, 1]
    np.testing.assert_allclose(got["std"], healthy.double().numpy().std(), rtol=1e-12)
    assert got["histogram"].sum() == 100
    assert wdyn.quantile(got["histogram"], 0.5)["nans"] == 2
    assert wdyn.quantile(got["histogram"], 1) == np.inf


def test_quantile__is_of_all_elements(place: Path) -> None:
    """Loggers around torch.quantile, which takes 2^24 elements: the rest is cut off. Here the head stands for these."""
    weight = torch.cat([torch.randn(70_000) * 0.02, torch.randn(70_000) * 5])
    true = np.quantile(weight.double(), 0.99)
    assert torch.quantile(weight[:70_000], 0.99) < true / 50
    got = wdyn.quantile(numbers(model_of(w=weight), place, histogram=True)["histogram"], 0.99)
    np.testing.assert_allclose(got, true, rtol=0.25)


# Updates.


def test_update__holds_the_decay_and_the_rate_of_its_own_group(place: Path) -> None:
    """Trackers of update ratios: the first group's rate times the direction of Adam, for all, and no decay."""
    model = model_of(decayed=torch.randn(40), slow=torch.randn(40))
    groups = [{"params": [model["decayed"]], "lr": 1e-2, "weight_decay": 5.0}, {"params": [model["slow"]], "lr": 1e-4}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    before = {name: one.detach().clone().double() for name, one in model.items()}
    with wdyn.watch(model, optimizer, to=place, every=1):
        sum((one**3).sum() for one in model.values()).backward()
        optimizer.step()
    got = wdyn.statistics(wdyn.open_run(place), "updates")["l2"].sel(step=1)
    for name, one in model.items():
        held = optimizer.state[one]
        direction = (held["exp_avg"] / 0.1) / ((held["exp_avg_sq"] / 0.001).sqrt() + 1e-8)
        true = (one.detach().double() - before[name]).norm()
        assert abs(1e-2 * direction.norm() / true - 1) > 0.5
        np.testing.assert_allclose(got.sel(parameter=name), true, rtol=1e-12)


def test_update__far_below_the_weights_is_not_rounded_away(place: Path) -> None:
    """Checkpoint comparers: both cast to float16 before they are subtracted."""
    model = model_of(w=torch.ones(1000))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    before = model["w"].detach().clone()
    with wdyn.watch(model, optimizer, to=place, every=1):
        model["w"].sum().backward()
        optimizer.step()
    after = model["w"].detach()
    assert (after.half() - before.half()).norm() == 0
    true = (after.double() - before.double()).norm()
    got = wdyn.statistics(wdyn.open_run(place), "updates")["l2"].sel(step=1, parameter="w")
    np.testing.assert_allclose(got, true, rtol=1e-12)


# Steps.


def test_steps__are_those_of_the_optimizer(place: Path) -> None:
    """Loggers in forward hooks: micro-batches and evaluation counted as steps."""
    model, forwards = Tiny(), []
    optimizer = adamw(model)
    model.register_forward_hook(lambda *_: forwards.append(1))
    with wdyn.watch(model, optimizer, to=place, every=1):
        for step in range(3):
            for micro in range(4):
                loss_of(model, 4 * step + micro).backward()
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                loss_of(model, 99)
    assert len(forwards) == 15
    run = wdyn.open_run(place)
    assert wdyn.statistics(run)["step"].values.tolist() == [0, 1, 2, 3]
    assert run["scalars/lr"]["step"].values[-1] == 3


# Layers.


class Mixer(nn.Module):
    """A block that has attention or not, its matrix marked by the number of the block."""

    def __init__(self, number: int, *, attends: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.up_proj = nn.Linear(4, 4, bias=False)
        if attends:
            self.q_proj, self.k_proj = (nn.Linear(4, 4, bias=False) for _ in range(2))
            nn.init.constant_(self.q_proj.weight, number)


def stack_of(*attends: bool) -> nn.Module:
    blocks = nn.ModuleList(Mixer(number, attends=one) for number, one in enumerate(attends))
    return nn.ModuleDict({"layers": blocks})


def test_layers__come_in_the_order_of_their_numbers(place: Path) -> None:
    """Tools that sort names: layer 10 comes before layer 2."""
    model = stack_of(*[True] * 12)
    names = sorted(name for name, _ in model.named_parameters() if "q_proj" in name)
    assert names[2] == "layers.10.q_proj.weight"
    q = wdyn.select(recorded(model, place), role="q", step=0)
    assert q["layer"].values.tolist() == list(range(12))
    assert q[:, 0, 0].values.tolist() == list(range(12))
    assert q.sel(layer=2).values.max() == 2


def test_layers__that_lack_a_role_leave_a_gap(place: Path) -> None:
    """Tools that count what they find: in a hybrid model the second attention is taken for that of layer 1."""
    model = stack_of(False, True, False, False, False, True)
    found = [one for name, one in model.named_parameters() if "q_proj" in name]
    assert found[1][0, 0] == 5  # not 1
    run = recorded(model, place)
    q = wdyn.select(run, role="q", step=0)
    assert q["layer"].values.tolist() == [1, 5]
    assert [q.sel(layer=at).values.max() for at in (1, 5)] == [1, 5]
    std = wdyn.statistics(run)["abs_max"].sel(step=0, parameter="layers.5.q_proj.weight")
    assert (std, std["layer"]) == (5, 5)


def test_layers__of_two_runs_are_paired_by_number(place: Path, tmp_path: Path) -> None:
    """Tools that compare runs by position: the first attention of one model with the first of another."""
    one = recorded(stack_of(True, False, True), place)
    other = recorded(stack_of(False, True, True), tmp_path / "other.zarr")
    q = wdyn.select(wdyn.join_runs(one=one, other=other), role="q", step=0)
    assert q["layer"].values.tolist() == [0, 1, 2]
    means = q.mean(["fan_out", "fan_in"]).transpose("run", "layer")
    np.testing.assert_array_equal(means, [[0, np.nan, 2], [np.nan, 1, 2]])


# Adapters.


def test_lora__counts_by_alpha_over_r(place: Path) -> None:
    """Tools that multiply the two factors and stop there: PEFT adds alpha / r times their product."""
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(
        nn.Sequential(nn.Linear(6, 8, bias=False)), peft.LoraConfig(r=2, lora_alpha=64, target_modules=["0"])
    )
    layer = model.base_model.model[0]
    nn.init.normal_(layer.lora_B["default"].weight)
    wrong = (layer.lora_B["default"].weight @ layer.lora_A["default"].weight).norm().item()
    right = layer.get_delta_weight("default").double().norm().item()
    assert right > 30 * wrong
    told = wdyn.adapters(recorded(model, place)).sel(step=0)
    np.testing.assert_allclose(told["change"], [right], rtol=1e-6)
    np.testing.assert_allclose(told["ratio"], [right / layer.base_layer.weight.double().norm().item()], rtol=1e-6)
