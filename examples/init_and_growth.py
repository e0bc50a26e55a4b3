"""Does a GPT begin as its code says, and how do its q, k and v widen while it trains?

Run it: python examples/init_and_growth.py [directory] [--figures directory] [--short]

A GPT-style model is initialised with `self.apply` and its head tied to its embedding; then it learns a text. Every
claim about its first values and about its growth is measured on what wdyn recorded, and printed with its numbers, those
that do not hold too.
"""

import argparse
import math
import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from claims import Claim, check, tell
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional

import wdyn
from wdyn.demo.text import batches, corpus
from wdyn.plots.palette import layer_colours

EPOCHS, SHORT_EPOCHS, EVERY = 300, 20, 50
CHARACTERS, BATCH = 2048, 16
LINEAR_STD = 0.02
ROLES = ("qkv", "q", "k", "v", "o", "mlp_up", "mlp_down")
TOO_CLOSE = "o"  # in whose layers growth is so alike early on that it may come out either way


@dataclass(frozen=True)
class Shape:
    """How large a GPT is."""

    alphabet: int
    length: int = 32
    layers: int = 6
    width: int = 48
    heads: int = 4

    @property
    def xavier(self) -> float:
        """The std that `xavier_normal_` gives the embedding of positions: sqrt(2 / (length + width))."""
        return math.sqrt(2 / (self.length + self.width))


