"""How do SGD, Adam and AdamW move a weight, with and without zero_grad, and is it the same in a transformer?

Run it: python examples/optimizers.py [directory] [--figures directory] [--short]

One weight goes from 0 towards a goal under squared error; then a small transformer learns text. Every claim about them
is measured on what wdyn recorded, and printed with its numbers, those that do not hold too.
"""

import argparse
import math
import tempfile
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from claims import Claim, check, tell
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional

import wdyn
from wdyn.demo.model import GPT, Shape
from wdyn.demo.text import batches, corpus

EPOCHS, RATE = 150, 0.1
GOALS = {"pi": math.pi, "5": 5.0}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": torch.optim.SGD,
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
}
# SGD learns faster at 1, but never as fast as Adam, and without reset it ends in NaN from 0.2 on.
TRANSFORMER_RATES = {"SGD": 0.1, "Adam": 3e-3, "AdamW": 3e-3}
COLOURS = {"SGD": "#0072B2", "Adam": "#D55E00", "AdamW": "#009E73"}
PILED = " without reset"


class Weight(nn.Module):
    """A model of one number."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1))


def chase(goal: float, make: Callable[..., torch.optim.Optimizer], to: Path, *, reset: bool = True) -> xr.DataTree:
    """Move one weight from 0 towards a goal, watched."""
    model = Weight()
    optimizer = make(model.parameters(), lr=RATE)
    with wdyn.watch(model, optimizer, to=to, every=1, snapshots=None, what=("weights",)):
        for _ in range(EPOCHS):
            if reset:
                optimizer.zero_grad()
            (model.value - goal).square().sum().backward()
            optimizer.step()
    return wdyn.open_run(to)


def learn(name: str, to: Path, *, steps: int, reset: bool = True, decay: float | None = None) -> xr.DataTree:
    """Train a small transformer on text, watched."""
    text = corpus()
    torch.manual_seed(0)
    model = GPT(Shape(alphabet=len(text.alphabet), layers=2, width=48, length=32, dropout=0.0))
    settings = {} if decay is None else {"weight_decay": decay}
    optimizer = OPTIMIZERS[name](model.parameters(), lr=TRANSFORMER_RATES[name], **settings)
    what = ("weights", "updates", "gradients", "moments")
    rows = wdyn.at(1, 2, 3, 4) | wdyn.every(5)  # close at first: whether gradients pile up shows in the first steps
    with wdyn.watch(model, optimizer, to=to, every=rows, snapshots=None, what=what) as w:
        for x, y in islice(batches(text.tokens, size=8, length=32, seed=0), steps):
            loss = functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
            if reset:
                optimizer.zero_grad()
            loss.backward()
            w.log(loss=loss)
            optimizer.step()
    return wdyn.open_run(to)


def paths(runs: dict[str, xr.DataTree]) -> xr.DataArray:
    """Give the weight of every run over its epochs: (run, step). Of one number the mean is the number."""
    return wdyn.statistics(wdyn.join_runs(**runs))["mean"].sel(parameter="value", drop=True)


def settled(path: xr.DataArray, goal: float) -> float:
    """Give the epoch from which on the weight stays within 1 % of the goal; infinite where it does not."""
    away = np.flatnonzero(np.abs(path.values - goal) > 0.01 * goal)
    return math.inf if away.size and away[-1] == path.size - 1 else float(away[-1] + 1)


def roughness(path: xr.DataArray) -> float:
    """Add up how much each step differs from the one before."""
    return float(np.abs(np.diff(path.values, 2)).sum())


def crossings(path: xr.DataArray, goal: float) -> int:
    """Count how often the weight passes its goal."""
    sign = np.sign(path.values - goal)
    return int((np.diff(sign[sign != 0]) != 0).sum())


def swing(path: xr.DataArray, goal: float) -> float:
    """Give how far from the goal the weight comes after it first passed it."""
    passed = np.flatnonzero(path.values > goal)
    return float(np.abs(path.values[passed[0] :] - goal).max()) if passed.size else 0.0


def sine_fit(path: xr.DataArray, goal: float) -> float:
    """Give R^2 of the sine that a sum of gradients makes of SGD.

    With e = w - goal and the gradients 2 e summed up, e[t+1] - 2 e[t] + e[t-1] = -2 lr e[t]: a sine of
    arccos(1 - lr) radians an epoch.
    """
    phase = math.acos(1 - RATE) * path["step"].values
    waves = np.stack([np.sin(phase), np.cos(phase)], axis=1)
    away = path.values - goal
    rest = away - waves @ np.linalg.lstsq(waves, away, rcond=None)[0]
    return float(1 - rest @ rest / (away @ away))


def listed(values: Iterable[tuple[str, object]]) -> str:
    """Write names with their numbers."""
    return ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values)


def claims_of_one_weight(label: str, goal: float, w: xr.DataArray, plain: xr.DataArray) -> list[Claim]:
    """Measure what is said of one weight; `plain` is its path under AdamW with no decay."""
    sgd, adam, adamw = (w.sel(run=name) for name in OPTIMIZERS)
    piled = {name: w.sel(run=name + PILED) for name in OPTIMIZERS}
    at = {name: settled(w.sel(run=name), goal) for name in OPTIMIZERS}
    over = {name: float(w.sel(run=name).max()) - goal for name in OPTIMIZERS}
    passed = {name: crossings(path, goal) for name, path in piled.items()}
    far = {name: swing(path, goal) for name, path in piled.items()}
    apart, decayed = float(np.abs(plain - adam).max()), float(adam[-1] - adamw[-1])
    fit = {name: sine_fit(path, goal) for name, path in piled.items()}
    period = 2 * math.pi / math.acos(1 - RATE)
    return [
        Claim(
            f"goal {label}: SGD is the fastest",
            at["SGD"] < min(at["Adam"], at["AdamW"]),
            f"within 1 % from epoch {listed(at.items())}",
        ),
        Claim(
            f"goal {label}: Adam is slower than SGD, and smoother",
            at["Adam"] > at["SGD"] and roughness(adam) < roughness(sgd),
            f"changes of step add up to {roughness(sgd):.3f} (SGD) and {roughness(adam):.3f} (Adam); "
            f"but Adam overshoots by {over['Adam']:.3f}, SGD by {max(0.0, over['SGD']):.3f}",
        ),
        Claim(
            f"goal {label}: AdamW without decay is Adam",
            apart == 0,
            f"largest difference {apart:g}; with its default decay of 0.01 it ends {decayed:.4f} lower",
        ),
        Claim(
            f"goal {label}: without reset SGD swings like a sine",
            fit["SGD"] > 0.99,
            f"R² {fit['SGD']:.6f} of a sine with a period of {period:.2f} epochs, as 2 pi / arccos(1 - lr) says",
        ),
        Claim(
            f"goal {label}: without reset Adam passes the goal less often than SGD, AdamW no more than Adam",
            passed["SGD"] > passed["Adam"] >= passed["AdamW"],
            f"times in {EPOCHS} epochs: {listed(passed.items())}",
        ),
        Claim(
            f"goal {label}: without reset Adam swings less far than SGD, and AdamW least far",
            far["SGD"] > far["Adam"] > far["AdamW"],
            f"farthest from the goal: {listed(far.items())}",
            known=label != "pi",
        ),
    ]


def one_weight(directory: Path, goals: dict[str, float]) -> tuple[list[Claim], dict[str, xr.DataArray]]:
    """Chase every goal with every optimizer; give the claims and the paths by goal."""
    claims, found = [], {}
    for label, goal in goals.items():
        runs = {
            name + ("" if reset else PILED): chase(goal, make, directory / f"{label}-{name}-{reset}.zarr", reset=reset)
            for name, make in OPTIMIZERS.items()
            for reset in (True, False)
        }

        def undecayed(weights: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
            return torch.optim.AdamW(weights, lr=lr, weight_decay=0)

        plain = paths({"plain": chase(goal, undecayed, directory / f"{label}-undecayed.zarr")}).isel(run=0)
        found[label] = paths(runs)
        claims += claims_of_one_weight(label, goal, found[label], plain)
    return claims, found


def losses(run: xr.DataTree) -> np.ndarray:
    """Give the loss of every step."""
    return run["scalars/loss"].dropna("step").values


def transformer(directory: Path, *, steps: int) -> tuple[list[Claim], dict[str, xr.DataTree]]:
    """Train the transformer with every optimizer; give the claims and the runs."""
    runs = {
        name + ("" if reset else PILED): learn(name, directory / f"gpt-{name}-{reset}.zarr", steps=steps, reset=reset)
        for name in OPTIMIZERS
        for reset in (True, False)
    }
    plain = losses(learn("AdamW", directory / "gpt-undecayed.zarr", steps=steps, decay=0.0))
    last = {name: float(losses(run)[-max(1, steps // 10) :].mean()) for name, run in runs.items()}
    rough = {name: float(np.abs(np.diff(losses(runs[name]), 2)).mean()) for name in OPTIMIZERS}
    apart = float(np.abs(plain - losses(runs["Adam"])).max())
    told = {
        name: next((one.message for one in wdyn.analyze(run, ["optimizer_state"]).findings if one.code == "OPT002"), "")
        for name, run in runs.items()
    }
    return [
        Claim(
            "transformer: SGD is the fastest",
            last["SGD"] < min(last["Adam"], last["AdamW"]),
            f"loss at the end {listed((name, last[name]) for name in OPTIMIZERS)}",
            known=False,
        ),
        Claim(
            "transformer: Adam is smoother than SGD",
            rough["Adam"] < rough["SGD"],
            f"mean change of the loss's step {listed(rough.items())}",
        ),
        Claim("transformer: AdamW without decay is Adam", apart == 0, f"largest difference of the loss {apart:g}"),
        Claim(
            "transformer: without reset every optimizer ends worse",
            all(last[name + PILED] > last[name] for name in OPTIMIZERS),
            f"loss at the end {listed((name, last[name + PILED]) for name in OPTIMIZERS)}",
        ),
        Claim(
            "transformer: wdyn names the missing reset of Adam and AdamW (OPT002), and of no run that has one",
            [name for name, message in told.items() if message] == [f"{name}{PILED}" for name in ("Adam", "AdamW")],
            "; ".join(f"{name}: {message}" for name, message in told.items() if message),
        ),
    ], runs


def draw(figures: Path, weights: dict[str, xr.DataArray], runs: dict[str, xr.DataTree]) -> None:
    """Save the paths of the weight, the losses, and the optimizer's state without reset."""
    figures.mkdir(parents=True, exist_ok=True)
    for label, w in weights.items():
        for suffix, title in (("", "with zero_grad"), (PILED, "without zero_grad")):
            figure, ax = new_figure(f"One weight from 0 to {label}, {title}")
            for name, colour in COLOURS.items():
                line(ax, w["step"].values, w.sel(run=name + suffix).values, colour, name)
            ax.axhline(GOALS[label], color="0.5", linewidth=0.8, linestyle="--")
            ax.set(xlabel="epoch", ylabel="weight")
            ax.legend(framealpha=1)
            figure.savefig(figures / f"weight-{label}{suffix.replace(' ', '-')}.png", dpi=120)
    for suffix, title in (("", "with zero_grad"), (PILED, "without zero_grad")):
        figure, ax = new_figure(f"A small transformer, {title}")
        for name, colour in COLOURS.items():
            loss = losses(runs[name + suffix])
            line(ax, np.arange(len(loss)), loss, colour, name)
        ax.set(xlabel="step", ylabel="loss")
        ax.legend(framealpha=1)
        figure.savefig(figures / f"transformer{suffix.replace(' ', '-')}.png", dpi=120)
    for name in ("Adam", "Adam" + PILED):
        state = wdyn.optimizer_state(runs[name])
        wdyn.plot(state).savefig(figures / f"state-{name.replace(' ', '-')}.png", dpi=120)


