"""Is it the same run whoever owns the loop, in each precision, with gradients accumulated or not?

Each trainer trains the same model on the same batches. Without recording, what it trains is compared bit for bit; the
rows with weights copied by a hook of the test's own on the optimizer; and the last weights with those of a plain loop.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import wdyn
from loops import steps_of

STEPS, LR, OVERFLOWS = 3, 0.1, 1
"""Steps of the loop, one of which, of this number, overflows where gradients are scaled."""
Weights = dict[str, torch.Tensor]
Recorder = Callable[..., Any]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.net(x).float() - y).square().mean()}


def batches(precision: str, accumulated: int) -> list[dict[str, torch.Tensor]]:
    source = torch.Generator().manual_seed(3)
    found = [
        {"x": torch.randn(2, 4, generator=source), "y": torch.randn(2, 1, generator=source)}
        for _ in range(STEPS * accumulated)
    ]
    if precision == "scaler":
        found[OVERFLOWS * accumulated]["y"] += torch.inf
    return found


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)


def scaler_of(precision: str) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=64.0, enabled=precision == "scaler")


def cast(precision: str) -> Any:
    return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()


def plain(model: Model, optimizer: torch.optim.Optimizer, precision: str, accumulated: int, place: Path | None) -> None:
    scaler = scaler_of(precision)
    with nullcontext() if place is None else wdyn.watch(model, optimizer, to=place, every=1, snapshots=1):
        for number, batch in enumerate(batches(precision, accumulated), start=1):
            with cast(precision):
                loss = model(**batch)["loss"] / accumulated
            scaler.scale(loss).backward()
            if number % accumulated == 0:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()


def accelerated(
    model: Model, optimizer: torch.optim.Optimizer, precision: str, accumulated: int, place: Path | None
) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)  # it allows one precision a process
    accelerator = accelerate.Accelerator(
        cpu=True, gradient_accumulation_steps=accumulated, mixed_precision="bf16" if precision == "bf16" else "no"
    )
    if precision == "scaler":  # which accelerate makes itself on a GPU only
        accelerator.scaler = scaler_of(precision)
    model, optimizer = accelerator.prepare(model, optimizer)
    with nullcontext() if place is None else wdyn.watch(model, optimizer, to=place, every=1, snapshots=1):
        for batch in batches(precision, accumulated):
            with accelerator.accumulate(model):
                with accelerator.autocast():
                    loss = model(**batch)["loss"]
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()


def by_trainer(
    model: Model, optimizer: torch.optim.Optimizer, precision: str, accumulated: int, place: Path | None
) -> None:
    transformers = pytest.importorskip("transformers")
    from wdyn.integrations.transformers import WdynCallback

    class Trainer(transformers.Trainer):
        def get_train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(batches(precision, accumulated), batch_size=None)

    args = transformers.TrainingArguments(
        output_dir=str(place.parent / "out") if place else "out",
        max_steps=STEPS,
        gradient_accumulation_steps=accumulated,
        max_grad_norm=0,
        bf16=precision == "bf16",
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
    )
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    recording = [] if place is None else [WdynCallback(place, every=1, snapshots=1)]
    one = Trainer(model=model, args=args, optimizers=(optimizer, scheduler), callbacks=recording)
    if precision == "scaler":
        one.accelerator.scaler = scaler_of(precision)
    one.train()


def by_lightning(
    model: Model, optimizer: torch.optim.Optimizer, precision: str, accumulated: int, place: Path | None
) -> None:
    pl = pytest.importorskip("pytorch_lightning")
    from pytorch_lightning.plugins import MixedPrecision

    from wdyn.integrations.lightning import WdynCallback

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = model.net

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return Model.forward(self, **batch)["loss"]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer

    plugins = [MixedPrecision("16-mixed", "cpu", scaler_of(precision))] if precision == "scaler" else []
    if plugins:
        plugins[0].autocast_context_manager = nullcontext  # float16 is for GPUs
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        accumulate_grad_batches=accumulated,
        precision="bf16-mixed" if precision == "bf16" else None,
        plugins=plugins or None,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[] if place is None else [WdynCallback(place, every=1, snapshots=1)],
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(batches(precision, accumulated), batch_size=None))


LOOPS = {"plain": plain, "accelerate": accelerated, "trainer": by_trainer, "lightning": by_lightning}
OWN_COUNT = ("trainer", "lightning")  # which counts steps that were skipped, too


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        for message in ("does not have many workers", "LeafSpec", "`training_step`", "Trying to infer"):
            warnings.filterwarnings("ignore", message=f".*{message}.*")
        yield


def trained(loop: Any, place: Path | None) -> list[Weights]:
    """Train from the same start; give the weights before the first step and after each that was made."""
    torch.manual_seed(0)
    model = Model()
    optimizer = sgd(model)
    kept: list[Weights] = []
    copy = lambda *given: kept.append({name: one.detach().clone() for name, one in model.named_parameters()})  # noqa: E731
    copy()
    optimizer.register_step_post_hook(copy)
    loop(model, optimizer, place=place)
    return kept


def cases() -> Iterator[Any]:
    for trainer in LOOPS:
        for precision in ("fp32", "bf16", "scaler"):
            for accumulated in (1, 4):
                # Each precision once and both counts of batches, wherever people train; the rest takes its time.
                usual = accumulated == (4 if precision == "scaler" else 1)
                marks = [] if usual else [pytest.mark.long]
                name = f"{trainer}-{precision}-{accumulated}"
                yield pytest.param(trainer, precision, accumulated, marks=marks, id=name)


@pytest.mark.parametrize(("trainer", "precision", "accumulated"), list(cases()))
def test_matrix__same_steps_same_values_same_training(
    trainer: str, precision: str, accumulated: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loop = partial(LOOPS[trainer], precision=precision, accumulated=accumulated)
    without, kept = trained(loop, None), trained(loop, tmp_path / "run.zarr")
    made = STEPS - (precision == "scaler")
    assert len(without) == len(kept) == made + 1
    run = wdyn.open_run(tmp_path / "run.zarr")
    labels = [0, 1, 3] if precision == "scaler" and trainer in OWN_COUNT else list(range(made + 1))
    assert steps_of(run, "statistics/weights") == labels
    updates = wdyn.statistics(run, "updates")["l2"]
    for at, step in enumerate(labels):
        state = wdyn.state_dict(run, step=step)
        for name, value in kept[at].items():
            assert torch.equal(value, without[at][name])
            assert torch.equal(value, state[name])
            if at:
                change = (value.double() - kept[at - 1][name].double()).norm()
                np.testing.assert_allclose(updates.sel(step=step, parameter=name), change, rtol=1e-12)
    reference = trained(partial(plain, precision=precision, accumulated=accumulated), None)
    for name, value in reference[-1].items():
        np.testing.assert_allclose(kept[-1][name], value, rtol=0, atol=1e-2 if precision == "bf16" else 1e-6)
    np.testing.assert_allclose(run["scalars/lr"].sel(step=labels[1:]), LR)