class Attention(nn.Module):
    """Causal self-attention with q, k and v in one matrix."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.proj = nn.Linear(shape.width, shape.width)
        self.heads = shape.heads

    def forward(self, x: Tensor) -> Tensor:
        """Mix earlier positions into each one: (batch, length, width) -> the same."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention, then an MLP, each added to what came in."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.attn = Attention(shape)
        self.mlp = nn.Sequential(
            nn.Linear(shape.width, 4 * shape.width), nn.GELU(), nn.Linear(4 * shape.width, shape.width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Refine each position: (batch, length, width) -> the same."""
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    """A decoder-only language model whose head is tied to its embedding after both were initialised."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tok = nn.Embedding(shape.alphabet, shape.width)
        self.pos = nn.Embedding(shape.length, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.ln = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.alphabet, bias=False)
        self.apply(initialise)
        self.tok.weight = self.head.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Score each next character: (batch, length) -> (batch, length, alphabet)."""
        x = self.tok(tokens) + self.pos(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln(x))


def initialise(module: nn.Module) -> None:
    """Give one module its first values: a linear layer normal ones, an embedding Xavier's."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, mean=0.0, std=LINEAR_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.xavier_normal_(module.weight)


def begin(shape: Shape, to: Path) -> xr.DataTree:
    """Record the first values of a model, and nothing else."""
    torch.manual_seed(0)
    with wdyn.watch(GPT(shape), to=to, every=1):
        pass
    return wdyn.open_run(to)


def train(to: Path, *, epochs: int) -> tuple[xr.DataTree, int]:
    """Train a model, watched; give its run, and the steps of an epoch."""
    text = corpus()
    shape = Shape(alphabet=len(text.alphabet))
    torch.manual_seed(0)
    model = GPT(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    epoch = CHARACTERS // (BATCH * shape.length)
    pieces = batches(text.tokens[:CHARACTERS], size=BATCH, length=shape.length, seed=0)
    rows, kept = wdyn.every(5 * epoch), wdyn.every(EVERY * epoch)
    with wdyn.watch(model, optimizer, to=to, every=rows, snapshots=kept) as w:
        for x, y in islice(pieces, epochs * epoch):
            loss = functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
            optimizer.zero_grad()
            loss.backward()
            w.log(loss=loss)
            optimizer.step()
    return wdyn.open_run(to), epoch


def near(found: float, meant: float, count: int) -> bool:
    """Whether a std of `count` normal values fits, within four standard errors, sigma / sqrt(2 N)."""
    return abs(found - meant) < 4 * meant / math.sqrt(2 * count)


def claims_of_first_values(run: xr.DataTree, shape: Shape) -> list[Claim]:
    """Audit what a model began with."""
    first = wdyn.statistics(run).isel(step=0)
    audit = wdyn.init_audit(run)
    biases = first.isel(parameter=np.flatnonzero((first["kind"] == "bias") & (first["role"] != "norm")))
    linear = first.isel(parameter=np.flatnonzero(first["role"].isin(["qkv", "o", "mlp_up", "mlp_down"])))
    linear = linear.isel(parameter=np.flatnonzero(linear["kind"] == "weight"))
    low, high = float(linear["std"].min()), float(linear["std"].max())
    fits = [near(*pair) for pair in zip(linear["std"].values, [LINEAR_STD] * 99, linear["count"].values, strict=False)]
    pos, tok = first.sel(parameter="pos.weight"), first.sel(parameter="tok.weight")
    alone = math.sqrt(2 / (shape.alphabet + shape.width))
    size = f"width {shape.width}, length {shape.length}"
    rules = ", ".join(
        f"{name} {str(audit['rule'].sel(parameter=name).values)!r}" for name in ("pos.weight", "tok.weight")
    )
    return [
        Claim(
            f"{size}: every bias of a linear layer is 0",
            bool((biases["abs_max"] == 0).all()),
            f"largest of {biases.sizes['parameter']} biases: {float(biases['abs_max'].max()):g}",
        ),
        Claim(
            f"{size}: linear and MLP weights have std 0.02",
            all(fits),
            f"{low:.5f} to {high:.5f} in {linear.sizes['parameter']} matrices",
        ),
        Claim(
            f"{size}: positions keep Xavier's std, here {shape.xavier:.3f}",
            near(float(pos["std"]), shape.xavier, int(pos["count"])),
            f"{float(pos['std']):.4f} for sqrt(2 / (length + width)) = {shape.xavier:.4f}",
        ),
        Claim(
            f"{size}: tokens have 0.02, since the head's weight is assigned",
            near(float(tok["std"]), LINEAR_STD, int(tok["count"])),
            f"{float(tok['std']):.4f}; Xavier's would be {alone:.4f}; rules found: {rules}",
        ),
    ]


def listed(values: xr.DataArray, form: str = ".2f") -> str:
    """Write a number for each layer, the first first."""
    return " ".join(f"{value:{form}}" for value in values.values)


def claims_of_growth(run: xr.DataTree, epoch: int, *, known: bool) -> list[Claim]:
    """Measure how q, k and v widened."""
    spread, depth = wdyn.distribution(run), wdyn.depth_growth(run)
    qkv = spread.sel(role="qkv").dropna("layer", how="all", subset=["std"])
    begin, end = qkv.isel(step=0), qkv.isel(step=-1)
    far = [float((one["tail_weight"] * one["count"]).sum() / one["count"].sum()) for one in (begin, end)]
    claims = [
        Claim(
            "qkv is narrow around 0 at first",
            bool((np.abs(begin["std"] - LINEAR_STD) < 0.001).all() and (np.abs(begin["mean"]) < 0.001).all()),
            f"std {listed(begin['std'], '.4f')}, mean within {float(np.abs(begin['mean']).max()):.5f}",
        ),
        Claim(
            "qkv is wider later, in every layer",
            bool((end["std_ratio"] > 1).all()),
            f"std × {listed(end['std_ratio'])} by layer; moved by W1 {listed(end['wasserstein'], '.3f')}",
        ),
        Claim(
            "qkv has longer tails later, in every layer",
            bool((end["kurtosis"] > begin["kurtosis"]).all()),
            f"kurtosis {listed(begin['kurtosis'])} to {listed(end['kurtosis'])} by layer; beyond 4 rms {far[0]:.1e} to "
            f"{far[1]:.1e}",
            known=known,
        ),
    ]
    for role in ROLES:
        claims += claims_by_layer(depth.sel(role=role), epoch)
    return claims


def claims_by_layer(one: xr.Dataset, epoch: int) -> list[Claim]:
    """Measure in which layers a role widened most, early on and at the end, and which end began."""
    role, last = one["role"].item(), int(one["step"][-1])
    claims = []
    for step in sorted({min(EVERY * epoch, last), last}):
        growth, trend = one["growth"].sel(step=step), float(one["correlation"].sel(step=step))
        half, first, early = growth.size // 2, int(growth.argmax("layer")), step < last
        ahead = float(growth[:half].mean() / growth[half:].mean())
        when, numbers = f"{role}, {step // epoch} epochs", f"std × {listed(growth)} by layer"
        claims += [
            Claim(
                f"{when}: the early half of the layers has widened more",
                ahead > 1,
                f"{numbers}; × {ahead:.2f} as much as the late half; rank correlation with layer {trend:.2f}",
                known=None if early and role == TOO_CLOSE else early,
            ),
            Claim(
                f"{when}: the layer nearest the embedding has widened most",
                first == 0,
                f"{numbers}; most in layer {first}",
                known=early,
            ),
        ]
    lead = float(one["lead"]) / epoch
    numbers = f"half of their growth is done {lead:.0f} epochs before that of the late ones"
    return [*claims, Claim(f"{role}: early layers move first", lead > 0, numbers)]


def draw(figures: Path, run: xr.DataTree, epoch: int) -> None:
    """Save histograms of every layer's qkv each 50 epochs, std by layer, and wdyn's own figures."""
    figures.mkdir(parents=True, exist_ok=True)
    weights = wdyn.select(run, role="qkv")
    reach = float(np.abs(weights.isel(step=-1)).quantile(0.999))
    layers = layer_colours(weights["layer"].values.tolist())
    for at, step in enumerate(weights["step"].values.tolist()):
        figure, ax = new_figure(f"qkv after {step // epoch} epochs", "weight", "density, log scale")
        for layer, colour in layers.items():
            values = weights.isel(step=at).sel(layer=layer).values.ravel()
            ax.hist(values, np.linspace(-reach, reach, 81), density=True, histtype="step", color=colour, label=layer)
        ax.set_yscale("log")
        ax.legend(title="layer", fontsize=8, frameon=False)
        figure.savefig(figures / f"qkv-{step // epoch:03}-epochs.png", dpi=120)
    depth = wdyn.depth_growth(run)
    figure, ax = new_figure("std of qkv by layer", "epoch", "std")
    for layer, colour in layers.items():
        line = depth["std"].sel(role="qkv", layer=layer)
        ax.plot(line["step"] / epoch, line, color=colour, label=layer)
    ax.legend(title="layer", fontsize=8, frameon=False)
    figure.savefig(figures / "std-by-layer.png", dpi=120)
    for name, result in (("growth", depth), ("distribution", wdyn.distribution(run))):
        wdyn.plot(result).savefig(figures / f"{name}.png", dpi=120)


def new_figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    """Make a figure of one panel that says what it shows."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    ax.set_title(title, loc="left", fontweight="bold")
    ax.set(xlabel=x, ylabel=y)
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def main(directory: Path, *, figures: Path | None = None, short: bool = False) -> list[Claim]:
    """Run everything, print each claim with its numbers, and check that it came out as it is known to."""
    torch.set_num_threads(1)  # everything here is so small that a second thread would mostly wait
    run, epoch = train(directory / "run.zarr", epochs=SHORT_EPOCHS if short else EPOCHS)
    small = Shape(alphabet=len(corpus().alphabet))
    claims = claims_of_first_values(run, small)
    if not short:
        large = Shape(small.alphabet, length=256, layers=2, width=768, heads=12)
        claims += claims_of_first_values(begin(large, directory / "begin.zarr"), large)
    claims += claims_of_growth(run, epoch, known=not short)
    tell(claims)
    if figures is not None:
        draw(figures, run, epoch)
    if not short:
        check(claims)
    return claims


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path, help="where the runs go; default: nowhere that stays")
    parser.add_argument("--figures", type=Path, help="where to save figures")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_EPOCHS} epochs instead of {EPOCHS}")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as nowhere:
        main(given.directory or Path(nowhere), figures=given.figures, short=given.short)
