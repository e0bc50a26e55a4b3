"""Is what is known of the step that led to the first row of a continued run still told there, where it still holds?"""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import wdyn
from wdyn.errors import InvalidArgument, WdynWarning

OF_THE_STEP = ("statistics/updates", "histograms/gradients", "parts/statistics/updates", "relations")


class Model(nn.Module):
    """A fused weight, so that there are parts, and a layer that can go."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.extra = nn.Linear(4, 12), nn.Linear(4, 4)

    def forward(self, x):
        return self.qkv(self.extra(x)).square().mean()


def train(model, optimizer, w, steps, *, first):
    for step in range(first, first + steps):
        optimizer.zero_grad()
        model(torch.ones(2, 4) * step).backward()
        optimizer.step()
        w.log(loss=step, **{"a/b": step})


def adam(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-2)


def at(run, group, step=3):
    row = run[group].to_dataset().sel(step=step).load()
    return row.drop_vars("attempt")


@pytest.fixture
def begun(place: Path):
    """A model, its optimizer, and its run of three steps as it was opened then."""
    model = Model()
    optimizer = adam(model)
    with wdyn.watch(model, optimizer, to=place, every=1, what="all") as w:
        train(model, optimizer, w, 3, first=1)
    return model, optimizer, wdyn.open_run(place).load()


def test_seam__keeps_what_the_step_did_and_used(begun, place):
    model, optimizer, before = begun
    with wdyn.watch(model, optimizer, to=place, every=1, what="all", resume=True) as w:
        train(model, optimizer, w, 2, first=4)
    run = wdyn.open_run(place)
    for group in OF_THE_STEP:
        xr.testing.assert_equal(at(run, group), at(before, group))
        assert run[group]["attempt"].sel(step=3) == 1
    assert float(at(run, "scalars")["lr"].item()) == 1e-2
    assert run["scalars/loss"].values.tolist()[1:] == [1, 2, 3, 4, 5]
    assert run["scalars/a_b"].values.tolist()[1:] == [1, 2, 3, 4, 5] if "a_b" in run["scalars"] else True
    norms = wdyn.statistics(run, "updates")["l2"].isel(step=slice(1, None)).cumsum("step")
    np.testing.assert_array_equal(wdyn.relations(run)["path_length"].isel(step=slice(1, None)), norms)


def test_seam__a_second_time_and_in_the_middle(begun, place):
    model, optimizer, _ = begun
    kept = copy.deepcopy(model.state_dict())
    with wdyn.watch(model, optimizer, to=place, every=1, what="all", resume=True) as w:
        train(model, optimizer, w, 4, first=4)
    for _ in range(2):
        model.load_state_dict(kept)
        with wdyn.watch(model, optimizer, to=place, every=1, what="all", resume=3) as w:
            train(model, optimizer, w, 2, first=4)
    run = wdyn.open_run(place)
    assert run["states"]["step"].values.tolist() == list(range(6))
    assert run["states"]["attempt"].values.tolist() == [0, 0, 0, 3, 3, 3]
    assert [one["parent"] for one in run.attrs["wdyn"]["attempts"]] == [-1, 0, 1, 2]
    assert np.isfinite(wdyn.relations(run)["path_length"]).all()


def test_seam__of_other_weights_tells_nothing_of_their_step(begun, place):
    model, optimizer, _ = begun
    with torch.no_grad():
        model.extra.weight += 1
    with (
        pytest.warns(WdynWarning, match=r"not those that the run has at step 3: 1 differ, such as extra\.weight"),
        wdyn.watch(model, optimizer, to=place, every=1, what="all", resume=True) as w,
    ):
        train(model, optimizer, w, 1, first=4)
    run = wdyn.open_run(place)
    norms = at(run, "statistics/updates")["l2"]
    assert np.isnan(norms.sel(parameter="extra.weight"))
    assert norms.sel(parameter="qkv.weight") > 0
    assert np.isnan(at(run, "scalars")["lr"]).all()
    counts = at(run, "histograms/updates")["count"]
    assert np.isnan(counts.sel(parameter="extra.weight")).all()
    assert counts.sel(parameter="qkv.weight").sum() == 48


def test_seam__what_an_attempt_does_not_record_stays_as_it_was(begun, place):
    model, optimizer, before = begun
    with wdyn.watch(model, optimizer, to=place, every=1, what="weights", snapshots=None, resume=True) as w:
        train(model, optimizer, w, 1, first=4)
    run = wdyn.open_run(place)
    assert run["statistics/updates"]["step"].values.tolist() == [0, 1, 2, 3]
    xr.testing.assert_equal(at(run, "statistics/updates"), at(before, "statistics/updates"))
    assert torch.equal(wdyn.state_dict(run, step=3)["qkv.bias"], wdyn.state_dict(before, step=3)["qkv.bias"])


# Another set of parameters.


def test_continued__with_a_new_head_its_rows_begin_there(begun, place):
    model, optimizer, before = begun
    model.head = nn.Linear(4, 2)
    optimizer.add_param_group({"params": model.head.parameters(), "lr": 0.5})
    with (
        pytest.warns(WdynWarning, match=r"had not before step 3: head\.weight, head\.bias"),
        wdyn.watch(model, optimizer, to=place, every=1, what="all", resume=True) as w,
    ):
        train(model, optimizer, w, 1, first=4)
    run = wdyn.open_run(place)
    std = wdyn.statistics(run)["std"].sel(parameter="head.weight")
    assert np.isfinite(std.values).tolist() == [False, False, False, True, True]
    norms = at(run, "statistics/updates")["l2"]
    xr.testing.assert_equal(
        norms.drop_sel(parameter=["head.weight", "head.bias"]), at(before, "statistics/updates")["l2"]
    )
    assert np.isnan(norms.sel(parameter="head.weight"))
    np.testing.assert_array_equal(at(run, "scalars")["lr"].values, [1e-2, np.nan])
    assert "head.weight" not in wdyn.state_dict(run, step=2)
    assert "head.weight" not in wdyn.state_dict(wdyn.open_run(place, attempt=0), step=3)


def test_continued__without_a_layer_it_is_told_and_its_rows_end_there(begun, place):
    model, _, before = begun
    del model.extra
    model.forward = lambda x: model.qkv(x).square().mean()
    optimizer = adam(model)
    with (
        pytest.warns(WdynWarning, match=r"lacks 2 of the parameters of the run: extra\.weight, extra\.bias"),
        wdyn.watch(model, optimizer, to=place, every=1, what="all", resume=True) as w,
    ):
        train(model, optimizer, w, 1, first=4)
    run, first = wdyn.open_run(place), wdyn.open_run(place, attempt=0)
    assert np.isnan(wdyn.statistics(run)["std"].sel(parameter="extra.weight", step=[3, 4])).all()
    assert "extra.weight" in wdyn.state_dict(run, step=2)
    assert "extra.weight" not in wdyn.state_dict(run, step=4)
    xr.testing.assert_equal(at(first, "statistics/updates"), at(before, "statistics/updates"))


def test_continued__with_another_shape_both_are_kept(begun, place):
    model, _, before = begun
    model.extra.weight = nn.Parameter(torch.ones(4, 3))
    model.forward = lambda x: model.qkv(x).square().mean() + model.extra.weight.square().sum()
    optimizer = adam(model)
    with (
        pytest.warns(WdynWarning, match=r"1 parameters have another shape than in the run before: extra\.weight"),
        wdyn.watch(model, optimizer, to=place, every=1, resume=True) as w,
    ):
        train(model, optimizer, w, 1, first=4)
    run, first = wdyn.open_run(place), wdyn.open_run(place, attempt=0)
    assert wdyn.state_dict(run, step=4)["extra.weight"].shape == (4, 3)
    assert wdyn.state_dict(run, step=3)["extra.weight"].shape == (4, 3)
    assert torch.equal(wdyn.state_dict(first, step=3)["extra.weight"], wdyn.state_dict(before, step=3)["extra.weight"])
    assert np.isnan(at(run, "statistics/updates")["l2"].sel(parameter="extra.weight"))


def test_continued__with_mostly_other_parameters_is_refused(begun, place):
    with pytest.raises(InvalidArgument, match=r"of its 4 parameters the model has 0 with the same name and shape"):
        wdyn.watch(nn.Linear(2, 2), to=place, resume=True).__enter__()


@pytest.mark.parametrize("resume", [None, 1.5, "yes", -1])
def test_resume__that_is_no_step_is_refused(resume, place):
    with pytest.raises(InvalidArgument, match="needed is True, False, or a step, 0 or more"):
        wdyn.watch(nn.Linear(2, 2), to=place, resume=resume)


@pytest.mark.parametrize("state", [{"step": True}, {"step": -3}, {"step": "3"}, {}, None])
def test_load_state_dict__refuses_what_is_no_state(state, place):
    with pytest.raises(InvalidArgument, match=r"needed is what Watch\.state_dict\(\) gave"):
        wdyn.watch(nn.Linear(2, 2), to=place).load_state_dict(state)
