"""Does a Hugging Face Trainer record its own steps, numbers and checkpoints, and train as without?"""

import contextlib
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import wdyn
from loops import Tiny, steps_of
from wdyn.errors import RunExists
from wdyn.store.lock import holder

transformers = pytest.importorskip("transformers")

from wdyn.integrations.transformers import WdynCallback  # noqa: E402 - needs the library

LR, CLIP = 0.05, 0.3


class Model(nn.Module):
    """A model as the Trainer wants it: it gives its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Tiny()
        self.net.head = nn.Linear(8, 11, bias=False)  # its own: the Trainer cannot save what a plain module ties

    def forward(self, tokens: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.net(tokens)
        return {"loss": nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}


DATA = [
    {"tokens": row[:-1], "labels": row[1:]}
    for row in torch.randint(0, 11, (16, 6), generator=torch.Generator().manual_seed(5))
]


class Follower(transformers.TrainerCallback):
    """Keeps, by means of its own, the weights after each step, and the gradients as they are used."""

    def __init__(self) -> None:
        self.weights: dict[int, dict[str, torch.Tensor]] = {}
        self.gradients: dict[int, dict[str, torch.Tensor]] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: nn.Module, **kwargs: Any) -> None:
        self.weights[state.global_step] = {name: one.detach().clone() for name, one in model.named_parameters()}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, *, model: nn.Module, **kwargs: Any) -> None:
        self.gradients[state.global_step + 1] = {n: p.grad.clone() for n, p in model.named_parameters()}

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: nn.Module, **kwargs: Any) -> None:
        self.weights[state.global_step] = {name: one.detach().clone() for name, one in model.named_parameters()}


class LoadsFirst(transformers.Trainer):
    """Has the best weights back before it tells its summary, as some versions do."""

    def log(self, logs: dict[str, float], *rest: Any) -> None:
        if "train_runtime" in logs and self.args.load_best_model_at_end:
            self._load_best_model()
        super().log(logs, *rest)


def trainer(tmp_path: Path, *callbacks: Any, kind: type = transformers.Trainer, **options: Any) -> Any:
    torch.manual_seed(0)
    arguments = {
        "output_dir": str(tmp_path / "out"),
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "learning_rate": LR,
        "max_grad_norm": CLIP,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 0,
        "dataloader_pin_memory": False,
    }
    return kind(
        model=Model(),
        args=transformers.TrainingArguments(**(arguments | options)),
        train_dataset=DATA,
        eval_dataset=DATA[:4],
        callbacks=list(callbacks),
    )


def l2(run: xr.DataTree, quantity: str, step: int, name: str) -> float:
    return float(wdyn.statistics(run, quantity)["l2"].sel(step=step, parameter=name))


@pytest.mark.parametrize("accumulated", [1, 4])
def test_trainer__rows_are_the_weights_and_gradients_of_its_steps(accumulated: int, tmp_path: Path) -> None:
    own = Follower()
    options = {"gradient_accumulation_steps": accumulated}
    trainer(tmp_path, own, WdynCallback(tmp_path / "run.zarr", every=1, snapshots=1), **options).train()
    run = wdyn.open_run(tmp_path / "run.zarr")
    assert steps_of(run, "statistics/weights") == list(range(7))
    for step in range(7):
        kept = wdyn.state_dict(run, step=step)
        assert all(torch.equal(kept[name], value) for name, value in own.weights[step].items())
    for step in range(1, 7):
        for name, gradient in own.gradients[step].items():
            np.testing.assert_allclose(l2(run, "gradients", step, name), gradient.double().norm(), rtol=1e-12)


def test_trainer__trains_as_without(tmp_path: Path) -> None:
    without = trainer(tmp_path)
    without.train()
    recorded = trainer(tmp_path, WdynCallback(every=1, snapshots=1, what="all"))
    recorded.train()
    pairs = zip(without.model.state_dict().values(), recorded.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    losses = [[line.get("loss") for line in one.state.log_history] for one in (without, recorded)]
    assert losses[0] == losses[1]
    assert steps_of(wdyn.open_run(tmp_path / "out" / "run.zarr"), "statistics/weights") == list(range(7))


def test_trainer__learning_rate_is_that_of_the_step_taken(tmp_path: Path) -> None:
    trainer(tmp_path, WdynCallback(tmp_path / "run.zarr", every=1)).train()  # linear, to 0 behind the last step
    rates = wdyn.open_run(tmp_path / "run.zarr")["scalars/lr"].sel(step=range(1, 7))
    assert rates.sizes["group"] == 2  # with weight decay and without
    np.testing.assert_allclose(rates, np.stack([LR * (6 - np.arange(6)) / 6] * 2, axis=1), rtol=1e-12)


@pytest.mark.parametrize("accumulated", [1, 4])
def test_trainer__numbers_that_it_logs_are_kept_and_the_norm_is_that_before_clipping(
    accumulated: int, tmp_path: Path
) -> None:
    options = {"eval_strategy": "steps", "eval_steps": 3, "gradient_accumulation_steps": accumulated}
    one = trainer(tmp_path, WdynCallback(tmp_path / "run.zarr", every=1), **options)
    one.train()
    history = one.state.log_history
    scalars = wdyn.open_run(tmp_path / "run.zarr")["scalars"]
    losses = {line["step"]: line["loss"] for line in history if "loss" in line}
    np.testing.assert_allclose(scalars["loss"].sel(step=list(losses)), list(losses.values()), rtol=1e-12)
    norms = {line["step"] - 1: line["grad_norm"] for line in history if "grad_norm" in line}
    assert max(norms.values()) > CLIP
    np.testing.assert_allclose(scalars["grad_norm"].sel(step=list(norms)), list(norms.values()), rtol=1e-6)
    evaluated = {line["step"]: line["eval_loss"] for line in history if "eval_loss" in line}
    assert list(evaluated) == [3, 6]
    np.testing.assert_allclose(scalars["eval_loss"].sel(step=[3, 6]), list(evaluated.values()), rtol=1e-12)
    assert "learning_rate" not in scalars
    assert nn.utils.clip_grad_norm_.__module__ == "torch.nn.utils.clip_grad"


def test_trainer__resumes_from_a_checkpoint_under_its_step(tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 4}
    trainer(tmp_path, WdynCallback(tmp_path / "run.zarr", every=1, snapshots=1), **saving).train()
    own = Follower()
    again = trainer(tmp_path, own, WdynCallback(tmp_path / "run.zarr", every=1, snapshots=1), max_steps=8)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))
    run = wdyn.open_run(tmp_path / "run.zarr")
    assert steps_of(run, "statistics/weights") == list(range(9))
    assert run["scalars"]["attempt"].sel(step=[3, 5, 8]).values.tolist() == [0, 1, 1]
    for step in (4, 5, 8):
        kept = wdyn.state_dict(run, step=step)
        assert all(torch.equal(kept[name], value) for name, value in own.weights[step].items())


class StopsAt4(transformers.TrainerCallback):
    """Ends a training early, as a scheduler of jobs does: its schedule is that of the whole."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = control.should_training_stop or state.global_step == 4


