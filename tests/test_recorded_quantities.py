"""Do the rows of every quantity, of its parts and of its histograms say what the tensors held?

The reference is a copy of the tensors taken outside, sliced and counted by numpy in float64.
"""

import copy
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import wdyn
from loops import Tiny, adamw, loss_of, steps_of, train
from wdyn import bins
from wdyn.errors import WdynWarning

pytestmark = pytest.mark.filterwarnings("ignore:what='(displacement|update_cosine)' keeps")


@pytest.fixture
def model() -> Tiny:
    torch.manual_seed(0)
    return Tiny()


def step_of(model: nn.Module, optimizers: Iterable[torch.optim.Optimizer], number: int) -> None:
    model.zero_grad()
    loss_of(model, number).backward()
    for one in optimizers:
        one.step()


def held(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy().copy()


def assert_numbers(
    run: xr.DataTree, quantity: str, of: dict[str, object], values: np.ndarray, *, prefix: str = ""
) -> None:
    """Compare a column of statistics and of the histogram with numpy's."""
    row = run[f"{prefix}statistics/{quantity}"].to_dataset().sel(of)
    np.testing.assert_allclose(row["mean"], values.mean(), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(row["std"], values.std(), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(row["l2"], np.sqrt((values**2).sum()), rtol=1e-10)
    assert (row["count"], row["min"], row["max"]) == (values.size, values.min(), values.max())
    counts = run[f"{prefix}histograms/{quantity}"].to_dataset()["count"].sel(of)
    np.testing.assert_array_equal(counts, np.bincount(bins.bin_of(values.ravel()), minlength=bins.COUNT))


# Histograms.


def test_histograms__count_every_value_of_every_quantity(model: Tiny, place: Path) -> None:
    optimizer, seen = adamw(model), {}
    with wdyn.watch(model, optimizer, to=place, every=1):
        for step in (1, 2):
            before = {name: held(one) for name, one in model.named_parameters()}
            step_of(model, [optimizer], step)
            for name, one in model.named_parameters():
                seen[step, name] = (held(one), held(one) - before[name], held(one.grad))
    run = wdyn.open_run(place)
    for (step, name), values in seen.items():
        for quantity, expected in zip(("weights", "updates", "gradients"), values, strict=True):
            assert_numbers(run, quantity, {"step": step, "parameter": name}, expected)


def test_histograms__show_both_names_of_a_tied_weight(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place):
        pass
    counts = wdyn.open_run(place)["histograms/weights"].to_dataset()["count"].sel(step=0)
    np.testing.assert_array_equal(counts.sel(parameter="head.weight"), counts.sel(parameter="tok.weight"))
    assert counts.sel(parameter="tok.weight").sum() == model.tok.weight.numel()


def test_histograms__of_what_was_not_recorded_are_missing(model: Tiny, place: Path) -> None:
    model.blocks[0].ln.weight.requires_grad_(False)
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=1):
        step_of(model, [optimizer], 1)
    counts = wdyn.open_run(place)["histograms/gradients"].to_dataset()["count"]
    assert np.isnan(counts.sel(step=0)).all()
    missing = np.isnan(counts.sel(step=1)).all("bin")
    assert missing["parameter"].values[missing.values].tolist() == ["blocks.0.ln.weight"]


# Parts.


def test_parts__equal_the_slices_of_every_quantity(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=1, what=("weights", "gradients", "moments")):
        step_of(model, [optimizer], 1)
    run = wdyn.open_run(place)
    weight = model.blocks[1].attn["qkv"].weight
    for at, name in enumerate("qkv"):
        column = {"step": 1, "part": f"blocks.1.attn.qkv.weight[{name}]"}
        rows = slice(8 * at, 8 * at + 8)
        assert_numbers(run, "weights", column, held(weight)[rows], prefix="parts/")
        assert_numbers(run, "gradients", column, held(weight.grad)[rows], prefix="parts/")
        assert_numbers(run, "exp_avg", column, held(optimizer.state[weight]["exp_avg"])[rows], prefix="parts/")
    assert_numbers(run, "weights", {"step": 1, "parameter": "blocks.1.attn.qkv.weight"}, held(weight))


def test_parts__are_listed_with_what_they_are(model: Tiny, place: Path) -> None:
    for block in model.blocks:
        block.attn.num_heads = 2
    with wdyn.watch(model, to=place, heads=True):
        pass
    table = wdyn.open_run(place)["parts"].to_dataset()
    row = table.sel(part="blocks.0.attn.qkv.weight[k head 1]")
    assert (row["parameter"], row["name"], row["role"]) == ("blocks.0.attn.qkv.weight", "k head 1", "k")
    assert (row["expert"], row["head"]) == (-1, 1)
    whole = table.sel(part="blocks.0.attn.qkv.weight[k]")
    assert (whole["head"], whole["role"]) == (-1, "k")
    assert "blocks.1.attn.proj.weight[o head 0]" in table["part"]


def test_parts__of_a_model_without_fused_weights_are_none(place: Path) -> None:
    with wdyn.watch(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)), to=place):
        pass
    assert "parts" not in wdyn.open_run(place).children


