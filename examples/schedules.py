"""What do learning-rate schedules do to the weights? Run it: python examples/schedules.py [--short] [directory].

Six schedules train two weights (loss -log softmax(w)_1, so that w_1 > w_2 is the goal) and a small transformer, with
gradients clipped by c / max(norm, c). What the formulas promise is asserted; what is only said of schedules is measured
and told as it is. Figures of the comparison: *convergence* is the loss on a fixed batch at the end; *roughness* is the
sum of all its changes over its net fall, 1 for a loss that only falls; *instability* is its largest rise above the
lowest value before.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from claims import Claim, check, tell
from scipy.optimize import brentq
from torch import Tensor, nn
from torch.nn import functional

import wdyn
from wdyn.demo.model import GPT, Shape
from wdyn.demo.text import batches, corpus

Share = Callable[[int], float]
"""The share of the peak rate that step t, counted from 0, uses."""

LIMIT = 0.5  # c
FOUR = ("linear", "cosine", "warmup + linear", "warmup + cosine")


def cosine(t: int, steps: int, *, cycles: float = 0.5, floor: float = 0.0) -> float:
    """lr_min + (lr_max - lr_min) / 2 (1 + cos(2 pi C t / T)), as a share of lr_max; plain decay is C = 1/2."""
    return floor + (1 - floor) / 2 * (1 + math.cos(2 * math.pi * cycles * t / steps))


def linear(t: int, steps: int) -> float:
    """Fall to 0 in a line, and stay there."""
    return max(0.0, 1 - t / steps)


def after_warmup(decay: Share, warmup: int) -> Share:
    """Rise in a line for `warmup` steps, then decay."""
    return lambda t: (t + 1) / (warmup + 1) if t < warmup else decay(t - warmup)


def schedules(steps: int) -> dict[str, Share]:
    """Give the six schedules of one training."""
    warmup = steps // 10
    rest = steps - warmup
    return {
        "none": lambda t: 1.0,
        "linear": lambda t: linear(t, steps),
        "cosine": lambda t: cosine(t, steps),
        "cosine, C = 2.5": lambda t: cosine(t, steps, cycles=2.5, floor=0.1),
        "warmup + linear": after_warmup(lambda t: linear(t, rest), warmup),
        "warmup + cosine": after_warmup(lambda t: cosine(t, rest), warmup),
    }


class TwoWeights(nn.Module):
    """Two scores, the first of which is to be the larger one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self) -> Tensor:
        """-log softmax(w)_1."""
        return -functional.log_softmax(self.weight, dim=0)[0]


def clip(model: nn.Module, w: wdyn.Watch) -> None:
    """Scale all gradients by c / max(norm, c), and tell the watch."""
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(one) for one in gradients]))
    coefficient = LIMIT / torch.clamp(norm, min=LIMIT)
    for one in gradients:
        one.mul_(coefficient)
    w.log(grad_norm=norm, clip_coefficient=coefficient)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    share: Share,
    losses: Iterator[Tensor],
    *,
    to: Path,
    steps: int,
    every: Callable[[int], bool],
) -> xr.DataTree:
    """Take `steps` steps, watched; `losses` computes the loss of the present weights when asked."""
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    what = ("weights", "updates", "gradients", "displacement")
    with wdyn.watch(model, optimizer, to=to, every=every, what=what, snapshots=None) as w:
        for _ in range(steps):
            loss = next(losses)
            optimizer.zero_grad()
            loss.backward()
            clip(model, w)
            w.log(loss=loss)
            optimizer.step()
            scheduler.step()
    return wdyn.open_run(to)


def train_two(share: Share, *, to: Path, steps: int) -> xr.DataTree:
    """Train the two weights with SGD, in float64."""
    model = TwoWeights()
    losses = (model() for _ in range(steps))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return train(model, optimizer, share, losses, to=to, steps=steps, every=wdyn.every(1))


