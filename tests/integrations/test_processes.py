"""Do trainers that start several processes record one run?"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import wdyn
from loops import steps_of

pytestmark = pytest.mark.long

TRAINER = """
import os, sys, torch, transformers
sys.path[:0] = [{tests!r}]
from wdyn.integrations.transformers import WdynCallback
from loops import Tiny

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Tiny()
        self.net.head = torch.nn.Linear(8, 11, bias=False)

    def forward(self, tokens):
        logits = self.net(tokens[:, :-1])
        return {{"loss": torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())}}

torch.manual_seed(0)
model = Model()
args = transformers.TrainingArguments(
    output_dir="out", max_steps=4, per_device_train_batch_size=2, use_cpu=True, ddp_backend="gloo", save_strategy="no",
    report_to="none", disable_tqdm=True, dataloader_pin_memory=False,
)
recording = WdynCallback("run.zarr", every=1, snapshots=1)
data = [{{"tokens": row}} for row in torch.arange(192).remainder(11).view(32, 6)]
transformers.Trainer(model=model, args=args, train_dataset=data, callbacks=[recording]).train()
"""

LIGHTNING = """
import sys, torch
import pytorch_lightning as pl
sys.path[:0] = [{tests!r}]
from wdyn.integrations.lightning import WdynCallback
from loops import Tiny, loss_of

class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = Tiny()

    def training_step(self, batch, index):
        return loss_of(self.net, 10 * self.global_rank + index)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01)

torch.manual_seed(0)
model = Module()
recording = WdynCallback("run.zarr", every=1, snapshots=1)
pl.Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_steps=4, logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, callbacks=[recording],
).fit(model, torch.utils.data.DataLoader(torch.arange(16)))
"""

LEFT = """
import os
left = model.state_dict(), recording.watch.state_dict(), recording.watch.committed
torch.save(left, "left" + os.environ["RANK"] + ".pt")
"""


@pytest.mark.parametrize(("library", "script"), [("transformers", TRAINER), ("pytorch_lightning", LIGHTNING)])
def test_two_processes__with_the_same_weights_are_recorded_by_the_first(
    library: str, script: str, tmp_path: Path
) -> None:
    pytest.importorskip(library)
    tests = Path(__file__).parents[1]
    (home,) = tests.rglob("loops.py")
    program = (script + LEFT).format(tests=str(home.parent))
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    started = []
    for rank in range(2):
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        told |= {"OMP_NUM_THREADS": 1, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "one"}
        environment = {**os.environ, **{name: str(value) for name, value in told.items()}}
        environment["PYTHONPATH"] = os.pathsep.join([str(tests.parent), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-c", program]
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True))
    told = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    assert not any("WdynWarning" in one for one in told)
    left = [torch.load(tmp_path / f"left{rank}.pt", weights_only=False) for rank in range(2)]
    assert [counted for _, counted, _ in left] == [{"step": 4}] * 2
    assert [committed for _, _, committed in left] == [4, -1]
    run = wdyn.open_run(tmp_path / "run.zarr")
    assert steps_of(run, "statistics/weights") == [0, 1, 2, 3, 4]
    kept = wdyn.state_dict(run, step=4)
    assert all(torch.equal(kept[name], value) for state, *_ in left for name, value in state.items())