def test_parts__of_a_layer_that_comes_later_are_appended(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place, every=1) as w:
        w.step()
        model.blocks.append(copy.deepcopy(model.blocks[0]))
        with pytest.warns(WdynWarning, match="has parameters that it had not before"):
            w.step()
    run = wdyn.open_run(place)
    labels = run["parts"]["part"].values.tolist()
    assert [label for label in labels if label.startswith("blocks.2")] == labels[-6:]
    std = run["parts/statistics/weights"].to_dataset()["std"]
    assert np.isnan(std.sel(part="blocks.2.attn.qkv.weight[q]", step=1))
    assert std.sel(part="blocks.2.attn.qkv.weight[q]", step=2) == std.sel(part="blocks.0.attn.qkv.weight[q]", step=2)


def test_parts__stay_where_they_were_when_a_run_is_continued(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place, select="blocks.1.*"):
        pass
    first = wdyn.open_run(place)["parts"]["part"].values.tolist()
    with pytest.warns(WdynWarning), wdyn.watch(model, to=place, resume=True, every=1) as w:
        w.step()
    run = wdyn.open_run(place)
    assert run["parts"]["part"].values.tolist()[: len(first)] == first
    assert len(run["parts"]["part"]) == 2 * len(first)
    weight = held(model.blocks[1].attn["qkv"].weight)
    assert_numbers(run, "weights", {"step": 1, "part": "blocks.1.attn.qkv.weight[q]"}, weight[:8], prefix="parts/")


def test_parts__of_experts_held_as_one_tensor(place: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GptOssConfig(
        vocab_size=16, hidden_size=8, intermediate_size=6, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4, num_local_experts=3, max_position_embeddings=16,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.GptOssForCausalLM(config)
    experts = model.model.layers[0].mlp.experts.gate_up_proj
    with torch.no_grad():
        experts.normal_()
    with wdyn.watch(model, to=place):
        pass
    run = wdyn.open_run(place)
    slices = {"expert 1": held(experts)[1], "mlp_gate": held(experts)[..., ::2], "mlp_up": held(experts)[..., 1::2]}
    for part, values in slices.items():
        label = f"model.layers.0.mlp.experts.gate_up_proj[{part}]"
        assert_numbers(run, "weights", {"step": 0, "part": label}, values, prefix="parts/")
    assert run["parts"].to_dataset()["expert"].sel(part="model.layers.0.mlp.experts.gate_up_proj[expert 2]") == 2


# Moments.

MAKERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], set[str]]] = {
    "adamw": (lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True), {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}),
    "sgd": (lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9), {"momentum_buffer"}),
    "rmsprop": (lambda p: torch.optim.RMSprop(p, centered=True), {"square_avg", "grad_avg"}),
    "plain sgd": (lambda p: torch.optim.SGD(p, lr=1e-2), set()),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_moments__are_those_that_the_optimizer_holds(kind: str, model: Tiny, place: Path) -> None:
    make, keys = MAKERS[kind]
    optimizer = make(model.parameters())
    seen = {}
    with wdyn.watch(model, optimizer, to=place, every=1, what=("weights", "moments")):
        for step in (1, 2):
            step_of(model, [optimizer], step)
            for name, one in model.named_parameters():
                seen |= {(step, name, key): held(optimizer.state[one][key]) for key in keys}
    run = wdyn.open_run(place)
    assert set(run["statistics"].children) == {"weights", *keys}
    assert all(steps_of(run, f"statistics/{key}") == [1, 2] for key in keys)  # the first step makes the state
    for (step, name, key), values in seen.items():
        assert_numbers(run, key, {"step": step, "parameter": name}, values)


def test_moments__of_several_optimizers_stand_side_by_side(model: Tiny, place: Path) -> None:
    first = torch.optim.SGD(model.blocks.parameters(), lr=0.1, momentum=0.9)
    second = torch.optim.Adam(model.tok.parameters())
    with wdyn.watch(model, [first, second], to=place, every=1, what=("weights", "moments")):
        step_of(model, [first, second], 1)
    run = wdyn.open_run(place)
    buffer = first.state[model.blocks[0].ln.weight]["momentum_buffer"]
    assert_numbers(run, "momentum_buffer", {"step": 1, "parameter": "blocks.0.ln.weight"}, held(buffer))
    assert_numbers(
        run, "exp_avg", {"step": 1, "parameter": "tok.weight"}, held(second.state[model.tok.weight]["exp_avg"])
    )
    std = run["statistics/exp_avg"].to_dataset()["std"]
    assert np.isnan(std.sel(parameter="blocks.0.ln.weight", step=1))


