"""How does each update stand to the weights, to the update before, and to the optimizer's rule: are the rows right?

The reference is a copy of all weights taken outside before and after each step, compared in float64.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import wdyn
from loops import Tiny, adamw, loss_of
from wdyn.errors import WdynWarning
from wdyn.schema import RELATION_NAMES

pytestmark = pytest.mark.filterwarnings("ignore:what='(displacement|update_cosine)' keeps")

History = dict[int, dict[str, np.ndarray]]
ALL = ("updates", "update_cosine", "predicted_update")


@pytest.fixture
def model() -> Tiny:
    torch.manual_seed(0)
    return Tiny()


def followed(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> History:
    """Train, and give the weights at each step."""
    held = {0: copies(model)}
    for step in range(1, steps + 1):
        model.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()
        held[step] = copies(model)
    return held


def copies(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: one.detach().double().numpy().copy() for name, one in model.named_parameters()}


def norm(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).sum()))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.float64((one * other).sum()) / (norm(one) * norm(other)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_relations__to_the_weights_are_the_true_ones(dtype: torch.dtype, place: Path) -> None:
    torch.manual_seed(0)
    model = Tiny().to(dtype)
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=1):
        held = followed(model, optimizer, 3)
    row = wdyn.open_run(place)["relations"].to_dataset()
    assert set(row.data_vars) == {"update_ratio", "weight_cosine"}
    assert np.isnan(row["update_ratio"].sel(step=0)).all()
    for step in (1, 2, 3):
        for name, after in held[step].items():
            before = held[step - 1][name]
            got = row.sel(step=step, parameter=name)
            with np.errstate(divide="ignore", invalid="ignore"):
                np.testing.assert_allclose(
                    got["update_ratio"], np.float64(norm(after - before)) / norm(before), rtol=1e-10
                )
            np.testing.assert_allclose(got["weight_cosine"], cosine(after - before, before), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("every", [1, 2])
def test_relations__to_the_update_before_say_how_far_it_lies_back(every: int, model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=every, what=("updates", "update_cosine")):
        held = followed(model, optimizer, 4)
    row = wdyn.open_run(place)["relations"].to_dataset()
    assert np.isnan(row["update_cosine"].sel(step=every)).all()
    for step in range(2 * every, 5, every):
        assert (row["update_gap"].sel(step=step) == every).all()
        for name in held[step]:
            now, last = (held[at][name] - held[at - 1][name] for at in (step, step - every))
            got = row["update_cosine"].sel(step=step, parameter=name)
            np.testing.assert_allclose(got, cosine(now, last), atol=1e-6)  # the last one is kept in float32


def test_relations__to_the_rule_are_1_where_the_weights_have_room(model: Tiny, place: Path) -> None:
    model.double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)
    with wdyn.watch(model, optimizer, to=place, every=1, what=ALL):
        followed(model, optimizer, 3)
    row = wdyn.open_run(place)["relations"].to_dataset().sel(step=[1, 2, 3])
    np.testing.assert_allclose(row["predicted_ratio"], 1, rtol=1e-9)
    np.testing.assert_allclose(row["predicted_cosine"], 1, rtol=1e-9)


def test_relations__to_the_rule_show_what_bfloat16_loses(place: Path) -> None:
    model = nn.Linear(64, 64).bfloat16()
    nn.init.ones_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)  # far below the spacing of bfloat16 at 1
    with wdyn.watch(model, optimizer, to=place, every=1, what=ALL):
        model.weight.grad = torch.ones_like(model.weight)
        optimizer.step()
    row = wdyn.open_run(place)["relations"].to_dataset().sel(step=1, parameter="weight")
    assert row["update_ratio"] == 0
    assert np.isinf(row["predicted_ratio"])
    assert np.isnan(row["predicted_cosine"])


def test_relations__to_an_unknown_rule_are_missing_and_told(model: Tiny, place: Path) -> None:
    optimizer = torch.optim.NAdam(model.parameters())
    with (
        pytest.warns(WdynWarning, match=r"What NAdam should do .* is not predicted: known are .* AdamW"),
        wdyn.watch(model, optimizer, to=place, every=1, what=ALL),
    ):
        followed(model, optimizer, 1)
    row = wdyn.open_run(place)["relations"].to_dataset().sel(step=1)
    assert np.isnan(row["predicted_ratio"]).all()
    assert (row["update_ratio"] > 0).all()


def test_relations__of_a_weight_with_nan_are_nan(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=1, what=ALL):
        for one in model.parameters():
            one.grad = torch.ones_like(one)
        model.tok.weight.grad[0, 0] = torch.nan
        optimizer.step()
    row = wdyn.open_run(place)["relations"].to_dataset().sel(step=1)
    for name in ("update_ratio", "weight_cosine", "predicted_ratio", "predicted_cosine"):
        assert np.isnan(row[name].sel(parameter="tok.weight")), name
        assert np.isfinite(row["update_ratio"].sel(parameter="blocks.0.ln.weight"))


def test_relations__of_a_step_with_several_optimizers_hold_for_each(model: Tiny, place: Path) -> None:
    """The gradients of the first are gone, and others in their place, when the last one steps."""
    model.double()
    first = torch.optim.SGD(model.blocks.parameters(), lr=0.1)
    second = torch.optim.Adam(model.tok.parameters())
    with wdyn.watch(model, [first, second], to=place, every=1, what=ALL):
        for one in model.parameters():
            one.grad = torch.randn_like(one)
        first.step()
        for one in model.parameters():
            one.grad = torch.randn_like(one)
        second.step()
    row = wdyn.open_run(place)["relations"].to_dataset().sel(step=1)
    np.testing.assert_allclose(row["predicted_cosine"], 1, rtol=1e-9)


def test_relations__are_none_without_updates(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place, what="weights"):
        pass
    assert "relations" not in wdyn.open_run(place).children


def test_relations__asked_for_alone_bring_the_updates_that_they_compare(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=1, what=("update_cosine", "predicted_update")):
        followed(model, optimizer, 1)
    run = wdyn.open_run(place)
    assert set(run["relations"].to_dataset().data_vars) == set(RELATION_NAMES)
    assert (run["statistics/updates"]["l2"].sel(step=1) > 0).all()
