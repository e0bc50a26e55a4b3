"""Does each diff that shows how a kind of loop is wired run, before and after, and train the same?

A block is cut into the two programs that it stands for. Both run in the setting that its section speaks of.
"""

import copy
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import wdyn
from diffs import diffs_of, side
from loops import Tiny, loss_of, steps_of

PAGE = Path(__file__).parents[2] / "docs" / "loops.md"
STEPS = 4
Names = dict[str, Any]


# Settings.


class Talker(nn.Module):
    """A model that gives logits and loss, as those of nanoGPT and minGPT do, and makes its optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Tiny()

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.net(x)
        return logits, nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())

    def configure_optimizers(self, *given: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


class Answering(nn.Module):
    """A model as the Trainer of transformers wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Tiny()

    def forward(self, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.net(tokens[:, :-1])
        return {"loss": nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())}


class Sam(torch.optim.Optimizer):
    """Climbs, and steps from where it was with the gradient of there."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})
        self.base_optimizer = torch.optim.SGD(self.param_groups, lr=0.1)

    @torch.no_grad()
    def first_step(self, zero_grad: bool) -> None:
        self.start = [one.clone() for one in self.param_groups[0]["params"]]
        for one in self.param_groups[0]["params"]:
            one.add_(one.grad, alpha=0.05)
        self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad: bool) -> None:
        for one, start in zip(self.param_groups[0]["params"], self.start, strict=True):
            one.copy_(start)
        self.base_optimizer.step()
        self.zero_grad()


def texts() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    source = torch.Generator().manual_seed(2)
    while True:
        rows = torch.randint(0, 11, (2, 6), generator=source)
        yield rows[:, :-1], rows[:, 1:]


def plain(model: nn.Module | None = None, *, steps: bool = True) -> Names:
    """A loop over batches; `steps` says whether ``train_step`` makes the optimizer's, too.

    The names are those that the program has at last, a model of another name wrapped around this one included.
    """
    model = Tiny() if model is None else model
    names: Names = {"model": model, "loader": range(STEPS)}
    names["optimizer"] = torch.optim.AdamW(model.parameters(), lr=0.01)

    def train_step(batch: int) -> None:
        names["model"].zero_grad()
        loss_of(names["model"], batch).backward()
        if steps:
            names["optimizer"].step()

    names["train_step"] = train_step
    return names


def nano() -> Names:
    source = texts()
    x, y = next(source)
    counts = {"gradient_accumulation_steps": 2, "iter_num": 0, "max_iters": STEPS - 1}
    settings = {"weight_decay": 0.1, "learning_rate": 0.01, "beta1": 0.9, "beta2": 0.95, "device_type": "cpu"}
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    return (
        counts | settings | {"model": Talker(), "scaler": scaler, "X": x, "Y": y, "get_batch": lambda _: next(source)}
    )


def mini() -> Names:
    source = texts()

    def run(names: Names) -> None:
        one = names["Trainer"]()
        one.model, one.iter_num, one.next_batch = names["model"], 0, lambda: next(source)
        one.config = SimpleNamespace(max_iters=STEPS, grad_norm_clip=1.0)
        one.run()
        names["w"] = getattr(one, "watch", None)

    return {"model": Talker(), "then": run}


def trainer(monkeypatch: pytest.MonkeyPatch) -> Names:
    transformers = pytest.importorskip("transformers")
    monkeypatch.setitem(transformers.integrations.INTEGRATION_TO_CALLBACK, "wdyn", None)  # taken back at the end
    arguments = partial(
        transformers.TrainingArguments,
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        save_strategy="no",
        per_device_train_batch_size=2,
    )
    return {
        "model": Answering(),
        "Trainer": transformers.Trainer,
        "TrainingArguments": arguments,
        "args": arguments(output_dir="out", max_steps=STEPS, report_to="none"),
        "data": [{"tokens": row} for row in torch.arange(96).remainder(11).view(16, 6)],
    }


def lightning() -> Names:
    pl = pytest.importorskip("pytorch_lightning")

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = Tiny()

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return loss_of(self.model, index)

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=0.01)

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    made = partial(pl.Trainer, accelerator="cpu", devices=1, enable_checkpointing=False, **quiet)
    loader = torch.utils.data.DataLoader(torch.arange(STEPS))
    return {"L": SimpleNamespace(Trainer=made), "model": (module := Module()), "module": module, "loader": loader}


def accelerated() -> Names:
    accelerate = pytest.importorskip("accelerate")
    names = plain()
    names |= {"accelerator": accelerate.Accelerator(cpu=True)}
    return names


def adapted() -> Names:
    peft = pytest.importorskip("peft")
    names = plain()
    names |= {"get_peft_model": peft.get_peft_model, "LoraConfig": peft.LoraConfig}
    return names


def scaled() -> Names:
    names = plain(steps=False) | {"scaler": torch.amp.GradScaler("cpu", init_scale=64.0)}

    def train_step(batch: int) -> None:
        names["model"].zero_grad()
        names["scaler"].scale(loss_of(names["model"], batch)).backward()

    names |= {"train_step": train_step}
    return names


def several() -> Names:
    names = plain(steps=False)
    inner = list(names["model"].blocks.parameters())
    outer = [one for one in names["model"].parameters() if all(one is not other for other in inner)]
    names |= {"muon": torch.optim.SGD(inner, lr=0.1), "adamw": torch.optim.AdamW(outer, lr=0.01)}
    return names


def gan() -> Names:
    generator, critic = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    by_g, by_d = (torch.optim.Adam(one.parameters(), lr=0.01) for one in (generator, critic))
    source = torch.Generator().manual_seed(1)

    def critic_step(batch: int) -> None:
        by_d.zero_grad()
        made = generator(torch.randn(5, 3, generator=source)).detach()
        (critic(made) - critic(torch.randn(5, 4, generator=source))).mean().backward()
        by_d.step()

    def generator_step() -> None:
        by_g.zero_grad()
        (-critic(generator(torch.randn(5, 3, generator=source)))).mean().backward()
        by_g.step()

    names: Names = {"model": nn.ModuleList([generator, critic]), "generator": generator, "critic": critic}
    steps = {"critic_step": critic_step, "generator_step": generator_step, "loader": range(STEPS)}
    return names | steps | {"by_g": by_g, "by_d": by_d}


def lbfgs() -> Names:
    names = plain()
    optimizer = torch.optim.LBFGS(names["model"].parameters(), max_iter=2)

    def closure(batch: int) -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(names["model"], batch)
        loss.backward()
        return loss

    names |= {"optimizer": optimizer, "closure": closure}
    return names


def sam() -> Names:
    names = plain(steps=False)
    names |= {"sam": Sam(names["model"].parameters())}
    return names


def in_backward() -> Names:
    names = plain(steps=False)
    each = {one: torch.optim.SGD([one], lr=0.1) for one in names["model"].parameters()}

    def step_now(one: nn.Parameter) -> None:
        each[one].step()
        each[one].zero_grad()

    for one in each:
        one.register_post_accumulate_grad_hook(step_now)
    return names


def averaged() -> Names:
    names = plain(steps=False)
    names |= {"ema": AveragedModel(copy.deepcopy(names["model"]), multi_avg_fn=get_ema_multi_avg_fn(0.5))}
    return names


def compiled(monkeypatch: pytest.MonkeyPatch) -> Names:
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    return plain(steps=False)


SETTINGS: dict[str, Callable[..., Names]] = {
    "A plain loop, as in nanoGPT": nano,
    "A loop in a class, as in minGPT": mini,
    "Hugging Face Trainer": trainer,
    "Hugging Face Trainer 2": trainer,
    "Hugging Face Trainer 3": trainer,
    "Lightning": lightning,
    "accelerate": accelerated,
    "PEFT": adapted,
    "GradScaler, accumulation, schedulers, clipping": scaled,
    "Several optimizers, GANs": several,
    "Several optimizers, GANs 2": gan,
    "LBFGS": lbfgs,
    "SAM, and optimizers around others": sam,
    "No optimizer, or one inside the backward pass": in_backward,
    "What changes in mid-training": averaged,
    "torch.compile": compiled,
}
MAKES = {"Several optimizers, GANs 2": {"g.zarr", "d.zarr"}, "What changes in mid-training": {"run.zarr", "ema.zarr"}}
"""Runs that a block records; the others ``run.zarr``, wherever."""


def ran(program: str, setting: Callable[..., Names], monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Run one side from the same start; give the weights that it leaves."""
    torch.manual_seed(0)
    with monkeypatch.context() as undone:
        names = setting(undone) if setting in (trainer, compiled) else setting()
        names |= {"torch": torch, "wdyn": wdyn}
        model = names["model"]
        exec(compile(program, str(PAGE), "exec"), names)
        names.get("then", lambda names: None)(names)
        if names.get("w") is not None:
            names["w"].close()
    return {name: one.detach().clone() for name, one in model.named_parameters()}


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*isinstance.treespec, LeafSpec")
@pytest.mark.filterwarnings("ignore:.*Tip.*", "ignore:.*script_method:DeprecationWarning")
@pytest.mark.parametrize("section", SETTINGS)
def test_diff__runs_on_both_sides_records_and_trains_the_same(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    block = diffs_of(PAGE)[section]
    before = ran(side(block, "-"), SETTINGS[section], monkeypatch)
    assert not list(tmp_path.rglob("*.zarr"))
    after = ran(side(block, "+"), SETTINGS[section], monkeypatch)
    assert all(torch.equal(before[name], value) for name, value in after.items())
    found = list(tmp_path.rglob("*.zarr"))
    assert {one.name for one in found} == MAKES.get(section, {"run.zarr"})
    for one in found:
        run = wdyn.open_run(one)
        assert steps_of(run, "scalars") == list(range(STEPS + 1))
        assert not any("_orig_mod" in name for name in wdyn.parameters(run)["parameter"].values.tolist())


def test_page__has_no_diff_without_a_setting() -> None:
    assert set(diffs_of(PAGE)) == set(SETTINGS)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tie.*embedding.*")
        yield