def test_moments__hostile_keys_come_back_and_stay_inside_the_run(model: Tiny, tmp_path: Path) -> None:
    place, optimizer = tmp_path / "deep" / "run.zarr", torch.optim.SGD(model.parameters(), lr=0.1)
    keys = ("../../evil", "a/b", "weights", "K", 7)
    for one in model.parameters():
        optimizer.state[one] |= {key: torch.full_like(one, number) for number, key in enumerate(keys)}
    with wdyn.watch(model, optimizer, to=place, every=1, what=("weights", "moments")):
        step_of(model, [optimizer], 1)
    run = wdyn.open_run(place)
    found = {
        node.attrs["wdyn"]["quantity"]: float(node["mean"].sel(step=1, parameter="tok.weight"))
        for node in run["statistics"].children.values()
        if "wdyn" in node.attrs
    }
    assert found == {str(key): number for number, key in enumerate(keys)}
    assert run["statistics/weights"]["std"].sel(step=1, parameter="tok.weight") > 0
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


def test_moments__looking_makes_no_state(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=1, what="all"):
        assert len(optimizer.state) == 0
        step_of(model, [optimizer], 1)


# Displacement.


def test_displacement__is_from_the_first_row(model: Tiny, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wdyn.capture.copies.WORTH_TELLING", 1)
    optimizer, first = adamw(model), {name: held(one) for name, one in model.named_parameters()}
    seen = {}
    with (
        pytest.warns(WdynWarning, match=r"displacement' keeps the first weights .*: 0 MB"),
        wdyn.watch(model, optimizer, to=place, every=2, what="displacement"),
    ):
        train(model, optimizer, 4, each=lambda step: seen.update({step: copy.deepcopy(model.state_dict())}))
    run = wdyn.open_run(place)
    assert (run["statistics/displacement"]["l2"].sel(step=0) == 0).all()
    for step in (2, 4):
        for name, start in first.items():
            assert_numbers(run, "displacement", {"step": step, "parameter": name}, held(seen[step][name]) - start)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_displacement__of_a_continued_run_is_from_its_very_first_row(dtype: torch.dtype, place: Path) -> None:
    torch.manual_seed(0)
    model = Tiny().to(dtype)
    optimizer, first = adamw(model), {name: held(one) for name, one in model.named_parameters()}
    for resume in (False, True):
        with wdyn.watch(model, optimizer, to=place, every=1, what="displacement", resume=resume):
            train(model, optimizer, 2)
    run = wdyn.open_run(place)
    for name, one in model.named_parameters():
        assert_numbers(run, "displacement", {"step": 4, "parameter": name}, held(one) - first[name])


def test_displacement__without_a_first_snapshot_is_told_and_not_recorded(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place, snapshots=None):
        pass
    with (
        pytest.warns(WdynWarning, match=r"displacement of tok\.weight, .* kept no snapshot of its first row"),
        wdyn.watch(model, to=place, what="displacement", resume=True, every=1) as w,
    ):
        w.step()
    assert np.isnan(wdyn.open_run(place)["statistics/displacement"]["l2"]).all()


# What none of this may do.


@pytest.mark.parametrize("broken", ["measured", "moments"])
def test_quantities__an_error_inside_ends_recording_and_not_training(
    broken: str, model: Tiny, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer, plain = adamw(model), copy.deepcopy(model)
    torch.manual_seed(5)
    with (
        pytest.warns(WdynWarning, match="stopped recording after step [12].*division by zero"),
        wdyn.watch(model, optimizer, to=place, every=1, what="all"),
    ):
        train(model, optimizer, 1)
        monkeypatch.setattr(f"wdyn.capture.quantities.{broken}", lambda *_, **__: 1 / 0)
        train(model, optimizer, 2)
    torch.manual_seed(5)
    again = adamw(plain)
    train(plain, again, 1)
    train(plain, again, 2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_quantities__training_with_all_of_them_is_the_same_bit_for_bit(dtype: torch.dtype, place: Path) -> None:
    ends = []
    for recorded in (True, False):
        torch.manual_seed(3)
        model = Tiny().to(dtype)
        first = torch.optim.SGD(model.blocks.parameters(), lr=0.1, momentum=0.9, nesterov=True)
        second = torch.optim.AdamW(model.tok.parameters(), amsgrad=True)
        block = wdyn.watch(model, [first, second], to=place / str(recorded), every=1, what="all", heads=True)
        with warnings.catch_warnings(), block if recorded else warnings.catch_warnings():
            for step in range(1, 5):
                step_of(model, [first, second], step)
        ends.append((model, first.state_dict()["state"], second.state_dict()["state"]))
    (one, *states), (other, *plain) = ends
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    for with_rows, without in zip(states, plain, strict=True):
        assert with_rows.keys() == without.keys()
        for number, state in without.items():
            assert all(torch.equal(with_rows[number][key], value) for key, value in state.items())


def test_parts__of_a_fused_weight_with_two_names_are_shown_under_both(model: Tiny, place: Path) -> None:
    model.blocks[1].attn["qkv"] = model.blocks[0].attn["qkv"]
    with wdyn.watch(model, to=place):
        pass
    run = wdyn.open_run(place)
    for layer in (0, 1):
        column = {"step": 0, "part": f"blocks.{layer}.attn.qkv.weight[v]"}
        assert_numbers(run, "weights", column, held(model.blocks[0].attn["qkv"].weight)[16:], prefix="parts/")
