"""What lies at a path, or under a name on the hub, as a saved model?"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from wdyn.capture.anatomy import addresses
from wdyn.checkpoints import adapters, trainer_files
from wdyn.checkpoints.architectures import Architecture, architecture
from wdyn.checkpoints.beside import json_beside
from wdyn.checkpoints.configs import CONFIG, is_hub_name
from wdyn.checkpoints.contents import Contents, fields, model_in
from wdyn.checkpoints.distributed import is_distributed, read_distributed
from wdyn.checkpoints.files import files_of, model_folder
from wdyn.checkpoints.hub import fetched
from wdyn.checkpoints.optimizer_states import Known, Order, optimizer_steps, optimizer_training, optimizers_in
from wdyn.checkpoints.safetensors_files import SafetensorsFiles, dropped_ties
from wdyn.checkpoints.saved import Evidence, Saved, Source, Training, canonical
from wdyn.checkpoints.steps import from_fields, from_name
from wdyn.checkpoints.torch_files import read_torch_file
from wdyn.errors import InvalidArgument
from wdyn.schema import Kind

_CONFIG_KEYS = ("config", "model_args", "hyper_parameters", "args")


def open_saved(
    source: str | os.PathLike[str],
    *,
    key: str | None = None,
    revision: str | None = None,
    base: str | os.PathLike[str] | None = None,
) -> Saved:
    """Open one saved model. Only names, shapes and what is small are read.

    Parameters
    ----------
    source
        A ``.safetensors`` file, or one that ``torch.save`` wrote (``.pt .pth .ckpt .bin``, Lightning's among them); the
        index of several; a folder that transformers, PEFT or ``torch.distributed.checkpoint`` wrote; or a name on the
        Hugging Face hub.
    key
        Which model, where a file holds several: ``ema``, or ``nets.generator``.
    revision
        Branch, tag or commit of a model on the hub.
    base
        The model that a PEFT adapter adapts. The adapted weights then have its names, with the adapter merged in.

    Raises
    ------
    InvalidArgument
        Nothing is there, or nothing that can be read as a model; or the file holds several and `key` names none.
    """
    place = Path(source)
    if not place.exists() and isinstance(source, str) and is_hub_name(source):
        place = fetched(source, revision=revision)
    elif revision is not None:
        raise InvalidArgument(f"revision={revision!r} is of a model on the hub, and {source} is none")
    found = tensors_at(place, key=key)
    beside = trainer_files.optimizer(place)
    contents = [*found.contents, *([beside] if beside else [])]
    built = architecture(_folder(place))
    stored = _in_order(canonical(found.source.headers), built)
    saved = Saved(
        called=str(source) if revision is None else f"{source}@{revision}",
        place=place,
        source=found.source,
        stored=stored,
        tied=_tied(stored, built) | {name: at for name, at in found.tied.items() if name not in stored},
        config=found.config,
        evidence=_evidence(found, contents, place, name=Path(source).name if revision is None else revision),
        notes=found.notes,
    )
    saved = saved if base is None else _onto(open_saved(base), saved)
    return replace(saved, training=_training(found, contents, saved, built))


@dataclass(frozen=True)
class Found:
    """What the files of a saved model hold: tensors, and what was nested beside them in files of torch."""

    source: Source
    config: Mapping[str, Any]
    contents: tuple[Contents, ...] = ()
    fields: Mapping[str, object] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def tensors_at(place: Path, *, key: str | None = None) -> Found:
    """Find the tensors that lie at a path, and nothing that it takes another library to know.

    Raises
    ------
    InvalidArgument
        Nothing is there, or nothing that can be read as a model; or the file holds several and `key` names none.
    """
    if not place.exists():
        raise InvalidArgument(
            f"Nothing is at {place}. Give a safetensors file, a folder that holds one, or a .pt file."
        )
    if place.is_dir() and is_distributed(place):
        return _nested((read_distributed(place),), place, key=key)
    files = files_of(place)
    if all(file.suffix == ".safetensors" for file in files):
        if key is not None:
            raise InvalidArgument(f"key={key!r} names a model among several in one file, and {place} holds one")
        plain = SafetensorsFiles(files)
        ties = dropped_ties(plain.metadata, plain.headers)
        return Found(plain, json_beside(_folder(place) / CONFIG), fields=plain.metadata, tied=ties)
    return _nested(tuple(read_torch_file(file) for file in files), place, key=key)


@dataclass(frozen=True)
class _Joined:
    """Several sources as one."""

    parts: tuple[Source, ...]
    headers: Mapping[str, Tensor]

    def read(self, name: str) -> Tensor:
        return next(part for part in self.parts if name in part.headers).read(name)


def _nested(contents: tuple[Contents, ...], place: Path, *, key: str | None) -> Found:
    models = [model_in(one, key=key) for one in contents]
    sources = tuple(model.source for model in models)
    headers = {name: tensor for source in sources for name, tensor in source.headers.items()}
    configs = [json_beside(_folder(place) / CONFIG), *(_config_in(one.tree) for one in contents)]
    config: Mapping[str, Any] = next((one for one in configs if one), {})
    told = {name: number for one in contents for name, number in fields(one.tree).items()}
    notes = tuple(note for model in models for note in model.notes)
    source = sources[0] if len(sources) == 1 else _Joined(sources, headers)
    return Found(source, config, contents, told, notes=notes)


def _in_order(stored: Mapping[str, str], built: Architecture) -> dict[str, str]:
    """Put names into the order of the model, where it is known: files of transformers are sorted by name."""
    place = {name: at for at, name in enumerate(built.leaders)}
    return dict(sorted(stored.items(), key=lambda pair: place.get(pair[0], len(place))))


def _tied(stored: Mapping[str, str], built: Architecture) -> dict[str, str]:
    """Names that the model has and the file lacks, tied to one that the file has."""
    holders: dict[str, str] = {}
    for name, leader in built.leaders.items():
        if name in stored:
            holders.setdefault(leader, name)
    absent = {name: leader for name, leader in built.leaders.items() if name not in stored}
    return {name: holders[leader] for name, leader in absent.items() if leader in holders}


def _evidence(found: Found, contents: Sequence[Contents], place: Path, *, name: str) -> tuple[Evidence, ...]:
    counted = [one for inside in contents for one in optimizer_steps(inside)]
    folder = model_folder(place)
    told = from_fields({**found.fields, **trainer_files.state(folder)})
    return (*counted, *told, *(from_name(name) or from_name(folder.name)))


def _training(found: Found, contents: Sequence[Contents], saved: Saved, built: Architecture) -> Training:
    history = trainer_files.history(saved.place)
    if not history and saved.step is not None:
        history = {saved.step: fields(found.fields)} if found.fields else {}
    holder = next((one for one in contents if optimizers_in(one)), None)
    if holder is None:
        return Training(history=history)
    by_trainer = bool(trainer_files.state(saved.place))
    known = Known(
        shapes={name: tuple(tensor.shape) for name, tensor in saved.tensors.items()},
        names={stored: name for name, stored in saved.stored.items()},
        orders=[built.order] if by_trainer else [built.order, *_orders(saved)],
    )
    scheduled = trainer_files.is_scheduled(saved.place) or any(_has_scheduler(one.tree) for one in contents)
    return replace(optimizer_training(holder, known, scheduled=scheduled), history=history)


def _orders(saved: Saved) -> list[Order]:
    """Parameters in the order of the file; and matrices, which decay, before vectors, which do not."""
    trained = {one.name for one in addresses(saved.tensors) if one.kind != Kind.BUFFER and one.tied_to == ""}
    names = [name for name in saved.stored if name in trained]
    return [names, sorted(names, key=lambda name: saved.tensors[name].ndim < 2)]


def _folder(place: Path) -> Path:
    return place if place.is_dir() else place.parent


def _config_in(tree: object) -> Mapping[str, Any]:
    """The config that a training script put into the file."""
    held = (tree.get(key) for key in _CONFIG_KEYS) if isinstance(tree, Mapping) else ()
    found = (vars(one) if isinstance(one, argparse.Namespace) else one for one in held)
    return next((one for one in found if isinstance(one, Mapping)), {})


def _has_scheduler(tree: object) -> bool:
    return isinstance(tree, Mapping) and any("sched" in str(name).lower() and value for name, value in tree.items())


def _onto(base: Saved, adapter: Saved) -> Saved:
    if not adapters.is_adapter(adapter.folder):
        raise InvalidArgument(f"base={base.called} was given, but {adapter.called} is no PEFT adapter")
    merged = adapters.adapted(base, adapter.source, adapter.folder)
    stored = {**{name: name for name in base.stored}, **{name: name for name in merged.headers}}
    return replace(adapter, source=merged, stored=stored, tied=base.tied, config=base.config)
