"""Do weights survive saving and loading, as what, and at what size?

Run it: python examples/saving.py [directory] [--model name or path] [--short]

A GPT-2 is saved as one state dict (.pt), as safetensors, by ``save_pretrained``, and zipped; then its embedding is set
to ones, as a marker that nobody can miss, and it is saved again. Each file is loaded into the model, watched by wdyn:
row 0 is the model as it was, row 1 the marked one, and two rows follow for each way of saving, one for either file.
Every claim is measured on what wdyn recorded, and printed with its numbers, those that do not hold too.
"""

import argparse
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import xarray as xr
from claims import Claim, check, tell
from safetensors.torch import load_model, save_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional

import wdyn
from wdyn.demo.text import batches, corpus

ORIGINAL, MARKED = "original", "marked"
PROMPT = "The value of an expression is"


@dataclass(frozen=True)
class Way:
    """One way of saving: where it goes, how it is written, and how it comes back into the model."""

    file: str
    save: Callable[[nn.Module, Any, Path], None]
    load: Callable[[nn.Module, Path], None]


def save_state_dict(model: nn.Module, tokenizer: Any, to: Path) -> None:
    """Save the weights alone, as torch does."""
    torch.save(model.state_dict(), to)


def load_state_dict(model: nn.Module, source: Path) -> None:
    """Load them; nothing but tensors is read."""
    model.load_state_dict(torch.load(source, weights_only=True))


def save_safetensors(model: nn.Module, tokenizer: Any, to: Path) -> None:
    """Save the weights alone, a tied one once."""
    save_model(model, str(to))


def load_safetensors(model: nn.Module, source: Path) -> None:
    """Load them, the tied name too."""
    load_model(model, str(source))


def save_folder(model: Any, tokenizer: Any, to: Path) -> None:
    """Save weights, config and tokenizer."""
    model.save_pretrained(to)
    tokenizer.save_pretrained(to)


def load_folder(model: nn.Module, source: Path) -> None:
    """Make a model from the config, with the weights, and take them over."""
    model.load_state_dict(transformers.AutoModelForCausalLM.from_pretrained(source).state_dict())


def save_zip(model: nn.Module, tokenizer: Any, to: Path) -> None:
    """Save the folder, and zip it."""
    with tempfile.TemporaryDirectory() as folder:
        save_folder(model, tokenizer, Path(folder))
        pack(Path(folder), to)


