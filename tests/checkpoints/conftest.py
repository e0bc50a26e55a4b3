"""Saved models as the real libraries write them, each small and made once."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import traceback
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

SETTINGS = {
    "vocab_size": 31, "n_embd": 8, "n_head": 2, "n_layer": 2, "n_positions": 8, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip


@contextlib.contextmanager
def at_rest():
    """Let other libraries say what they like: these tests are of what they write."""
    logging.disable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="session")
def gpt2():
    """A tiny GPT-2 with its tied head, as transformers makes it."""
    import transformers

    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**SETTINGS))


@pytest.fixture(scope="session")
def hf_folder(gpt2, tmp_path_factory):
    """What ``save_pretrained`` writes, in one file."""
    place = tmp_path_factory.mktemp("hf") / "model"
    with at_rest():
        gpt2.save_pretrained(place)
    return place


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """What transformers' Trainer leaves behind, and the live models at each of its checkpoints."""
    import transformers

    place = tmp_path_factory.mktemp("trainer") / "out"
    torch.manual_seed(1)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SETTINGS))
    live: dict[int, tuple[dict[str, torch.Tensor], dict[str, dict[str, torch.Tensor]]]] = {}

    class Keep(transformers.TrainerCallback):
        def on_save(self, args, state, control, *, model, optimizer, **_):
            weights = {name: value.clone() for name, value in model.state_dict().items()}
            held = optimizer.state
            moments = {
                key: {name: held[one][key].clone() for name, one in model.named_parameters()}
                for key in ("exp_avg", "exp_avg_sq")
            }
            live[state.global_step] = weights, moments

    tokens = torch.randint(0, 31, (24, 8))
    data = [{"input_ids": row, "labels": row} for row in tokens]
    with at_rest():
        arguments = transformers.TrainingArguments(
            output_dir=str(place), max_steps=6, save_steps=2, logging_steps=1, per_device_train_batch_size=4,
            weight_decay=0.1, learning_rate=1e-2, warmup_steps=2, report_to=[], use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        transformers.Trainer(model, arguments, train_dataset=data, callbacks=[Keep()]).train()
    return place, live


class Small(nn.Module):
    """A net with what real files hold beside weights: buffers, an int64 counter, and a tie."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.second = nn.Linear(6, 4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(torch.relu(self.norm(self.first(x)))))


def trained_small(steps: int = 3) -> tuple[Small, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Small()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    return model, optimizer


@pytest.fixture
def small():
    """A model and its optimizer after three steps."""
    return trained_small()


@pytest.fixture(scope="session")
def lightning(tmp_path_factory):
    """A fitted LightningModule, and the files of its two checkpoints."""
    library = pytest.importorskip("pytorch_lightning", reason="pip install pytorch-lightning")
    place = tmp_path_factory.mktemp("lightning")

    class Net(library.LightningModule):
        def __init__(self, width):
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Linear(width, 1))

        def training_step(self, batch, index):
            return self.net(batch).square().mean()

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    each = library.callbacks.ModelCheckpoint(dirpath=place, save_top_k=-1, every_n_epochs=1)
    with at_rest():
        model = Net(8)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        trainer = library.Trainer(max_epochs=2, callbacks=[each], default_root_dir=place, **quiet)
        trainer.fit(model, torch.utils.data.DataLoader(torch.randn(16, 4), batch_size=4))
    return model, sorted(place.glob("*.ckpt"))


@pytest.fixture
def save(tmp_path):
    """Save something with ``torch.save`` under a name in a folder of this test; give the path."""

    def write(content: object, name: str = "model.pt", **settings: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, path, **settings)
        return path

    return write


@pytest.fixture
def killed():
    """Do what must end by SIGKILL, in a forked child: one that is started anew would first import everything."""

    def do(deadly):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
            child = os.fork()
        if child == 0:
            try:
                signal.alarm(100)  # or wait for ever, where it hangs
                deadly()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    return do


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors have the same bits."""
    flat = (tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(*flat)


@pytest.fixture
def quiet():
    """A block in which other libraries may say what they like."""
    return at_rest


@pytest.fixture(name="same")
def same_bits():
    """Whether two tensors have the same bits."""
    return same
