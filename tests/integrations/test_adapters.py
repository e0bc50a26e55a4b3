"""Is what PEFT's adapters change told as PEFT changes it?"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import wdyn
from loops import Tiny, loss_of

peft = pytest.importorskip("peft")

STEPS = 2
KINDS = {"lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def adapted(base: nn.Module | None = None, **options: Any) -> Any:
    chosen = {"r": 4, "lora_alpha": 24, "target_modules": ["qkv", "proj"], "init_lora_weights": True} | options
    return peft.get_peft_model(Tiny() if base is None else base, peft.LoraConfig(**chosen))


def train(model: nn.Module, *, lr: float = 0.05) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=lr)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()
    return optimizer


def recorded(model: nn.Module, place: Path) -> xr.DataTree:
    """Train a little, watched by a loop that counts."""
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=0.05)
    with wdyn.watch(model, optimizer, to=place, every=1, snapshots=1):
        for step in range(STEPS):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            optimizer.step()
    return wdyn.open_run(place)


def layers(model: nn.Module) -> dict[str, Any]:
    return {name: one for name, one in model.named_modules() if isinstance(one, peft.tuners.lora.LoraLayer)}


def codes(result: xr.Dataset) -> set[str]:
    return {one.code for one in wdyn.adapters.check(result)}


def by_formula(layer: Any, base: torch.Tensor, kind: str) -> np.ndarray:
    """What is added to a weight, as the papers write it: s B A, and for DoRA m (W + s B A) / |W + s B A| - W."""
    a, b = layer.lora_A["default"].weight.detach().numpy(), layer.lora_B["default"].weight.detach().numpy()
    product = 24 / (np.sqrt(len(a)) if kind == "rslora" else len(a)) * (b @ a)
    if kind != "dora":
        return product
    whole = base.numpy() + product
    magnitude = layer.lora_magnitude_vector["default"].weight.detach().numpy()
    return (magnitude / np.linalg.norm(whole, axis=1))[:, None] * whole - base.numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_change__of_a_weight_stored_the_other_way_round_is_the_same(kind: str, place: Path) -> None:
    transformers = pytest.importorskip("transformers")

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c_fc = transformers.pytorch_utils.Conv1D(6, 4)  # holds (fan_in, fan_out)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c_fc(x)

    model = adapted(Inner(), target_modules=["c_fc"], fan_in_fan_out=True, **KINDS[kind])
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=1.0)
    with wdyn.watch(model, optimizer, to=place, every=1, snapshots=1):
        for _ in range(STEPS):
            optimizer.zero_grad()
            model(torch.randn(5, 4)).square().mean().backward()
            optimizer.step()
    (layer,) = layers(model.double()).values()
    added = np.linalg.norm(by_formula(layer, layer.base_layer.weight.detach().T, kind))
    assert added > 0.01
    np.testing.assert_allclose(wdyn.adapters(wdyn.open_run(place))["change"].sel(step=STEPS), [added], rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_change__is_what_a_merge_adds_to_the_weight(kind: str, place: Path) -> None:
    model = adapted(**KINDS[kind])
    run = recorded(model, place)
    result = wdyn.adapters(run)
    assert result.sizes["adapter"] == 4
    model.double()  # so that what PEFT computes is exact enough to compare with
    for name, layer in layers(model).items():
        one = result.sel(adapter=f"{name}:default")
        before = layer.base_layer.weight.detach().clone()
        layer.merge()
        added = layer.base_layer.weight.detach() - before
        np.testing.assert_allclose(one["change"].sel(step=STEPS), added.norm(), rtol=1e-10)
        np.testing.assert_allclose(one["ratio"].sel(step=STEPS), added.norm() / before.norm(), rtol=1e-10)
        np.testing.assert_allclose(one["scale"], 24 / (2 if kind == "rslora" else 4))
        np.testing.assert_allclose(added, by_formula(layer, before, kind), atol=1e-12)
    assert (result["rank"] == 4).all()
    assert result["layer"].values.tolist() == [0, 0, 1, 1]
    first = result.sel(step=0)
    assert (first["still_zero"] == 1).all()
    np.testing.assert_allclose(first["change"], 0, atol=1e-6)
    assert first["rank_used"].isnull().all()
    assert not codes(result) & {"LOR001", "LOR002", "LOR005"}


@pytest.mark.parametrize("kind", KINDS)
def test_base__is_frozen_and_adapters_are_found(kind: str, place: Path) -> None:
    run = recorded(adapted(**KINDS[kind]), place)
    moved = wdyn.movement(run)
    last = moved.isel(step=-1)
    ours = np.array([wdyn.naming.is_adapter(name) for name in moved["parameter"].values.tolist()])
    assert ours.sum() == (12 if kind == "dora" else 8)
    assert (last["of_cohort"].values[ours] == "adapters").all()
    assert (last["of_cohort"].values[~ours] == "frozen").all()
    assert (last["change"].values[~ours] == 0).all()
    assert moved["layer"].values[ours].tolist() == [0] * (ours.sum() // 2) + [1] * (ours.sum() // 2)


def test_merge_and_unmerge__change_nothing_of_what_is_told(place: Path) -> None:
    model = adapted()
    train(model)
    with wdyn.watch(model, to=place, every=1, snapshots=1) as w:
        for change in (model.merge_adapter, model.unmerge_adapter):
            change()
            w.step()
    result = wdyn.adapters(wdyn.open_run(place))
    for name in ("change", "ratio", "rank_used"):
        assert (result[name] == result[name].sel(step=0)).all()
    assert (result["ratio"] > 0).all()


def test_several_adapters__are_each_told_with_a_scale_of_their_own(place: Path) -> None:
    model = adapted()
    second = {"r": 2, "lora_alpha": 2, "target_modules": ["qkv"], "alpha_pattern": {"1.attn.qkv": 6}}
    model.add_adapter("second", peft.LoraConfig(**second))
    result = wdyn.adapters(recorded(model, place))
    scales = {str(label): float(scale) for label, scale in zip(result["adapter"].values, result["scale"], strict=True)}
    assert {label.partition("blocks.")[2]: scale for label, scale in scales.items()} == {
        "0.attn.qkv:default": 6.0,
        "0.attn.qkv:second": 1.0,
        "0.attn.proj:default": 6.0,
        "1.attn.qkv:default": 6.0,
        "1.attn.qkv:second": 3.0,
        "1.attn.proj:default": 6.0,
    }
    found = [one for one in wdyn.adapters.check(result) if one.code == "LOR001"]
    assert [one.message.count(":second") for one in found] == [2]
    assert ":default" not in found[0].message


def test_embedding__is_an_adapter_like_another(place: Path) -> None:
    base = Tiny()
    base.head = nn.Linear(8, 11, bias=False)
    model = adapted(base, target_modules=["tok"])
    result = wdyn.adapters(recorded(model, place))
    (layer,) = layers(model).values()
    added = layer.get_delta_weight("default").double()
    np.testing.assert_allclose(result["change"].sel(step=STEPS).item(), added.norm().item(), rtol=1e-6)


def test_rank_used__counts_equal_directions(place: Path) -> None:
    model = adapted()
    for layer in layers(model).values():
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        nn.init.zeros_(a)
        nn.init.zeros_(b)
        for at in range(2):  # two of four, of one size
            a.data[at, at] = b.data[at, at] = 3.0
    with wdyn.watch(model, to=place, snapshots=1):
        pass
    result = wdyn.adapters(wdyn.open_run(place))
    np.testing.assert_allclose(result["rank_used"], 2, rtol=1e-9)
    np.testing.assert_allclose(result["change"], 6 * 9 * np.sqrt(2), rtol=1e-9)


class Codes(nn.Module):
    """A weight of 8 bits, as a quantizing library holds it: codes in a buffer, and a scale."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", (linear.weight.detach() * 100).to(torch.int8))
        self.register_buffer("scale", torch.tensor(0.01))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.weight.float() * self.scale).T


