"""Is whatever can be compared opened as what it is, with its ties, steps and values?"""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import wdyn
from wdyn.checkpoints.opening import open_saved
from wdyn.checkpoints.sides import side
from wdyn.errors import InvalidArgument, NoMatch, StepNotRecorded
from wdyn.testing import make_run


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(6, 4)
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.brief = nn.Parameter(torch.randn(3, 2).bfloat16())
        self.none = nn.Parameter(torch.empty(0, 3))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.tok.weight


@pytest.fixture
def recorded(tmp_path):
    """A run of two steps, and the states at each."""
    model, kept = Tied(), {}
    with wdyn.watch(model, to=tmp_path / "run.zarr", every=1, snapshots=1) as w:
        kept[0] = {name: value.clone() for name, value in model.state_dict().items()}
        for step in (1, 2):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(1)
            w.step()
            kept[step] = {name: value.clone() for name, value in model.state_dict().items()}
    return tmp_path / "run.zarr", kept


def same(found, state):
    assert sorted(found.held) == sorted(state)
    for name, value in state.items():
        read = found.read(name)
        assert read.dtype == value.dtype
        assert read.shape == value.shape == found.tensors[name].shape
        assert torch.equal(read, value)


def test_side__reads_a_run_at_each_step_bit_for_bit(recorded):
    path, kept = recorded
    for step, state in kept.items():
        same(side(f"{path}@{step}"), state)
        same(side((wdyn.open_run(path), step)), state)
    same(side(path), kept[2])
    assert side(path).called == f"{path}@2"


def test_side__knows_the_ties_of_each_kind(recorded, tmp_path):
    torch.save(Tied().state_dict(), tmp_path / "m.pt")
    for given in (recorded[0], Tied(), Tied().state_dict(), tmp_path / "m.pt", open_saved(tmp_path / "m.pt")):
        found = side(given)
        assert found.leaders["head.weight"] == "tok.weight", given
        assert found.leaders["blocks.0.weight"] == "blocks.0.weight"


def test_side__strips_what_wrappers_add():
    assert list(side(nn.DataParallel(nn.Linear(2, 2))).held) == ["weight", "bias"]


def test_side__knows_groups_and_layers_of_a_run(tmp_path):
    model = Tied()
    groups = [{"params": model.blocks.parameters(), "lr": 0.1}, {"params": model.tok.parameters()}]
    with wdyn.watch(model, torch.optim.SGD(groups, lr=0.2), to=tmp_path / "r", every=1, snapshots=1):
        pass
    found = side(tmp_path / "r")
    assert (found.groups["blocks.1.weight"], found.groups["tok.weight"], found.groups["brief"]) == (0, 1, -1)
    assert found.addresses["blocks.1.weight"].layer == 1


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (3, "Cannot compare a int"),
        ({}, "No tensors are in a state dict"),
        ({"x": 3}, "No tensors are in a state dict"),
        ({"x": torch.empty(2, device="meta")}, "x of a state dict has no values"),
        ("nowhere/at.pt", "Nothing is at nowhere/at.pt"),
        ("nowhere/at.pt@3", "nothing is there"),
    ],
)
def test_side__refuses_what_it_cannot_compare(given, match):
    with pytest.raises(InvalidArgument, match=match):
        side(given)


def test_side__names_what_stands_behind_the_at(recorded, tmp_path):
    path, _ = recorded
    with pytest.raises(StepNotRecorded, match="No snapshot at step 7; the nearest are at 0, 1, 2"):
        side(f"{path}@7")
    with pytest.raises(InvalidArgument, match=r"'last' is no step of it; write .*@500"):
        side(f"{path}@last")
    save_file({"x": torch.ones(2)}, tmp_path / "m.safetensors")
    with pytest.raises(InvalidArgument, match="a step of a run or a revision on the hub"):
        side(f"{tmp_path}/m.safetensors@3")


def test_side__takes_a_path_with_an_at(tmp_path):
    save_file({"x": torch.ones(2)}, tmp_path / "m@3.safetensors")
    assert side(tmp_path / "m@3.safetensors").read("x").tolist() == [1, 1]


def test_side__refuses_a_run_without_snapshots(tmp_path):
    with wdyn.watch(nn.Linear(2, 2), to=tmp_path / "r", snapshots=None) as w:
        w.step()
    with pytest.raises(NoMatch, match="has no snapshots"):
        side(tmp_path / "r")
    with pytest.raises(InvalidArgument, match="several runs, joined"):
        run = make_run()
        side(wdyn.join_runs(a=run, b=run))


def test_side__chooses_a_model_by_its_key(tmp_path):
    states = {"model": {"w": torch.zeros(2)}, "ema": {"w": torch.ones(2)}}
    torch.save(states, tmp_path / "two.pt")
    assert side(tmp_path / "two.pt", key="ema").read("w").tolist() == [1, 1]
