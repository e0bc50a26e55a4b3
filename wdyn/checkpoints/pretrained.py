"""How do weights become a folder that ``from_pretrained`` loads, and does their config fit them?"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wdyn import schema
from wdyn.capture.tensors import named_tensors
from wdyn.capture.ties import shares_with
from wdyn.checkpoints.claims import read_json
from wdyn.checkpoints.configs import CONFIG, is_hub_name, model_from_config, settings_of
from wdyn.checkpoints.placing import INDEX, WEIGHTS, check_dtypes, write_safetensors
from wdyn.checkpoints.run_weights import RunWeights
from wdyn.errors import InvalidArgument
from wdyn.naming import examples

if TYPE_CHECKING:
    import xarray as xr

Config = str | os.PathLike[str] | Mapping[str, Any] | None

SHARD_BYTES = 5 * 10**9
"""Size beyond which the weights are spread over several files."""

_TIES = "tie_word_embeddings"
_ELSE = "Or export to model.safetensors or state.pt, which need no config"


def write_folder(folder: Path, run: xr.DataTree, weights: RunWeights, *, config: Config, partial: bool) -> list[str]:
    """Write a folder that is not there yet, and say what is to be known of it.

    Names that were tied are left out where the config ties them anew; where it does not, each has the values.

    Raises
    ------
    InvalidArgument
        No config is known, or the model that it makes does not fit the weights.
    """
    check_dtypes(weights.headers)
    settings, notes = _with_dtype(_named(_config(run, config), run), weights)
    folder.mkdir()
    expected = _expected(folder, settings)
    if any(_loosened(expected, weights)) and settings.get(_TIES) is not False:
        expected = _expected(folder, {**settings, _TIES: False})
    notes += _fit(expected, weights, partial=partial)
    leaders = shares_with(expected)
    written = {
        name: at
        for name, at in weights.holders.items()
        if at in weights.headers and (name == at or leaders.get(name) != leaders.get(at))
    }
    _write_shards(folder, {name: weights.headers[at] for name, at in written.items()}, weights)
    return notes


def _config(run: xr.DataTree, given: Config) -> dict[str, Any]:
    """Find the settings of the model: those that are given, else those that the run kept."""
    match given:
        case None:
            kept = run.attrs.get(schema.ATTRIBUTES, {}).get("config")
            if not isinstance(kept, dict) or not kept:
                raise InvalidArgument(
                    "The run keeps no config of a Hugging Face model, which a folder for from_pretrained needs. Name "
                    f"one: config= (--config) a folder that has a {CONFIG}, or a name on the hub. {_ELSE}"
                )
            return kept
        case Mapping():
            return dict(given)
    place = Path(given)
    file = place / CONFIG if place.is_dir() else place
    if not file.is_file() and is_hub_name(os.fspath(given)):
        return settings_of(os.fspath(given))
    if not file.is_file():
        raise InvalidArgument(f"No config is at {file}. Needed is a folder that has a {CONFIG}, or a name on the hub")
    return read_json(file)


def _named(settings: dict[str, Any], run: xr.DataTree) -> dict[str, Any]:
    """Name the class of the model: the recorded one, if transformers has it, else what the config says."""
    import transformers  # its import takes seconds

    model = str(run.attrs.get(schema.ATTRIBUTES, {}).get("model", ""))
    known = getattr(transformers, model or "-", None)
    is_model = isinstance(known, type) and issubclass(known, transformers.PreTrainedModel)
    return settings | ({"architectures": [model]} if is_model else {})


def _with_dtype(settings: dict[str, Any], weights: RunWeights) -> tuple[dict[str, Any], list[str]]:
    """Let the config tell the dtype in which from_pretrained keeps the weights: one that holds all of them."""
    found = {tensor.dtype for tensor in weights.headers.values() if tensor.is_floating_point() and tensor.itemsize > 1}
    if not found:
        return settings, []
    widest = str(reduce(torch.promote_types, found)).removeprefix("torch.")
    keys = ("torch_dtype",) if "torch_dtype" in settings else ("dtype",)
    notes = [f"Weights of several dtypes: from_pretrained makes all {widest}."] if len(found) > 1 else []
    return settings | dict.fromkeys(keys, widest), notes


def _expected(folder: Path, settings: dict[str, Any]) -> dict[str, Tensor]:
    """Write the config, and give the tensors of the model that transformers makes of it, without values."""
    (folder / CONFIG).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    try:
        return named_tensors(model_from_config(folder))
    except InvalidArgument as error:
        reason = str(error.__cause__).strip().splitlines()[:1]
        raise InvalidArgument(f"transformers makes no model of the config: {''.join(reason)}. {_ELSE}") from error


def _loosened(expected: Mapping[str, Tensor], weights: RunWeights) -> Iterator[str]:
    """Names that the config ties, and that were not tied at the step."""
    for name, first in shares_with(expected).items():
        both = {name, first} <= weights.leaders.keys()
        if both and weights.leaders[name] != weights.leaders[first]:
            yield name


def _fit(expected: Mapping[str, Tensor], weights: RunWeights, *, partial: bool) -> list[str]:
    """Refuse weights of which that model cannot be made, and say which ones it has no place for."""
    held = {name: weights.headers[at] for name, at in weights.holders.items() if at in weights.headers}
    missing = [] if partial else [name for name, first in shares_with(expected).items() if first not in held]
    unfit = {
        "not recorded": missing,
        "of another shape there": [
            name for name, its in held.items() if name in expected and expected[name].shape != its.shape
        ],
        "not tied in the run": list(_loosened(expected, weights)),
    }
    extra = [name for name in held if name not in expected]
    if any(unfit.values()) or len(extra) == len(held):
        told = "; ".join(f"{examples(names)} {what}" for what, names in unfit.items() if names)
        told = told or f"it has none of {examples(extra)}"
        raise InvalidArgument(f"The model that the config makes does not fit step {weights.step}: {told}. {_ELSE}")
    return [f"That model has no place for {examples(extra)}; from_pretrained leaves that out."] if extra else []


def _write_shards(folder: Path, tensors: Mapping[str, Tensor], weights: RunWeights) -> None:
    shards = list(_shards(tensors))
    names = [f"model-{at:05d}-of-{len(shards):05d}.safetensors" for at in range(1, len(shards) + 1)]
    for file, shard in zip(names if len(shards) > 1 else [WEIGHTS], shards, strict=True):
        held = {name: tensors[name] for name in shard}
        write_safetensors(
            folder / file, held, read=lambda name: weights.read(weights.holders[name]), metadata={"format": "pt"}
        )
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
            "weight_map": {name: file for file, shard in zip(names, shards, strict=True) for name in shard},
        }
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _shards(tensors: Mapping[str, Tensor]) -> Iterator[list[str]]:
    """Cut the names, in their order, into as many as one file may hold; a larger tensor has one of its own."""
    shard: list[str] = []
    size = 0
    for name, tensor in tensors.items():
        if shard and size + tensor.nbytes > SHARD_BYTES:
            yield shard
            shard, size = [], 0
        shard.append(name)
        size += tensor.nbytes
    yield shard
