"""What does the learning rate of a fine-tuning decide: the loss, what the model says, and how far its weights go?

One pretrained causal language model is fine-tuned three times from the same copy, on 800 samples of one text, with
AdamW at 1e-4, 1e-5 and 1e-6. By default the model is a small GPT-2 that this example trains first, on pages of Python's
manual, and the text is other pages of it: nothing is loaded from anywhere. `--model` and `--text` take your own.

    python examples/learning_rates.py [DIRECTORY] [--figures DIR] [--model NAME_OR_PATH] [--text FILE]

It was said of GPT-2 and Gulliver's Travels that the share of generated tokens which are among the text's 100 most
frequent rises to about 60 % at the highest rate and 52 % at the lowest: numbers of that model and that text. What holds
of yours is measured.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
import xarray as xr
from claims import Claim, check, tell
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

import wdyn

logging.disable_progress_bar()
logging.set_verbosity_error()

RATES = {"1e-4": 1e-4, "1e-5": 1e-5, "1e-6": 1e-6}
PAGES = ("compound", "specialnames", "types")
"""What the default text consists of; the base model learns from the other pages, less what they share with these."""
FREQUENT = 100
PROMPT, SAID = 8, 48  # from how many tokens of each sample that was held out a model goes on, and how many it says
COPIED = 6  # tokens in a row that make a copy


@dataclass(frozen=True)
class Size:
    """How long everything takes."""

    base_steps: int = 600
    samples: int = 800
    held_out: int = 100
    length: int = 24
    batch: int = 4
    epochs: int = 8


SHORT = Size(base_steps=30, samples=16, held_out=8, length=16, epochs=2)


@dataclass(frozen=True)
class Material:
    """What is learned from and what is asked of: samples (number, length), prompts, and the most frequent tokens."""

    train: torch.Tensor
    held_out: torch.Tensor
    frequent: torch.Tensor
    usual: float
    """Share of the text's own tokens that are among them."""

    @property
    def prompts(self) -> torch.Tensor:
        """Beginnings that the models go on from, of samples that none of them learns from."""
        return self.held_out[:, :PROMPT]

    def copied(self, said: torch.Tensor) -> float:
        """Give the share of what was said that stands, six tokens in a row, in a sample that was learned from."""
        known = {tuple(row) for row in self.train.unfold(1, COPIED, 1).flatten(0, 1).tolist()}
        spoken = [tuple(row) for row in said.unfold(1, COPIED, 1).flatten(0, 1).tolist()]
        return sum(row in known for row in spoken) / len(spoken)

    def share(self, said: torch.Tensor) -> float:
        """Give the share of tokens that are among the text's most frequent."""
        return float(torch.isin(said, self.frequent).float().mean())


def paragraphs(text: str) -> list[str]:
    """Split a text at its empty lines."""
    return [part.strip("\n") for part in text.split("\n\n") if part.strip()]


def default_texts() -> tuple[str, str]:
    """Give what the base model learns from, and what it is fine-tuned on: they share no paragraph."""
    text = "\n\n".join(topics[page] for page in PAGES)
    known = set(paragraphs(text))
    others = dict.fromkeys(part for _, page in sorted(topics.items()) for part in paragraphs(page) if part not in known)
    return "\n\n".join(others), text