def test_trainer__interrupted_and_resumed_is_the_same_run_as_in_one_go(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.zarr", tmp_path / "parts.zarr"
    trainer(tmp_path, WdynCallback(whole, every=1, snapshots=1)).train()
    saving = {"save_strategy": "steps", "save_steps": 4}
    trainer(tmp_path, StopsAt4(), WdynCallback(parts, every=1, snapshots=1), **saving).train()
    again = trainer(tmp_path, WdynCallback(parts, every=1, snapshots=1), **saving)
    again.train(resume_from_checkpoint=True)
    runs = wdyn.open_run(whole), wdyn.open_run(parts)
    for name in ("lr", "grad_norm", "loss"):
        one, other = (run["scalars"][name].sel(step=range(1, 7)) for run in runs)
        np.testing.assert_array_equal(one, other)
    for quantity in ("weights", "updates", "gradients"):
        one, other = (wdyn.statistics(run, quantity)["l2"] for run in runs)
        later = [step for step in range(1, 7) if step in other["step"]]
        assert len(later) >= 5
        np.testing.assert_array_equal(one.sel(step=later), other.sel(step=later))
    states = [wdyn.state_dict(run, step=6) for run in runs]
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())


@pytest.mark.parametrize("kind", [transformers.Trainer, LoadsFirst])
def test_trainer__that_an_evaluation_stops_has_its_last_row_before_the_best_weights_come_back(
    kind: type, tmp_path: Path
) -> None:
    own = Follower()
    best = {
        "load_best_model_at_end": True,
        "eval_strategy": "steps",
        "save_strategy": "steps",
        "eval_steps": 2,
        "save_steps": 2,
        "learning_rate": 3.0,
    }
    stop = transformers.EarlyStoppingCallback(early_stopping_patience=1)
    one = trainer(tmp_path, own, stop, WdynCallback(tmp_path / "run.zarr", every=100, snapshots=100), kind=kind, **best)
    one.train()
    run = wdyn.open_run(tmp_path / "run.zarr")
    assert steps_of(run, "statistics/weights") == [0, 4]
    kept = wdyn.state_dict(run, step=4)
    assert all(torch.equal(kept[name], value) for name, value in own.weights[4].items())
    assert not torch.equal(one.model.net.tok.weight, kept["net.tok.weight"])


@pytest.mark.parametrize("kind", [transformers.Trainer, LoadsFirst])
def test_trainer__its_last_row_is_before_the_best_weights_come_back(kind: type, tmp_path: Path) -> None:
    own = Follower()
    best = {
        "load_best_model_at_end": True,
        "eval_strategy": "steps",
        "save_strategy": "steps",
        "eval_steps": 2,
        "save_steps": 2,
        "learning_rate": 3.0,  # so that it gets worse and worse
    }
    one = trainer(tmp_path, own, WdynCallback(tmp_path / "run.zarr", every=4, snapshots=4), kind=kind, **best)
    one.train()
    assert not torch.equal(one.model.net.tok.weight, own.weights[6]["net.tok.weight"])
    run = wdyn.open_run(tmp_path / "run.zarr")
    assert steps_of(run, "statistics/weights") == [0, 4, 6]
    kept = wdyn.state_dict(run, step=6)
    assert all(torch.equal(kept[name], value) for name, value in own.weights[6].items())
    np.testing.assert_allclose(
        l2(run, "weights", 6, "net.tok.weight"), own.weights[6]["net.tok.weight"].double().norm(), rtol=1e-12
    )