class Quantized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base_layer = Codes(nn.Linear(6, 6))
        self.lora_A = nn.ModuleDict({"default": nn.Linear(6, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, 6, bias=False)})
        self.scaling = {"default": 3.0}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + 3.0 * self.lora_B["default"](self.lora_A["default"](x))


def test_quantized_base__is_kept_as_it_is_and_has_no_norm(place: Path) -> None:
    model = nn.Sequential(Quantized())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    with wdyn.watch(model, optimizer, to=place, every=1, snapshots=1):
        model(torch.randn(3, 6)).square().mean().backward()
        optimizer.step()
    run = wdyn.open_run(place)
    kept = wdyn.state_dict(run, step=1)["0.base_layer.weight"]
    assert kept.dtype == torch.int8
    assert torch.equal(kept, model[0].base_layer.weight)
    result = wdyn.adapters(run)
    assert result["ratio"].isnull().all()
    added = 3.0 * model[0].lora_B["default"].weight.double() @ model[0].lora_A["default"].weight.double()
    np.testing.assert_allclose(result["change"].sel(step=1).item(), added.norm().item(), rtol=1e-6)


def test_checks__fire_for_what_was_planted_and_for_nothing_else(place: Path) -> None:
    model = adapted()
    train(model, lr=1e-3)
    model.base_model.model.blocks[0].attn["qkv"].base_layer.weight.requires_grad_(True)
    stuck = model.base_model.model.blocks[1].attn["proj"]
    nn.init.zeros_(stuck.lora_B["default"].weight)
    large = model.base_model.model.blocks[1].attn["qkv"]
    large.lora_A["default"].weight.data[0] *= 1e4
    with wdyn.watch(model, to=place, every=1, snapshots=1) as w:
        w.step()
    run = wdyn.open_run(place)
    found = {one.code: one for one in wdyn.adapters.check(wdyn.adapters(run))}
    assert set(found) == {"LOR001", "LOR002", "LOR003", "LOR004"}
    for code, name in {
        "LOR001": "blocks.1.attn.proj:default",
        "LOR002": "blocks.0.attn.qkv:default",
        "LOR003": "blocks.1.attn.qkv:default",
        "LOR004": "blocks.1.attn.qkv:default",  # one direction of four
    }.items():
        assert found[code].message.endswith(name)
        assert found[code].evidence.sizes["adapter"] == 1
        again = eval(found[code].reproduce, {"wdyn": wdyn, "run": run})
        assert again["adapter"].values.tolist() == found[code].evidence["adapter"].values.tolist()


def test_scale__that_nothing_tells_leaves_the_change_unknown(place: Path) -> None:
    model = adapted()
    train(model)
    for layer in layers(model).values():
        layer.scaling = {}
    with wdyn.watch(model, to=place, snapshots=1):
        pass
    result = wdyn.adapters(wdyn.open_run(place))
    assert result["change"].isnull().all()
    assert result["rank_used"].notnull().all()
    assert codes(result) >= {"LOR005"}


def test_model_without_adapters__is_skipped(place: Path) -> None:
    result = wdyn.adapters(recorded(Tiny(), place))
    assert "no LoRA adapter" in result.attrs["skipped"]


def test_figure__says_which_adapter_changes_most(place: Path) -> None:
    result = wdyn.adapters(recorded(adapted(), place))
    most = result["ratio"].isel(step=-1)
    figure = wdyn.plot(result)
    title = figure.get_suptitle().replace("\n", " ")
    assert "Adapters change weights by" in title
    assert f"{float(most.max()):.2g}" in title
    assert len([line for line in figure.axes[0].lines if len(line.get_xdata())]) == 4


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tie.*embedding.*")
        yield