def train_transformer(share: Share, *, to: Path, steps: int, seed: int) -> tuple[xr.DataTree, np.ndarray]:
    """Train a small transformer on characters with Adam; give also the loss on a fixed batch after each step."""
    text = corpus()
    torch.manual_seed(seed)
    model = GPT(Shape(alphabet=len(text.alphabet), length=32, layers=2, width=32, heads=2, dropout=0.0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    fixed_x, fixed_y = next(batches(text.tokens, size=32, length=32, seed=12345))
    seen: list[float] = []

    def losses() -> Iterator[Tensor]:
        for x, y in batches(text.tokens, size=16, length=32, seed=seed):
            with torch.no_grad():
                seen.append(functional.cross_entropy(model(fixed_x).flatten(0, 1), fixed_y.flatten()).item())
            yield functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

    every = wdyn.every(1) if seed == 0 else wdyn.at(0)  # the other seeds are there for their losses
    run = train(model, optimizer, share, losses(), to=to, steps=steps, every=every)
    return run, np.array(seen)


def flow(total: float) -> float:
    """How far gradient flow moves the two weights while the rates sum up to `total`.

    With d = w_1 - w_2 the gradient is sqrt(2) / (1 + e^d) long. While that is above c, d grows by sqrt(2) c for each
    unit of the sum; afterwards d + e^d grows by 2. The weights move by d / sqrt(2).
    """
    border = math.log(math.sqrt(2) / LIMIT - 1)
    clipped = min(total, border / (math.sqrt(2) * LIMIT))
    begin = math.sqrt(2) * LIMIT * clipped
    goal = begin + math.exp(begin) + 2 * (total - clipped)
    return float(brentq(lambda d: d + math.exp(d) - goal, 0.0, goal)) / math.sqrt(2)


def recognised(name: str, measured: xr.Dataset, *, steps: int) -> bool:
    """Whether the analyzer found the schedule that was set, its warmup within one step, and its C."""
    one = measured.isel(group=0)
    kind = "cosine" if "cosine" in name else "linear" if "linear" in name else "constant"
    cycles = 2.5 if "2.5" in name else 0.5
    warmup = steps // 10 if "warmup" in name else 0
    return (
        str(one["schedule"].item()) == kind
        and abs(float(one["warmup"]) - warmup) <= 1
        and (kind != "cosine" or abs(float(one["cycles"]) - cycles) < 1e-3)
    )


def about_two_weights(directory: Path, *, steps: int) -> list[Claim]:
    """Check on the two weights what the formulas promise."""
    runs = {name: train_two(share, to=directory / f"two-{name}.zarr", steps=steps)
            for name, share in schedules(steps).items()}  # fmt: skip
    measured = {name: wdyn.learning_rate(run) for name, run in runs.items()}
    known = sum(recognised(name, one, steps=steps) for name, one in measured.items())
    off = max(
        abs(float(one["displacement"][-1, 0]) / flow(float(one["lr_sum"][-1, 0])) - 1) for one in measured.values()
    )
    ledger = [_ledger_is_right(run, measured[name]) for name, run in runs.items()]
    within = [_in_bounds(run, measured[name], largest_step=LIMIT) for name, run in runs.items()]
    shares = ", ".join(f"{name} {float(one['clipped_share']):.0%}" for name, one in measured.items())
    return [
        Claim("Two weights: schedule, warmup and C are recognised from the rates", known == len(runs), f"{known} of 6"),
        Claim(
            "Two weights: displacement is what the sum of lr alone predicts (gradient flow)",
            off < 0.02,
            f"off by {off:.2%} at most",
        ),
        Claim("Two weights: exactly the steps with norm > c are clipped", all(ledger), shares),
        Claim(
            "Two weights: |w| < max |w_0| + c sum(lr) and |g| <= c",
            all(within),
            f"largest |w| {max(float(one['weight_bound'].max()) for one in measured.values()):.3g}",
        ),
        _zero_freezes(train_two(lambda t: linear(t, steps // 2), to=directory / "short.zarr", steps=steps), steps),
        _horizon_beyond(train_two(lambda t: cosine(t, 2 * steps), to=directory / "long.zarr", steps=steps), steps),
    ]


def _ledger_is_right(run: xr.DataTree, measured: xr.Dataset) -> bool:
    """Compare the ledger with the norms of the gradients that the optimizer saw."""
    norm, coefficient = measured["grad_norm"].values[:-1], measured["clip_coefficient"].values[:-1]
    tables = wdyn.parameters(run)
    owners = tables["parameter"].values[tables["tied_to"].values == ""]
    used = np.sqrt((wdyn.statistics(run, "gradients")["l2"].sel(parameter=owners) ** 2).sum("parameter"))[1:]
    return bool(
        np.array_equal(norm > LIMIT, coefficient < 1)
        and np.allclose(used, np.minimum(norm, LIMIT), rtol=1e-5)
        and math.isclose(float(measured["clipped_share"]), float((norm > LIMIT).mean()), abs_tol=1e-9)
    )


def _in_bounds(run: xr.DataTree, measured: xr.Dataset, *, largest_step: float) -> bool:
    """Whether no weight is further than its steps can have brought it, and no gradient is above c."""
    reach = largest_step * float(measured["lr_sum"][-1].max())
    first = float(wdyn.statistics(run)["abs_max"].isel(step=0).max())
    limits = {"weight_limit": first + reach, "gradient_limit": LIMIT * (1 + 1e-6)}
    return not any(found.code == "SCH011" for found in wdyn.learning_rate.judge(measured, **limits))


def _zero_freezes(run: xr.DataTree, steps: int) -> Claim:
    measured = wdyn.learning_rate(run)
    after = measured.sel(step=slice(steps // 2 + 1, None))
    largest = float(after["update_norm"].max())
    told = "SCH006" in {found.code for found in wdyn.learning_rate.judge(measured)}
    held = bool((after["lr"] == 0).all()) and largest == 0 and told
    return Claim("lr = 0 freezes the weights", held, f"largest update in {after.sizes['step']} such steps: {largest:g}")


def _horizon_beyond(run: xr.DataTree, steps: int) -> Claim:
    measured = wdyn.learning_rate(run)
    one = measured.isel(group=0)
    share = float(one["lr"][-1] / one["peak"])
    told = "SCH004" in {found.code for found in wdyn.learning_rate.judge(measured)}
    held = told and share > 0.4 and abs(float(one["horizon"]) - 2 * steps) < 1
    return Claim("A horizon of twice the training keeps lr > 0", held, f"{share:.0%} of the peak at the last step")


@dataclass(frozen=True)
class Figures:
    """What is compared; means over the seeds."""

    convergence: float
    roughness: float
    instability: float
    spread: float

    @classmethod
    def of(cls, losses: np.ndarray) -> Figures:
        """Compute them from the losses on the fixed batch, (seed, step)."""
        changes = np.abs(np.diff(losses)).sum(axis=1) / (losses[:, 0] - losses[:, -1])
        rises = (losses - np.minimum.accumulate(losses, axis=1)).max(axis=1)
        ends = losses[:, -1]
        return cls(float(ends.mean()), float(changes.mean()), float(rises.mean()), float(ends.std()))


def about_a_transformer(directory: Path, *, steps: int, seeds: int) -> list[Claim]:
    """Train the transformer with each schedule; print the comparison."""
    figures, runs = {}, {}
    for name, share in schedules(steps).items():
        losses = []
        for seed in range(seeds):
            run, seen = train_transformer(share, to=directory / f"{name}-{seed}.zarr", steps=steps, seed=seed)
            losses.append(seen)
            runs.setdefault(name, run)
        figures[name] = Figures.of(np.array(losses))
    measured = {name: wdyn.learning_rate(run) for name, run in runs.items()}
    _print_table(figures, measured)
    return [*_promised(runs, measured, steps=steps), *_said(figures)]


def _promised(runs: dict[str, xr.DataTree], measured: dict[str, xr.Dataset], *, steps: int) -> list[Claim]:
    known = sum(recognised(name, one, steps=steps) for name, one in measured.items())
    sums = [float(one["lr_sum"][-1, 0]) for one in measured.values()]
    ways = [float(one["displacement"][-1, 0]) for one in measured.values()]
    paths = [float(one["path_length"][-1, 0]) for one in measured.values()]
    # One step of Adam moves a weight by at most lr (1 - beta1) / sqrt(1 - beta2) (Kingma and Ba, 2015).
    largest = (1 - 0.9) / math.sqrt(1 - 0.999)
    within = [_in_bounds(run, measured[name], largest_step=largest) for name, run in runs.items()]
    ledger = [_ledger_is_right(run, measured[name]) for name, run in runs.items()]
    by_path, by_way = np.corrcoef(sums, paths)[0, 1], np.corrcoef(sums, ways)[0, 1]
    off = max(float(one["path_off"][0]) for one in measured.values())
    return [
        Claim("Transformer: schedule, warmup and C are recognised", known == len(measured), f"{known} of 6"),
        Claim(
            "Transformer: path and displacement grow with the sum of lr, over the schedules",
            bool(by_path > 0.9 and by_way > 0.5),
            f"correlation {by_path:.3f} of the path, {by_way:.3f} of the displacement",
        ),
        Claim(
            "Transformer: within a run the path follows the sum of lr",
            off < 0.25,
            f"shares {off:.2f} apart at most",
        ),
        Claim("Transformer: exactly the steps with norm > c are clipped", all(ledger), f"{sum(ledger)} of 6 ledgers"),
        Claim("Transformer: |w| < max |w_0| + 3.2 sum(lr) and |g| <= c", all(within), f"{sum(within)} of 6 runs"),
    ]


def _said(figures: dict[str, Figures]) -> list[Claim]:
    """Judge what is often said of the four; no formula promises any of it."""

    def mean(of: str, names: tuple[str, str]) -> float:
        return sum(getattr(figures[name], of) for name in names) / 2

    def less(text: str, of: str, small: tuple[str, str], large: tuple[str, str]) -> Claim:
        a, b = mean(of, small), mean(of, large)
        return Claim(text, a < b, f"{of} {a:.3g} against {b:.3g}", known=None)

    linears, cosines = ("linear", "warmup + linear"), ("cosine", "warmup + cosine")
    best = min(FOUR, key=lambda name: figures[name].convergence)
    return [
        less("Said: a cosine ends lower than a line", "convergence", cosines, linears),
        less("Said: a cosine is smoother than a line", "roughness", cosines, linears),
        less("Said: warmup makes training stabler", "instability", FOUR[2:], FOUR[:2]),
        less("Said: warmup ends lower than none", "convergence", FOUR[2:], FOUR[:2]),
        Claim("Said: warmup + cosine ends lowest of the four", best == "warmup + cosine", f"lowest: {best}", None),
        Claim(
            "Said: any decay ends lower than a constant rate",
            all(figures[name].convergence < figures["none"].convergence for name in FOUR),
            f"constant {figures['none'].convergence:.3f}, {best} {figures[best].convergence:.3f}",
            known=None,
        ),
    ]


def _print_table(figures: dict[str, Figures], measured: dict[str, xr.Dataset]) -> None:
    print("| schedule | convergence | seeds ± | roughness | instability | sum of lr | displacement | clipped |")
    print("|---|---|---|---|---|---|---|---|")
    for name, one in figures.items():
        of = measured[name]
        print(
            f"| {name} | {one.convergence:.3f} | {one.spread:.3f} | {one.roughness:.2f} | {one.instability:.3f} "
            f"| {float(of['lr_sum'][-1, 0]):.3f} | {float(of['displacement'][-1, 0]):.2f} "
            f"| {float(of['clipped_share']):.0%} |"
        )


def main(arguments: list[str] | None = None) -> list[Claim]:
    """Run all of it; give the claims. Those that no formula promises begin with "Said"."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, help="where the runs go; default: nowhere that lasts")
    parser.add_argument("--short", action="store_true", help="a few seconds instead of a minute")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    steps_of_two, steps, seeds = (60, 20, 1) if options.short else (200, 150, 3)
    with tempfile.TemporaryDirectory() as scratch:
        directory = options.directory or Path(scratch)
        claims = about_two_weights(directory, steps=steps_of_two)
        claims += about_a_transformer(directory, steps=steps, seeds=seeds)
    print()
    tell(claims)
    check(claims)
    return claims


if __name__ == "__main__":
    main()