def make_base(text: str, to: Path, *, steps: int) -> Path:
    """Train a small GPT-2 and its tokenizer on a text, and save both as `from_pretrained` reads them."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1024, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator([text], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained, eos_token="<end>")
    torch.manual_seed(0)
    shape = GPT2Config(
        vocab_size=len(tokenizer), n_positions=128, n_embd=128, n_layer=2, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(shape)
    tokens = torch.tensor(tokenizer(text)["input_ids"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    random = torch.Generator().manual_seed(0)
    for _ in range(steps):
        starts = torch.randint(len(tokens) - 64, (8, 1), generator=random)
        loss_of(model, tokens[starts + torch.arange(64)]).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    model.save_pretrained(to)
    tokenizer.save_pretrained(to)
    return to


def prepare(text: str, source: str, size: Size) -> Material:
    """Cut a text into samples; every so many of them is held out, so that both come from everywhere in the text."""
    tokens = torch.tensor(AutoTokenizer.from_pretrained(source)(text, verbose=False)["input_ids"])
    wanted = size.samples + size.held_out
    pieces = tokens[: len(tokens) // size.length * size.length].unflatten(0, (-1, size.length))
    if len(pieces) < wanted:
        raise SystemExit(f"The text gives {len(pieces)} samples of {size.length} tokens; needed are {wanted}.")
    pieces = pieces[torch.randperm(len(pieces), generator=torch.Generator().manual_seed(0))]
    often = Counter(tokens.tolist()).most_common(FREQUENT)
    usual = sum(count for _, count in often) / len(tokens)
    frequent = torch.tensor([token for token, _ in often])
    return Material(pieces[: size.samples], pieces[size.samples : wanted], frequent, usual)


def loss_of(model: PreTrainedModel, samples: torch.Tensor) -> torch.Tensor:
    """Give the mean cross-entropy of the next token, in nats."""
    loss: torch.Tensor = model(input_ids=samples, labels=samples).loss
    return loss


@torch.no_grad()
def speak(model: PreTrainedModel, prompts: torch.Tensor) -> torch.Tensor:
    """Let the model go on from each prompt, drawing each token from what it predicts: (prompt, said)."""
    random, said, past = torch.Generator().manual_seed(0), [prompts], None
    model.eval()
    for _ in range(SAID):
        answer = model(input_ids=said[-1], past_key_values=past, use_cache=True)
        past = answer.past_key_values
        said.append(torch.multinomial(answer.logits[:, -1].float().softmax(-1), 1, generator=random))
    return torch.cat(said[1:], dim=1)


@torch.no_grad()
def held_out_loss(model: PreTrainedModel, material: Material) -> float:
    """Give the loss on samples that are not learned from."""
    model.eval()
    return loss_of(model, material.held_out).item()


def shuffled(samples: torch.Tensor, size: Size) -> Iterator[tuple[int, torch.Tensor]]:
    """Give batches in the same order to every run, and of each how many epochs it ends."""
    random = torch.Generator().manual_seed(0)
    for epoch in range(size.epochs):
        batches = samples[torch.randperm(len(samples), generator=random)].split(size.batch)
        for number, batch in enumerate(batches, 1):
            yield (epoch + 1 if number == len(batches) else 0), batch


def fine_tune(source: str, rate: float, material: Material, to: Path, *, size: Size) -> xr.DataTree:
    """Fine-tune one copy of the model, watched; log its losses, and what it says before and after."""
    torch.manual_seed(0)  # the same dropout in every run, where the model has one
    model = AutoModelForCausalLM.from_pretrained(source)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    batches = list(shuffled(material.train, size))
    rows = wdyn.every(max(1, len(batches) // 20)) | wdyn.at(len(batches))
    with wdyn.watch(model, optimizer, to=to, every=rows, snapshots=wdyn.at(len(batches)), what=("weights",)) as w:
        w.log(held_out_loss=held_out_loss(model, material), **said(model, material))
        for step, (epoch, batch) in enumerate(batches, 1):
            model.train()
            loss = loss_of(model, batch)
            optimizer.zero_grad()
            loss.backward()
            w.log(loss=loss, tokens=step * batch.numel())
            if epoch:
                w.log(held_out_loss=held_out_loss(model, material))
            if step == len(batches):
                w.log(**said(model, material))
            optimizer.step()
    return wdyn.open_run(to)


def said(model: PreTrainedModel, material: Material) -> dict[str, float]:
    """Measure what the model says."""
    tokens = speak(model, material.prompts)
    return {"frequent_share": material.share(tokens), "copied_share": material.copied(tokens)}


def curve(run: xr.DataTree, name: str) -> np.ndarray:
    """Give what was logged under a name, from first to last."""
    return np.asarray(run["scalars"][name].dropna("step").values)


def tenth(run: xr.DataTree) -> int:
    """Give how many steps are a tenth of the run: single batches are too noisy to compare."""
    return max(1, len(curve(run, "loss")) // 10)


def listed(values: dict[str, float], form: Callable[[float], str] = "{:.3g}".format) -> str:
    """Write each rate with its number."""
    return ", ".join(f"{form(value)} at {name}" for name, value in values.items())


def percent(value: float) -> str:
    """Write a share."""
    return f"{value:.1%}"


def claims_of(
    runs: dict[str, xr.DataTree], compared: xr.Dataset, *, usual: float, said_in_all: int, own: bool
) -> list[Claim]:
    """Hold against the runs what is said of learning rates; `own`: with a model or a text of the user's own."""
    first = {name: float(curve(run, "loss")[: tenth(run)].mean()) for name, run in runs.items()}
    end = {name: float(compared["score"].sel(run=name)) for name in runs}
    before, after = ({name: float(curve(run, "frequent_share")[at]) for name, run in runs.items()} for at in (0, -1))
    held = {name: curve(run, "held_out_loss") for name, run in runs.items()}
    copied = {name: float(curve(run, "copied_share")[-1]) for name, run in runs.items()}
    moved = {name: float(compared["moved_in_all"].sel(run=name)) for name in runs}
    best, *_, least = runs
    error = (before[best] * (1 - before[best]) / said_in_all) ** 0.5
    lowest, at_end = ({name: float(of(values)) for name, values in held.items()} for of in (np.min, lambda v: v[-1]))
    gap = {name: at_end[name] - end[name] for name in runs}
    return [
        Claim(
            "the higher the rate, the faster the loss falls and the lower it ends",
            list(first.values()) == sorted(first.values()) and list(end.values()) == sorted(end.values()),
            f"mean of the first tenth {listed(first)}; median of the last {listed(end)}",
        ),
        Claim(
            "at the highest rate it ends near 0 (below 0.1): memorised",
            end[best] < 0.1,
            f"{end[best]:.3g} at {best}, after {len(curve(runs[best], 'loss'))} steps",
            known=False,
        ),
        Claim(
            f"the share of the {FREQUENT} most frequent tokens rises after training at all three rates",
            all(after[name] > before[name] for name in runs),
            f"{percent(before[best])} before; {listed(after, percent)}; {percent(usual)} in the text itself; "
            f"standard error {percent(error)}",
            known=None,  # at 1e-6 the rise lies within the noise of drawing
        ),
        Claim(
            "it rises to about 60 % at the highest rate and 52 % at the lowest (GPT-2, Gulliver's Travels)",
            abs(after[best] - 0.6) < 0.02 and abs(after[least] - 0.52) < 0.02,
            f"{'your model and text' if own else 'another model and text'}: {listed(after, percent)}",
            known=None,
        ),
        Claim(
            "the higher the rate, the farther the weights went",
            list(moved.values()) == sorted(moved.values(), reverse=True),
            f"||W - W_first|| / ||W_first|| {listed(moved)}",
        ),
        Claim(
            "signs of over-fitting grow with the rate: how far the held-out loss stays above that of training",
            list(gap.values()) == sorted(gap.values(), reverse=True) and gap[best] > 0.2,
            f"{listed(gap)}; held-out loss at its lowest {listed(lowest)} and at the end {listed(at_end)}; "
            f"of what is said, copied from the samples {listed(copied, percent)}",
        ),
    ]