def load_zip(model: nn.Module, source: Path) -> None:
    """Unzip, and load the folder."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(source) as packed:
            packed.extractall(folder)
        load_folder(model, Path(folder))


WAYS = {
    "state_dict": Way("model.pt", save_state_dict, load_state_dict),
    "safetensors": Way("model.safetensors", save_safetensors, load_safetensors),
    "save_pretrained": Way("folder", save_folder, load_folder),
    "zip": Way("folder.zip", save_zip, load_zip),
}


def pack(source: Path, to: Path) -> None:
    """Zip a file, or all files of a folder."""
    files = sorted(one for one in source.rglob("*") if one.is_file()) if source.is_dir() else [source]
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in files:
            packed.write(file, file.name if file == source else file.relative_to(source))


def owners(table: xr.Dataset) -> list[str]:
    """Name the parameters of a table, a tied one once."""
    own = (table["tied_to"] == "").values & (table["kind"] != "buffer").values
    return [str(name) for name in table["parameter"].values[own]]


def size(place: Path) -> int:
    """Count the bytes of a file, or of all files of a folder."""
    return sum(one.stat().st_size for one in ([place] if place.is_file() else place.rglob("*")) if one.is_file())


def small_gpt2(*, steps: int, width: int) -> tuple[Any, Any]:
    """Make a small GPT-2 and a tokenizer of its own, and train it a little."""
    text = corpus()
    pages = text.decode(text.tokens[:100_000])
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer, pieces.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    end = "<|endoftext|>"
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1000, special_tokens=[end], initial_alphabet=alphabet, show_progress=False)
    pieces.train_from_iterator([pages], trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token=end)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=width, n_layer=4, n_head=4, bos_token_id=0, eos_token_id=0
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.tensor(tokenizer(pages)["input_ids"])
    for x, y in islice(batches(tokens, size=8, length=32, seed=0), steps):
        optimizer.zero_grad()
        functional.cross_entropy(model(x).logits.flatten(0, 1), y.flatten()).backward()
        optimizer.step()
    return model.eval(), tokenizer


def pretrained(name: str) -> tuple[Any, Any]:
    """Load a model and its tokenizer from a folder, or from the hub."""
    model = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(name)


def mark(model: Any) -> None:
    """Set the embedding to ones; the output head too, where it is tied."""
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(1)


def answer(model: Any, tokenizer: Any) -> Tensor:
    """Give the logits after each token of the prompt, in float64: (token, vocabulary)."""
    with torch.no_grad():
        return model(**tokenizer(PROMPT, return_tensors="pt", return_token_type_ids=False)).logits[0].double()


def tour(model: Any, tokenizer: Any, directory: Path) -> dict[tuple[str, str], int]:
    """Save the model as it is and marked, load every file, watched; give the row of each file."""
    places = {(name, kind): directory / kind / way.file for name, way in WAYS.items() for kind in (ORIGINAL, MARKED)}
    first = answer(model, tokenizer)
    rows: dict[tuple[str, str], int] = {}
    with wdyn.watch(
        model, to=directory / "run.zarr", every=1, snapshots=wdyn.at(0, 1), what=("weights", "displacement")
    ) as w:

        def tell() -> None:
            now = answer(model, tokenizer)
            w.log(output_difference=(now - first).abs().max(), output_variance=now.var(dim=-1).mean())

        def save(kind: str) -> None:
            (directory / kind).mkdir(parents=True)
            for name, way in WAYS.items():
                way.save(model, tokenizer, places[name, kind])

        def loaded(name: str, kind: str) -> None:
            w.step()
            tell()
            rows[name, kind] = len(rows) + 2

        tell()
        save(ORIGINAL)
        mark(model)
        w.step()
        tell()
        save(MARKED)
        for (name, kind), place in places.items():  # first and marked in turn, so that each loading changes the model
            WAYS[name].load(model, place)
            loaded(name, kind)
        w.flush()
        snapshots = wdyn.open_run(directory / "run.zarr")
        for step, kind in enumerate((ORIGINAL, MARKED)):
            wdyn.load_into(model, snapshots, step=step)
            loaded("wdyn", kind)
    return rows


def claims_of_loading(run: xr.DataTree, rows: dict[tuple[str, str], int]) -> list[Claim]:
    """Judge what came back from the files, by way of saving."""
    table = wdyn.parameters(run)
    own = owners(table)
    embedding = table["parameter"].values[(table["role"] == "embedding").values][0]
    statistics = wdyn.statistics(run)
    delta = (wdyn.relations(run)["displacement"].sel(parameter=own) ** 2).sum("parameter", skipna=False) ** 0.5
    mean, norm = (statistics[name].sel(parameter=embedding) for name in ("mean", "l2"))
    kept = {name: rows[name, ORIGINAL] for name, _ in rows}
    marked = {name: rows[name, MARKED] for name, _ in rows}
    moved = float(delta.sel(step=1))
    held = {at: statistics.sel(step=at, parameter=own, drop=True) for at in (1, *marked.values())}
    same = {name: held[1].equals(held[at]) for name, at in marked.items()}
    count = int(table["numel"].sel(parameter=embedding))
    std = float(statistics["std"].sel(step=0, parameter=embedding))
    expected = np.sqrt(count * (std**2 + (1 - float(mean.sel(step=0))) ** 2))
    return [
        Claim(
            "the marked embedding has mean 1",
            float(mean.sel(step=1)) == 1,
            f"{embedding}: mean {float(mean.sel(step=0)):.3g}, then {float(mean.sel(step=1)):g}, Frobenius norm "
            f"{float(norm.sel(step=1)):.2f}, the root of its {count} values",
        ),
        Claim(
            "the Frobenius norm of the change is above 0, and that of the embedding's change alone",
            moved > 0 and bool(np.isclose(moved, expected, rtol=1e-5)),
            f"{moved:.4f}; by mean and std of the embedding {expected:.4f}",
        ),
        Claim(
            "loaded from the marked file the embedding has mean 1, and every weight the statistics that were saved",
            all(same.values()) and all(float(mean.sel(step=at)) == 1 for at in marked.values()),
            f"mean {listed((name, float(mean.sel(step=at))) for name, at in marked.items())}",
        ),
        Claim(
            "loaded from the first file the Frobenius norm of the change is 0",
            all(float(delta.sel(step=at)) == 0 for at in kept.values()),
            listed((name, float(delta.sel(step=at))) for name, at in kept.items()),
        ),
    ]


def claims_of_outputs(run: xr.DataTree, rows: dict[tuple[str, str], int]) -> list[Claim]:
    """Judge what the model answers when marked, and after each file was loaded."""
    difference, variance = (run[f"scalars/{name}"] for name in ("output_difference", "output_variance"))
    kept = {name: at for (name, kind), at in rows.items() if kind == ORIGINAL}
    tied = bool((wdyn.parameters(run)["tied_to"] != "").any())
    return [
        Claim(
            "the marker changes the output",
            float(difference.sel(step=1)) > 0,
            f"largest difference of a logit {float(difference.sel(step=1)):.4g}",
        ),
        Claim(
            "the marked model says the same of every token: its output has no variance, since the head is tied",
            float(variance.sel(step=1)) < 1e-9,
            f"variance over the vocabulary {float(variance.sel(step=0)):.4g} before, "
            f"{float(variance.sel(step=1)):.3g} marked",
            known=tied,
        ),
        Claim(
            "loaded, the output is what it was",
            all(
                float(difference.sel(step=at)) == 0 and float(variance.sel(step=at)) == float(variance.sel(step=0))
                for at in kept.values()
            ),
            f"largest difference {listed((name, float(difference.sel(step=at))) for name, at in kept.items())}",
        ),
    ]


def claims_of_restoring(run: xr.DataTree, model: nn.Module) -> list[Claim]:
    """Judge what `wdyn.state_dict` gives of the two snapshots, beside the model, which holds the second again."""
    first, marked = wdyn.state_dict(run, step=0), wdyn.state_dict(run, step=1)
    now = model.state_dict()
    error = max(float((now[name] - value).abs().max()) for name, value in marked.items())
    changed = [name for name, value in first.items() if not torch.equal(value, marked[name])]
    return [
        Claim(
            "restored by wdyn.load_into, the error is 0",
            error == 0,
            f"largest {error:g}; the snapshots of rows 0 and 1 differ in {', '.join(changed)}",
        )
    ]


def claims_of_files(directory: Path, model: nn.Module, tokenizer: Any) -> list[Claim]:
    """Judge the sizes of the files against 4 bytes a parameter, and what stands beside the weights."""
    table = wdyn.describe(model)
    count = int(table["numel"].sel(parameter=owners(table)).sum())
    files = {name: directory / ORIGINAL / WAYS[name].file for name in ("state_dict", "safetensors")}
    files["save_pretrained"] = next((directory / ORIGINAL / "folder").glob("*.safetensors"))
    extra = {name: size(file) - 4 * count for name, file in files.items()}
    folder = directory / ORIGINAL / "folder"
    beside = size(folder) - size(files["save_pretrained"])
    gpt2 = gpt2_small()
    before, after = (
        list(one(PROMPT)["input_ids"]) for one in (tokenizer, transformers.AutoTokenizer.from_pretrained(folder))
    )
    told = {name: len(wdyn.describe(file)["parameter"]) for name, file in files.items()}
    return [
        Claim(
            "a file of weights takes 4 bytes for each parameter, and less than a kilobyte for each name",
            all(0 <= one <= 1024 * told[name] for name, one in extra.items()),
            f"P = {count}: 4 P = {4 * count} bytes; beyond it {listed(extra.items())}",
        ),
        Claim(
            "GPT-2 small takes 474 MiB",
            int(4 * gpt2 / 2**20) == 474,
            f"{gpt2} parameters, its tied head once: {4 * gpt2 / 2**20:.2f} MiB",
        ),
        Claim(
            "save_pretrained also keeps config and tokenizer",
            {"config.json", "tokenizer.json"} <= {file.name for file in folder.iterdir()},
            f"{beside} bytes beside the weights: {', '.join(sorted(file.name for file in folder.iterdir()))}",
        ),
        Claim("the loaded tokenizer writes the same tokens", before == after, f"{len(before)} tokens: {after}"),
    ]


def gpt2_small() -> int:
    """Count the parameters of GPT-2 small by its config; nothing is downloaded, or put into memory."""
    with tempfile.TemporaryDirectory() as folder:
        config = transformers.GPT2Config(architectures=["GPT2LMHeadModel"])
        config.save_pretrained(folder)
        table = wdyn.describe(folder)
    return int(table["numel"].sel(parameter=owners(table)).sum())


def claims_of_zip(directory: Path) -> list[Claim]:
    """Judge how much smaller zip makes the files."""
    table = wdyn.describe(directory / ORIGINAL / "folder")
    count = table["numel"].sel(parameter=owners(table))
    share = float(count[(table["role"].sel(parameter=count["parameter"]) == "embedding").values].sum() / count.sum())
    ratio: dict[str, dict[str, float]] = {}
    for kind in (ORIGINAL, MARKED):
        ratio[kind] = {}
        for name in ("state_dict", "safetensors", "save_pretrained"):
            source, packed = directory / kind / WAYS[name].file, directory / f"{kind}-{name}.zip"
            pack(source, packed)
            ratio[kind][name] = size(packed) / size(source)
    return [
        Claim(
            f"zip leaves 0.8 to 0.9 of the bytes of the {kind} model",
            all(0.8 <= one <= 0.9 for one in found.values()),
            listed(found.items())
            + (f"; ones take next to nothing, and {share:.1%} of the weights are ones" if kind == MARKED else ""),
            known=kind == MARKED,
        )
        for kind, found in ratio.items()
    ]


def listed(values: Iterable[tuple[str, float]]) -> str:
    """Write named numbers in a line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values)


def main(directory: Path, *, name: str = "", short: bool = False) -> list[Claim]:
    """Run everything, print each claim with its numbers, and check that it came out as it is known to."""
    torch.set_num_threads(1)  # a second thread would mostly wait
    transformers.utils.logging.disable_progress_bar()
    model, tokenizer = pretrained(name) if name else small_gpt2(steps=2 if short else 60, width=64 if short else 192)
    rows = tour(model, tokenizer, directory)
    run = wdyn.open_run(directory / "run.zarr")
    claims = [
        *claims_of_files(directory, model, tokenizer),
        *claims_of_loading(run, rows),
        *claims_of_restoring(run, model),
        *claims_of_outputs(run, rows),
        *claims_of_zip(directory),
    ]
    tell(claims)
    if not (short or name):
        check(claims)
    return claims


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path, help="where everything goes; default: nowhere that stays")
    parser.add_argument(
        "--model", default="", help="name or path of a causal LM; default: a small GPT-2, trained first"
    )
    parser.add_argument("--short", action="store_true", help="a smaller model, hardly trained")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as nowhere:
        main(given.directory or Path(nowhere), name=given.model, short=given.short)
