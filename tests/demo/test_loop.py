"""Does the demo learn, and does its recording show what a report is to say of it?"""

import math

import numpy as np
import pytest
import torch

import wdyn
from wdyn.demo.loop import bar, decay_groups, train, warmup_then_cosine
from wdyn.demo.model import GPT, Shape

SMALL = Shape(alphabet=200, length=32, layers=4, width=32, heads=2)
STEPS = 40


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return train(tmp_path_factory.mktemp("demo"), steps=STEPS, shape=SMALL, progress=False)


@pytest.fixture(scope="module")
def run(path):
    return wdyn.open_run(path)


def test_train__says_where_the_run_is(path):
    assert path.name == "run.zarr"
    assert path.is_dir()


def test_train__records_the_first_and_the_last_step(run):
    recorded = run["statistics/weights"].step.values
    assert recorded[0] == 0
    assert recorded[-1] == STEPS


def test_train__learns(run):
    loss = run["scalars/loss"].dropna("step").values
    assert loss[0] == pytest.approx(math.log(SMALL.alphabet), rel=0.02)
    assert loss[-3:].mean() < loss[0] - 0.5


def test_train__widens_every_layer_from_its_narrow_start(run):
    weights = wdyn.select(run, role="mlp_up")
    std = weights.std(["fan_out", "fan_in"])
    np.testing.assert_allclose(std.isel(step=0), 0.02, rtol=0.05)
    assert (std.isel(step=-1) > std.isel(step=0)).all()


def test_train__leaves_a_loadable_model(run):
    model = GPT(SMALL)
    model.load_state_dict(wdyn.state_dict(run, step=STEPS))
    assert model.wte.weight is model.lm_head.weight


def test_train__gives_the_same_run_for_the_same_seed(path, tmp_path):
    again = train(tmp_path, steps=STEPS, shape=SMALL, progress=False)
    first, second = (wdyn.state_dict(wdyn.open_run(run), step=STEPS) for run in (path, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_train__does_not_overwrite_a_run(path):
    with pytest.raises(wdyn.RunExists, match=r"run\.zarr"):
        train(path.parent, steps=1, shape=SMALL, progress=False)


def test_train__leaves_the_threads_of_the_caller_alone(tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        train(tmp_path, steps=1, shape=SMALL, progress=False)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_bar__shows_no_loss_before_there_is_one(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with bar(2, shown=True):
        pass
    before = capsys.readouterr()
    with bar(2, shown=True) as show:
        show(1.234)
    assert before.out == ""
    assert "training" in before.err
    assert "loss" not in before.err
    assert "loss 1.23" in capsys.readouterr().err


def test_decay_groups__hold_every_parameter_once():
    model = GPT(SMALL)
    decayed, plain = (group["params"] for group in decay_groups(model))
    assert sorted(map(id, [*decayed, *plain])) == sorted(map(id, model.parameters()))
    assert min(weight.ndim for weight in decayed) == 2
    assert max(weight.ndim for weight in plain) == 1


def test_warmup_then_cosine__rises_to_one_and_falls_to_a_tenth():
    share = [warmup_then_cosine(step, 100) for step in range(101)]
    np.testing.assert_allclose(share[:6], [0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert np.all(np.diff(share[5:]) < 0)
    assert share[5 + 47] == pytest.approx(0.55, abs=0.02)
    assert share[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_warmup_then_cosine__copes_with_a_run_of_few_steps(steps):
    assert all(0 < warmup_then_cosine(step, steps) <= 1 for step in range(steps + 1))