def draw(figures: Path, runs: dict[str, xr.DataTree], compared: xr.Dataset) -> None:
    """Save the comparison, the bars of what is said, and training beside held-out loss."""
    figures.mkdir(parents=True, exist_ok=True)
    wdyn.plot(compared).savefig(figures / "comparison.png", dpi=120)
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    shares = {name: curve(run, "frequent_share") for name, run in runs.items()}
    bars = {"before": next(iter(shares.values()))[0]} | {name: share[-1] for name, share in shares.items()}
    drawn = ax.bar(list(bars), [100 * value for value in bars.values()], color=["0.75", *["#0072B2"] * len(runs)])
    ax.bar_label(drawn, fmt="%.1f %%")
    ax.set(xlabel="learning rate", ylabel="% of generated tokens")
    ax.set_title(f"Said among the text's {FREQUENT} most frequent tokens", loc="left", fontweight="bold")
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(figures / "frequent-tokens.png", dpi=120)
    held_out = wdyn.compare_runs(wdyn.join_runs(**runs), metric="held_out_loss", last=1)
    wdyn.plot(held_out).savefig(figures / "held-out.png", dpi=120)


def main(
    directory: Path,
    *,
    model: str = "",
    text: Path | None = None,
    figures: Path | None = None,
    size: Size = Size(),
) -> list[Claim]:
    """Run everything, print each claim with its numbers, and check that it came out as it is known to."""
    torch.set_num_threads(1)  # the default model is so small that a second thread would mostly wait
    base_text, own_text = default_texts()
    learned = text.read_text(encoding="utf-8") if text else own_text
    source = model or str(make_base(base_text, directory / "base", steps=size.base_steps))
    material = prepare(learned, source, size)
    runs = {
        name: fine_tune(source, rate, material, directory / f"{name}.zarr", size=size) for name, rate in RATES.items()
    }
    compared = wdyn.compare_runs(wdyn.join_runs(**runs), last=tenth(next(iter(runs.values()))))
    assert compared["same_start"].all(), "every run must begin with the same copy"
    own = bool(model or text)
    claims = claims_of(runs, compared, usual=material.usual, said_in_all=SAID * len(material.prompts), own=own)
    tell(claims)
    if figures is not None:
        draw(figures, runs, compared)
    if size == Size() and not own:
        check(claims)
    return claims


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path, help="where the runs go; default: nowhere that stays")
    parser.add_argument("--figures", type=Path, help="where to save figures")
    parser.add_argument("--model", default="", help="name or path of a pretrained causal language model")
    parser.add_argument("--text", type=Path, help="a text to fine-tune on, UTF-8")
    parser.add_argument("--epochs", type=int, default=Size().epochs, help="how often each sample is learned from")
    parser.add_argument("--short", action="store_true", help="few samples and steps: the claims are not checked")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as nowhere:
        where = given.directory or Path(nowhere)
        size = SHORT if given.short else Size(epochs=given.epochs)
        main(where, model=given.model, text=given.text, figures=given.figures, size=size)