def new_figure(title: str) -> tuple[Figure, Axes]:
    """Make a figure of one panel that says what it shows."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    ax.set_title(title, loc="left", fontweight="bold")
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def line(ax: Axes, x: np.ndarray, y: np.ndarray, colour: str, label: str) -> None:
    """Draw a curve; AdamW is dashed, since it may lie on that of Adam."""
    ax.plot(x, y, color=colour, linewidth=1.4, linestyle="--" if label == "AdamW" else "-", label=label)


def main(directory: Path, *, figures: Path | None = None, short: bool = False) -> list[Claim]:
    """Run everything, print each claim with its numbers, and check that it came out as it is known to."""
    torch.set_num_threads(1)  # everything here is so small that a second thread would mostly wait
    claims, weights = one_weight(directory, {"pi": math.pi} if short else GOALS)
    more, runs = transformer(directory, steps=20 if short else 150)
    claims += more
    tell(claims)
    if figures is not None:
        draw(figures, weights, runs)
    if not short:
        check(claims)
    return claims


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path, help="where the runs go; default: nowhere that stays")
    parser.add_argument("--figures", type=Path, help="where to save figures")
    parser.add_argument("--short", action="store_true", help="one goal, and few steps for the transformer")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as nowhere:
        main(given.directory or Path(nowhere), figures=given.figures, short=given.short)
