"""Does a Lightning Trainer record its own steps, numbers and checkpoints, and train as without?"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import wdyn
from loops import Tiny, steps_of

pl = pytest.importorskip("pytorch_lightning")

from wdyn.integrations.lightning import WdynCallback  # noqa: E402 - needs the library

TOKENS = torch.randint(0, 11, (24, 6), generator=torch.Generator().manual_seed(5))


def loss_of(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


class Automatic(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = Tiny()

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        loss = loss_of(self.net, batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", loss_of(self.net, batch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Manual(pl.LightningModule):
    """Two optimizers that take turns, as a GAN's do."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.one, self.two = Tiny(), Tiny()

    def training_step(self, batch: Any, index: int) -> None:
        for name, optimizer, net in zip(("a", "b"), self.optimizers(), (self.one, self.two), strict=True):
            optimizer.zero_grad()
            loss = loss_of(net, batch)
            self.manual_backward(loss)
            self.log(f"loss_{name}", loss)
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.one.parameters(), lr=0.1), torch.optim.AdamW(self.two.parameters(), lr=0.01)]


class Follower(pl.Callback):
    """Keeps, by means of its own, the weights after each batch, the gradients as they are used, and the losses."""

    def __init__(self) -> None:
        self.weights: dict[int, dict[str, torch.Tensor]] = {}
        self.gradients: dict[int, dict[str, torch.Tensor]] = {}
        self.losses: dict[int, float] = {}

    def keep(self, module: Any, step: int) -> None:
        self.weights[step] = {name: one.detach().clone() for name, one in module.named_parameters()}

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.keep(module, trainer.global_step)

    def on_before_zero_grad(self, trainer: Any, module: Any, optimizer: Any) -> None:
        # Before the next batch, so the gradients are those that the last step left.
        self.gradients[trainer.global_step] = {
            name: one.grad.clone() for name, one in module.named_parameters() if one.grad is not None
        }

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *rest: Any) -> None:
        self.keep(module, trainer.global_step)
        if outputs:
            self.losses[trainer.global_step - 1] = float(outputs["loss"])


def trainer(tmp_path: Path, *callbacks: Any, **options: Any) -> Any:
    chosen = {"max_epochs": 2, "limit_val_batches": 0, "enable_checkpointing": False} | options
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=list(callbacks),
        **chosen,
    )


def fit(one: Any, kind: type = Automatic, **options: Any) -> Any:
    torch.manual_seed(0)
    module = kind()
    batches = torch.utils.data.DataLoader(TOKENS, batch_size=8)
    one.fit(module, batches, batches if kind is Automatic else None, **options)
    return module


def l2(run: xr.DataTree, quantity: str, step: int, name: str) -> float:
    return float(wdyn.statistics(run, quantity)["l2"].sel(step=step, parameter=name))


pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*isinstance.treespec, LeafSpec", "ignore:.*Tip.*"
)


def test_automatic__rows_are_the_weights_and_gradients_of_its_steps(tmp_path: Path) -> None:
    own = Follower()
    fit(trainer(tmp_path, own, WdynCallback(tmp_path / "run.zarr", every=1, snapshots=1), gradient_clip_val=0.3))
    run = wdyn.open_run(tmp_path / "run.zarr")
    assert steps_of(run, "statistics/weights") == list(range(7))
    for step in range(7):
        kept = wdyn.state_dict(run, step=step)
        assert all(torch.equal(kept[name], value) for name, value in own.weights[step].items())
    for step in range(1, 6):
        for name, gradient in own.gradients[step].items():
            np.testing.assert_allclose(l2(run, "gradients", step, name), gradient.double().norm(), rtol=1e-12)
    np.testing.assert_allclose(run["scalars/lr"].sel(step=range(1, 7)).squeeze(), 0.05 * 0.5 ** np.arange(6))


def test_automatic__losses_stand_at_the_weights_that_they_are_of(tmp_path: Path) -> None:
    own = Follower()
    fit(trainer(tmp_path, own, WdynCallback(every=1), limit_val_batches=1, gradient_clip_val=0.3))
    scalars = wdyn.open_run(tmp_path / "run.zarr")["scalars"]
    for name in ("loss", "train_loss"):
        np.testing.assert_allclose(scalars[name].sel(step=range(6)), [own.losses[s] for s in range(6)], rtol=1e-6)
    assert np.isfinite(scalars["val_loss"]).step.values[np.isfinite(scalars["val_loss"])].tolist() == [3, 6]
    assert (scalars["grad_norm"].sel(step=range(6)) > 0.3).all()


