"""What does a training cost with wdyn, or another tool, beside it? ``python -m benchmarks.overhead`` trains with each.

Every training is a process of its own, and the tools take turns.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import click
import torch

from benchmarks.alongside import CASES, Figures
from benchmarks.harness import Table, installed, options, publish, side_by_side
from benchmarks.subjects import SUBJECTS

ALONE = "nothing"
NEEDS = {"wandb.watch": "wandb", "TensorBoard": "tensorboard"}


def cases(*, every: int, peers: bool) -> dict[str, str]:
    """Give a heading for each tool that can be measured here."""
    often = "every step" if every == 1 else f"every {every} steps"
    headings = {
        "nothing": ALONE,
        "wdyn": "wdyn, default",
        "wdyn, each": f"wdyn, {often}",
        "wandb.watch": f'wandb.watch(log="all"), {often}',
        "TensorBoard": f"TensorBoard histograms, {often}",
        "torch.save": f"torch.save, {often}",
    }
    missing = {case for case, package in NEEDS.items() if not (peers and installed(package))}
    return {case: headings[case] for case in CASES if case not in missing}


def train(case: str, subject: str, *, steps: int, every: int) -> Figures:
    """Train in a new process."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.alongside", case, subject, f"--steps={steps}"]
    command += [f"--every={every}", f"--threads={torch.get_num_threads()}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise click.ClickException(f"{case} ended with {ended.returncode}:\n{ended.stderr}")
    return Figures(**json.loads(ended.stdout.splitlines()[-1]))


def table(title: str, found: Mapping[str, Sequence[Figures]]) -> Table:
    """Tabulate the medians over rounds."""
    columns = ("", "ms a step", "x nothing", "blocked ms a step", "once ms", "peak memory MB", "disk MB")
    alone = median(one.step for one in found[ALONE])
    rows = []
    for name, values in found.items():
        step, blocked, once, memory, disk = (
            median(getattr(one, what) for one in values) for what in ("step", "blocked", "once", "memory", "disk")
        )
        rows.append((name, 1e3 * step, step / alone, 1e3 * blocked, 1e3 * once, memory / 1e6, disk / 1e6))
    return Table(title, columns, tuple(rows), found)


@click.command()
@click.option("--subject", default="char-small-batch", show_default=True, type=click.Choice(list(SUBJECTS)))
@click.option("--steps", default=60, show_default=True, help="Steps that are timed, after two others.")
@click.option(
    "--every", default=1, show_default=True, help="Steps from one log to the next; wdyn's default is its own."
)
@options()
def main(subject: str, steps: int, every: int, rounds: int, peers: bool, file: Path | None) -> None:
    """Measure trainings with and without wdyn and other tools. Takes 7 minutes; longer for gpt2-small.

    "once" is to begin and to end, and the tool's time at the first two steps. Memory is that of the training process.
    """
    work = {
        heading: lambda case=case: train(case, subject, steps=steps, every=every)
        for case, heading in cases(every=every, peers=peers).items()
    }
    found = side_by_side(work, rounds=rounds, warm_up=False)
    title = f"{SUBJECTS[subject].title}, {steps} steps"
    publish([table(title, found)], file=file, rounds=rounds, subject=subject, steps=steps, every=every)


if __name__ == "__main__":
    main()
