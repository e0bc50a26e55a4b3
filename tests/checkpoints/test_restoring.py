"""Do weights come back into torch bit for bit, ties and buffers included?"""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import wdyn
from wdyn import join_runs, load_into, state_dict
from wdyn.errors import InvalidArgument, NoMatch, StepNotRecorded
from wdyn.testing import make_run


class Small(nn.Module):
    """Ties, buffers of both sorts, blocks, several dtypes, odd shapes."""

    def __init__(self, *, tied=True, width=4):
        super().__init__()
        self.tok = nn.Embedding(6, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.brief = nn.Parameter(torch.randn(3, 2).to(torch.bfloat16))
        self.scale = nn.Parameter(torch.tensor(2.5, dtype=torch.bfloat16))
        self.none = nn.Parameter(torch.empty(0, 3))
        self.wave = nn.Parameter(torch.randn(2, dtype=torch.complex64))
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("gone", torch.ones(2), persistent=False)
        self.head = nn.Linear(width, 6, bias=False)
        if tied:
            self.head.weight = self.tok.weight


def change(model):
    """Give every tensor of the state new random bits."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point() or tensor.is_complex():
                tensor.copy_(torch.randn(tensor.shape, dtype=torch.float64).to(tensor.dtype))
            elif tensor.dtype == torch.bool:
                tensor.logical_not_()
            else:
                tensor.add_(7)


def bits(state):
    """Bytes of every tensor."""
    return {
        name: (str(value.dtype), tuple(value.shape), value.contiguous().reshape(-1).view(torch.uint8).tolist())
        if value.numel()
        else (str(value.dtype), tuple(value.shape), [])
        for name, value in state.items()
    }


@pytest.fixture
def recorded(tmp_path):
    """Record three steps of a model; give the run and the bits of its state after each."""

    def record(model, *, between=None, **options):
        kept = {}
        with wdyn.watch(model, to=tmp_path / "run.zarr", every=1, snapshots=1, **options) as w:
            kept[0] = bits(model.state_dict())
            for step in (1, 2):
                change(model)
                if between and step == 2:
                    between(model)
                w.step()
                kept[step] = bits(model.state_dict())
        return wdyn.open_run(tmp_path / "run.zarr"), kept

    return record


def test_state_dict__is_what_the_model_had_at_each_step(recorded):
    model = Small()
    run, kept = recorded(model)
    for step, expected in kept.items():
        found = state_dict(run, step=step)
        assert bits(found) == expected
        assert list(found) == wdyn.parameters(run)["parameter"].values.tolist()
        assert all(tensor.device.type == "cpu" for tensor in found.values())
    assert "gone" not in found


def test_state_dict__keeps_payloads_of_nans(recorded):
    model = nn.Linear(4, 1, bias=False).to(torch.bfloat16)
    with torch.no_grad():
        model.weight.view(torch.int16).copy_(torch.tensor([[0x7FC1, -1, 0x7FEF, -17]], dtype=torch.int16))
    before = bits(model.state_dict())
    run, _ = recorded(model)
    assert bits(state_dict(run, step=0)) == before


def test_state_dict__shares_one_tensor_among_tied_names(recorded):
    run, _ = recorded(Small())
    found = state_dict(run, step=1)
    assert found["tok.weight"] is found["head.weight"]


def test_state_dict__parts_names_whose_tie_broke(recorded):
    def untie(model):
        model.head.weight = nn.Parameter(torch.randn(6, 4))

    run, kept = recorded(Small(), between=untie)
    before, after = state_dict(run, step=1), state_dict(run, step=2)
    assert before["head.weight"] is before["tok.weight"]
    assert after["head.weight"] is not after["tok.weight"]
    assert (bits(before), bits(after)) == (kept[1], kept[2])


def test_state_dict__joins_names_that_were_tied_later(recorded):
    def tie(model):
        model.head.weight = model.tok.weight

    run, kept = recorded(Small(tied=False), between=tie)
    after = state_dict(run, step=2)
    assert after["head.weight"] is after["tok.weight"]
    assert (bits(state_dict(run, step=1)), bits(after)) == (kept[1], kept[2])


@pytest.mark.parametrize("in_memory", [False, True])
def test_state_dict__gives_each_tensor_memory_of_its_own(recorded, in_memory):
    run, kept = recorded(Small(tied=False))
    found = state_dict(run.load() if in_memory else run, step=2)
    for tensor in found.values():
        assert tensor.untyped_storage().nbytes() == tensor.nbytes  # no view of a whole stack, which saving would keep
        tensor.zero_()
    assert bits(state_dict(run, step=2)) == kept[2]


def test_state_dict__names_the_nearest_snapshots(recorded):
    run, _ = recorded(nn.Linear(2, 2))
    with pytest.raises(StepNotRecorded, match="No snapshot at step 9; the nearest are at 0, 1, 2"):
        state_dict(run, step=9)


def test_state_dict__says_that_there_are_no_snapshots(tmp_path):
    with wdyn.watch(nn.Linear(2, 2), to=tmp_path / "r", snapshots=None) as w:
        w.step()
    with pytest.raises(NoMatch, match=r"has no snapshots; take them with watch\(\.\.\., snapshots=\.\.\.\)"):
        state_dict(wdyn.open_run(tmp_path / "r"), step=0)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_load_into__makes_the_model_what_it_was(recorded, step):
    run, kept = recorded(Small())
    model = Small()
    place = model.tok.weight.data_ptr()
    load_into(model, run, step=step)
    assert bits(model.state_dict()) == kept[step]
    assert model.head.weight is model.tok.weight
    assert model.tok.weight.data_ptr() == place


def test_load_into__strips_what_wrappers_add_to_names(recorded):
    run, kept = recorded(nn.DataParallel(nn.Linear(2, 2)))
    model = nn.Linear(2, 2)
    load_into(model, run, step=2)
    assert list(bits(model.state_dict()).values()) == list(kept[2].values())
    wrapped = nn.DataParallel(nn.Linear(2, 2))
    load_into(wrapped, run, step=2)
    assert bits(wrapped.state_dict()) == kept[2]


def more(model):
    model.extra = nn.Parameter(torch.ones(2))
    return model


def less(model):
    del model.brief
    return model


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (lambda: more(Small()), r"Small does not fit the run: extra not recorded"),
        (lambda: less(Small()), r"Small does not fit the run: brief not in the model"),
        (lambda: Small(width=5), r"tok\.weight \(recorded \[6, 4\], here \[6, 5\]\), .* and 5 more of another shape"),
        (lambda: Small().double(), r"brief \(recorded bfloat16, here float64\), .* and 12 more of another dtype"),
        (lambda: more(less(Small())), r"extra not recorded; brief not in the model.*wdyn\.state_dict\(run, step=1\)"),
    ],
)
def test_load_into__refuses_a_model_that_does_not_fit_and_leaves_it(recorded, model, match):
    run, _ = recorded(Small())
    other = model()
    before = bits(other.state_dict())
    with pytest.raises(InvalidArgument, match=match):
        load_into(other, run, step=1)
    assert bits(other.state_dict()) == before


def test_load_into__refuses_to_tie_what_differed(recorded):
    run, _ = recorded(Small(tied=False))
    with pytest.raises(InvalidArgument, match=r"head\.weight tied in the model only"):
        load_into(Small(), run, step=1)


def test_load_into__loads_tied_values_into_an_untied_model(recorded):
    run, kept = recorded(Small())
    model = Small(tied=False)
    load_into(model, run, step=2)
    assert bits(model.state_dict()) == kept[2]


def test_state_dict__follows_attempts(tmp_path):
    model = nn.Linear(2, 2, bias=False)
    kept = []
    for resume in (False, 1):
        with wdyn.watch(model, to=tmp_path / "r", every=1, snapshots=1, resume=resume) as w:
            kept.append(dict.fromkeys(()))
            start = 0 if resume is False else 1
            kept[-1][start] = bits(model.state_dict())
            for step in range(start + 1, start + 3):
                change(model)
                w.step()
                kept[-1][step] = bits(model.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run, first = wdyn.open_run(tmp_path / "r"), wdyn.open_run(tmp_path / "r", attempt=0)
    assert bits(state_dict(run, step=0)) == kept[0][0]
    for step, expected in kept[1].items():
        assert bits(state_dict(run, step=step)) == expected
    for step, expected in kept[0].items():
        assert bits(state_dict(first, step=step)) == expected
    np.testing.assert_array_equal(run["states"]["attempt"], [0, 1, 1, 1])


def test_state_dict__refuses_a_path_and_joined_runs(tmp_path):
    run = make_run()
    with pytest.raises(InvalidArgument, match=r"open it with wdyn\.open_run"):
        state_dict(str(tmp_path), step=0)
    with pytest.raises(InvalidArgument, match="several runs, joined"):
        state_dict(join_runs(a=run, b=run), step=0)