def test_automatic__accumulated_batches_are_one_step_and_one_loss(tmp_path: Path) -> None:
    parts: list[float] = []  # Lightning tells them divided by their number

    class Parts(pl.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *rest: Any) -> None:
            parts.append(float(outputs["loss"]))

    fit(trainer(tmp_path, Parts(), WdynCallback(every=1), accumulate_grad_batches=3))
    run = wdyn.open_run(tmp_path / "run.zarr")
    assert steps_of(run, "statistics/weights") == [0, 1, 2]
    np.testing.assert_allclose(run["scalars/loss"].sel(step=[0, 1]), [sum(parts[:3]), sum(parts[3:])], rtol=1e-6)


@pytest.mark.parametrize("kind", [Automatic, Manual])
def test_training__is_as_without(kind: type, tmp_path: Path) -> None:
    without = fit(trainer(tmp_path), kind).state_dict()
    recorded = fit(trainer(tmp_path, WdynCallback(every=1, snapshots=1, what="all")), kind).state_dict()
    assert all(torch.equal(without[name], recorded[name]) for name in without)
    assert steps_of(wdyn.open_run(tmp_path / "run.zarr"), "statistics/weights") == list(range(7))


def test_manual__a_step_is_a_round_of_all_optimizers(tmp_path: Path) -> None:
    own = Follower()
    fit(trainer(tmp_path, own, WdynCallback(every=1, snapshots=1)), Manual)
    run = wdyn.open_run(tmp_path / "run.zarr")
    assert steps_of(run, "statistics/weights") == list(range(7))
    for step in range(1, 7):
        kept = wdyn.state_dict(run, step=step)
        assert all(torch.equal(kept[name], value) for name, value in own.weights[2 * step].items())
        for name in ("one.tok.weight", "two.tok.weight"):
            change = own.weights[2 * step][name].double() - own.weights[2 * step - 2][name].double()
            np.testing.assert_allclose(l2(run, "updates", step, name), change.norm(), rtol=1e-12)
            assert l2(run, "gradients", step, name) > 0
    for name in ("loss_a", "loss_b"):
        assert np.isfinite(run["scalars"][name].sel(step=range(6))).all()


@pytest.mark.parametrize("kind", [Automatic, Manual])
def test_resume__continues_under_the_step_of_the_checkpoint(kind: type, tmp_path: Path) -> None:
    one = trainer(tmp_path, WdynCallback(every=1, snapshots=1), max_epochs=1)
    fit(one, kind)
    one.save_checkpoint(tmp_path / "last.ckpt")
    fit(trainer(tmp_path, WdynCallback(every=1, resume=True, snapshots=1)), kind)  # goes on, and is then superseded
    module = fit(trainer(tmp_path, WdynCallback(every=1, snapshots=1)), kind, ckpt_path=tmp_path / "last.ckpt")
    run = wdyn.open_run(tmp_path / "run.zarr")
    assert steps_of(run, "statistics/weights") == list(range(7))
    assert run["scalars"]["attempt"].sel(step=6) == 2
    kept = wdyn.state_dict(run, step=6)
    assert all(torch.equal(kept[name], value) for name, value in module.named_parameters())


def test_fit__again_continues_the_run(tmp_path: Path) -> None:
    one = trainer(tmp_path, WdynCallback(every=1), max_epochs=1)
    module = fit(one)
    one.fit_loop.max_epochs = 2
    one.fit(module, *[torch.utils.data.DataLoader(TOKENS, batch_size=8)] * 2)
    assert steps_of(wdyn.open_run(tmp_path / "run.zarr"), "statistics/weights") == list(range(7))


def test_exception__closes_the_run(tmp_path: Path) -> None:
    class Failing(pl.Callback):
        def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
            if trainer.global_step == 3:
                raise ValueError("enough")

    one = trainer(tmp_path, WdynCallback(every=2), Failing())
    with pytest.raises(ValueError, match="enough"):
        fit(one)
    assert steps_of(wdyn.open_run(tmp_path / "run.zarr"), "statistics/weights") == [0, 2, 3]
    assert not one.optimizers[0]._optimizer_step_post_hooks
    assert nn.utils.clip_grad_norm_.__module__ == "torch.nn.utils.clip_grad"


def test_callback__refuses_a_misspelt_option_at_once() -> None:
    with pytest.raises(TypeError, match="evry"):
        WdynCallback("run.zarr", evry=10)