class Skipping(Follower):
    """Makes the optimizer's step of some steps one that mixed precision skips."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, *, optimizer: Any, **kwargs: Any) -> None:
        self.step, skips = optimizer.step, state.global_step in (2, 3)
        optimizer.step = (lambda closure=None: None) if skips else self.step

    def on_optimizer_step(self, args: Any, state: Any, control: Any, *, optimizer: Any, **kwargs: Any) -> None:
        optimizer.step = self.step


def test_trainer__skipped_steps_have_no_row_and_the_others_keep_its_numbers(tmp_path: Path) -> None:
    own = Skipping()
    trainer(tmp_path, own, WdynCallback(tmp_path / "run.zarr", every=1, snapshots=1)).train()
    run = wdyn.open_run(tmp_path / "run.zarr")
    assert steps_of(run, "statistics/weights") == [0, 1, 2, 5, 6]
    for step in (2, 5, 6):
        kept = wdyn.state_dict(run, step=step)
        assert all(torch.equal(kept[name], value) for name, value in own.weights[step].items())


class Failing(transformers.TrainerCallback):
    """Ends a training by an exception."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise KeyboardInterrupt("enough")


def test_trainer__an_exception_leaves_a_run_that_the_block_closes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="enough"):
        with WdynCallback(tmp_path / "run.zarr", every=2) as recording:
            one = trainer(tmp_path, recording, Failing())
            one.train()
    assert steps_of(wdyn.open_run(tmp_path / "run.zarr"), "statistics/weights") == [0, 2, 3]
    assert not holder(tmp_path / "run.zarr")
    assert not one.optimizer.optimizer._optimizer_step_post_hooks
    assert nn.utils.clip_grad_norm_.__module__ == "torch.nn.utils.clip_grad"


def test_trainer__that_is_caught_and_dropped_frees_the_run(tmp_path: Path) -> None:
    def attempt() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            trainer(tmp_path, WdynCallback(tmp_path / "run.zarr", every=2), Failing()).train()

    with pytest.warns(wdyn.WdynWarning, match="closes itself after step 3"):
        attempt()
        gc.collect()
    assert steps_of(wdyn.open_run(tmp_path / "run.zarr"), "statistics/weights") == [0, 2, 3]
    assert not holder(tmp_path / "run.zarr")
    assert nn.utils.clip_grad_norm_.__module__ == "torch.nn.utils.clip_grad"


def test_trainer__that_trains_again_after_an_exception_closes_the_run_and_continues_it(tmp_path: Path) -> None:
    one = trainer(tmp_path, WdynCallback(tmp_path / "run.zarr", every=1), Failing())
    with pytest.raises(KeyboardInterrupt, match="enough"):
        one.train()
    one.remove_callback(Failing)
    with pytest.warns(wdyn.WdynWarning, match="not those that the run has at step 0"):
        one.train()
    run = wdyn.open_run(tmp_path / "run.zarr")
    assert steps_of(run, "statistics/weights") == list(range(7))
    assert run["scalars"]["attempt"].sel(step=6) == 1


def test_trainer__a_run_that_is_there_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, WdynCallback(tmp_path / "run.zarr"), max_steps=1).train()
    with pytest.raises(RunExists, match=r"run\.zarr"):
        trainer(tmp_path, WdynCallback(tmp_path / "run.zarr"), max_steps=1).train()


@pytest.mark.parametrize("offered", [WdynCallback, WdynCallback(every=1)], ids=["class", "with options"])
def test_report_to__names_it_once_it_is_offered(offered: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(transformers.integrations.INTEGRATION_TO_CALLBACK, "wdyn", offered)
    trainer(tmp_path, report_to="wdyn", max_steps=2).train()
    run = wdyn.open_run(tmp_path / "out" / "run.zarr")
    assert steps_of(run, "scalars") == [0, 1, 2]
    assert {"loss", "grad_norm", "lr"} <= set(run["scalars"].data_vars)


def test_callback__refuses_a_misspelt_option_at_once() -> None:
    with pytest.raises(TypeError, match="evry"):
        WdynCallback("run.zarr", evry=10)


def test_callback__in_another_process_than_the_first_that_sees_no_others_records_nothing(tmp_path: Path) -> None:
    class Second(transformers.TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            state.is_world_process_zero = False

    trainer(tmp_path, Second(), WdynCallback(tmp_path / "run.zarr"), max_steps=2).train()
    assert not (tmp_path / "run.zarr").exists()
