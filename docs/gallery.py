"""Draws the figures of docs/gallery.md, and the pages that its screenshots show: ``python docs/gallery.py FOLDER``.

Three small GPTs learn to count, each at a learning rate of its own, a fourth fails to, and two processes teach a fifth
together: a minute or two in all.
"""

from __future__ import annotations

import argparse
import io
import math
from pathlib import Path

import torch
import torch.distributed as dist
from PIL import Image
from torch.nn import functional

import wdyn
from wdyn.demo.model import GPT, Shape

HERE = Path(__file__).parent
STEPS, WARMUP = 300, 30
DPI = 75
COLOURS = 200


def factor(step: int) -> float:
    """Warm the learning rate up in a line, then let it fall along half a cosine to a tenth."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    return 0.55 + 0.45 * math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP))


def train(to: Path, *, rate: float = 1e-3, seed: int = 0, spoilt: int = STEPS) -> None:
    """Teach a small GPT to count, the learning rate warming up and falling; at step `spoilt` one gradient is NaN."""
    torch.manual_seed(seed)
    model = GPT(Shape(alphabet=16, length=32, layers=6, width=32, dropout=0.0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    what = ("weights", "updates", "gradients", "moments")
    with wdyn.watch(model, optimizer, to=to, every=2, snapshots=30, what=what) as watch:
        for step in range(STEPS):
            tokens = (torch.randint(16, (8, 1)) + torch.arange(33)) % 16
            loss = functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            if step == spoilt:
                model.lm_head.weight.grad[0] = math.nan
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            watch.log(loss=loss.item())
            optimizer.step()
            schedule.step()


def train_copies(rank: int, to: Path) -> None:
    """Be one of two processes that average their gradients, but from step 60 on those of layer 3 no more."""
    store = to.with_suffix(".store").absolute()
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = GPT(Shape(alphabet=16, length=32, layers=6, width=32, dropout=0.0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    torch.manual_seed(rank)
    with wdyn.watch(model, optimizer, to=to, every=2, check_replicas=True):
        for step in range(100):
            tokens = (torch.randint(16, (8, 1)) + torch.arange(33)) % 16
            loss = functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            for name, one in model.named_parameters():
                if step < 60 or not name.startswith("h.3."):
                    dist.all_reduce(one.grad, dist.ReduceOp.SUM)
                    one.grad /= 2
            optimizer.step()
    dist.destroy_process_group()


def save(figure: object, name: str) -> None:
    """Keep a figure as a picture of few colours."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")  # type: ignore[attr-defined]
    Image.open(buffer).convert("RGB").quantize(COLOURS).save(HERE / "gallery" / f"{name}.png", optimize=True)


def main() -> None:
    """Train, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="Where the runs and the page go.")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    (HERE / "gallery").mkdir(exist_ok=True)
    runs = {"slow": 3e-4, "usual": 1e-3, "fast": 1e-2}
    for label, rate in runs.items():
        train(folder / f"{label}.zarr", rate=rate)
    opened = {label: wdyn.open_run(folder / f"{label}.zarr") for label in runs}
    run = opened["usual"]
    train(folder / "spoilt.zarr", spoilt=200)
    for name in ("usual", "spoilt"):
        page = wdyn.analyze(wdyn.open_run(folder / f"{name}.zarr")).to_html()
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    for measure in (wdyn.init_audit, wdyn.tied_weights, wdyn.depth_growth, wdyn.distribution, wdyn.movement,
                    wdyn.update_sizes, wdyn.learning_rate, wdyn.optimizer_state):  # fmt: skip
        save(wdyn.plot(measure(run)), measure.name)
    save(wdyn.plot(wdyn.compare_runs(wdyn.join_runs(**opened))), "compare_runs")
    torch.multiprocessing.spawn(train_copies, (folder / "copies.zarr",), nprocs=2)
    save(wdyn.plot(wdyn.replicas(wdyn.open_run(folder / "copies.zarr"))), "replicas")


if __name__ == "__main__":
    main()
