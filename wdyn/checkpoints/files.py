"""Which files hold the tensors of one saved model?"""

from __future__ import annotations

import re
from pathlib import Path

from wdyn.checkpoints.adapters import is_adapter
from wdyn.checkpoints.claims import read_json
from wdyn.checkpoints.configs import CONFIG
from wdyn.checkpoints.distributed import is_distributed
from wdyn.errors import InvalidArgument
from wdyn.naming import examples

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""How the names of files that hold weights end."""

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLES = ("model.safetensors", "adapter_model.safetensors", "pytorch_model.bin", "adapter_model.bin")
_NUMBER = re.compile(r"(\d+)")
_SHARD = re.compile(r".*-\d+-of-\d+\.\w+")
_BESIDE = re.compile(
    r"(optimizer|optim|scheduler|lr_scheduler|scaler|training_args|rng_state|random_states|trainer_state)[\w-]*\.\w+"
)
"""Files that training scripts put beside weights."""


def is_weights_file(file: Path) -> bool:
    """Whether a file may hold weights, by its name."""
    return file.is_file() and file.suffix in SUFFIXES and not _BESIDE.fullmatch(file.name)


def has_only_a_config(place: Path) -> bool:
    """Whether a folder says what a model is, and holds no weights of it."""
    return (place / CONFIG).is_file() and not any(
        file.suffix in SUFFIXES or file.name.endswith(".index.json") for file in place.iterdir()
    )


def is_model(folder: Path) -> bool:
    """Whether a folder is itself one saved model, by the names of what lies in it."""
    if is_distributed(folder) or is_adapter(folder):
        return True
    names = [file.name for file in folder.iterdir() if is_weights_file(file)]
    usual = any((folder / name).is_file() for name in (*_INDEXES, *_SINGLES))
    sharded = bool(names) and all(_SHARD.fullmatch(name) for name in names)
    return usual or sharded or (len(names) == 1 and (folder / CONFIG).is_file())


def files_of(place: Path) -> list[Path]:
    """List the files that hold the tensors: the shards of an index, else the one file with a usual name.

    Raises
    ------
    InvalidArgument
        None or several may be meant, or an index names files that are missing or lie elsewhere.
    """
    if place.is_file():
        return _shards(place) if place.name.endswith(".index.json") else [place]
    for name in _INDEXES:
        if (place / name).is_file():
            return _shards(place / name)
    for name in _SINGLES:
        if (place / name).is_file():
            return [place / name]
    inside = sorted(place.iterdir(), key=natural)
    found = [one for one in inside if is_weights_file(one)]
    if len(found) == 1 or (found and all(_SHARD.fullmatch(file.name) for file in found)):
        return found
    if several := found or [one for one in inside if one.is_dir() and is_model(one)]:
        names = examples(one.name for one in several)
        count = f"{len(several)} saved model{'s' * (len(several) > 1)}"
        raise InvalidArgument(f"{place} holds {count}: {names}. Give the path of one.")
    raise InvalidArgument(
        f"{place} holds no saved model: needed is a file {' '.join(SUFFIXES)}, or a folder with one of a usual name."
    )


def model_folder(place: Path) -> Path:
    """The folder that is the model, where one of its files was named: ``checkpoint-500/model.safetensors``."""
    return place.parent if place.name in (*_INDEXES, *_SINGLES) else place


def natural(path: Path) -> list[tuple[int, str]]:
    """Sort by name, numbers in it by what they are: ``epoch_2`` before ``epoch_10``."""
    pieces = _NUMBER.split(path.name)
    return [(int(piece), "") if at % 2 else (-1, piece) for at, piece in enumerate(pieces)]


def _shards(index: Path) -> list[Path]:
    listed = read_json(index).get("weight_map")
    names = sorted(set(map(str, listed.values()))) if isinstance(listed, dict) else []
    if not names or (outside := [name for name in names if Path(name).name != name]):
        found = f"{outside[0]!r}, which is no file beside it" if names else "no files"
        raise InvalidArgument(f"{index} lists {found}. Give the index that was saved with the shards.")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise InvalidArgument(f"{index} lists {len(names)} files, of which {len(missing)} are missing: {missing[0]}.")
    return [index.parent / name for name in names]
