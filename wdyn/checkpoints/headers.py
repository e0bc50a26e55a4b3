"""Which tensors does a saved model hold, by name, shape and dtype, without reading their values?"""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from wdyn.checkpoints.configs import CONFIG
from wdyn.errors import InvalidArgument

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLES = ("model.safetensors", "adapter_model.safetensors", "pytorch_model.bin", "adapter_model.bin")
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_STATE_KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
_CONFIG_KEYS = ("config", "model_args", "hyper_parameters", "args")

# safetensors' names of element types -> torch's.
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def has_only_a_config(place: Path) -> bool:
    """Whether a folder says what a model is, and holds no weights of it."""
    return (place / CONFIG).is_file() and not any(
        file.suffix in _SUFFIXES or file.name.endswith(".index.json") for file in place.iterdir()
    )


def read_headers(path: str | os.PathLike[str]) -> tuple[dict[str, torch.Tensor], object]:
    """Read names, shapes and dtypes of a saved model, and the config beside it.

    Returns
    -------
    tuple
        Name -> tensor without values (on ``meta``, or mapped from the file and unread), and the config as a dict
        (None where there is none).

    Raises
    ------
    InvalidArgument
        Nothing is at `path`, or it is no checkpoint that can be read.
    """
    place = Path(path)
    if not place.exists():
        raise InvalidArgument(
            f"Nothing is at {place}. Give a safetensors file, a folder that holds one, or a .pt file."
        )
    state: dict[str, torch.Tensor] = {}
    config: object = None
    for file in _files(place):
        tensors, inside = _safetensors(file) if file.suffix == ".safetensors" else _torch_file(file)
        state.update(tensors)
        config = config or inside
    if not state:
        raise InvalidArgument(f"{place} holds no tensors. A state dict is needed: a mapping of names to tensors.")
    return state, _config_beside(place if place.is_dir() else place.parent) or config


def _files(place: Path) -> list[Path]:
    """List the files that hold the tensors: the shards of an index, else the one file with a usual name."""
    if place.is_file():
        return _shards(place) if place.name.endswith(".index.json") else [place]
    for name in _INDEXES:
        if (place / name).is_file():
            return _shards(place / name)
    for name in _SINGLES:
        if (place / name).is_file():
            return [place / name]
    found = sorted(file for file in place.iterdir() if file.suffix in _SUFFIXES)
    if len(found) == 1 or (found and all(file.suffix == ".safetensors" for file in found)):
        return found
    raise InvalidArgument(
        f"{place} holds {len(found)} files that may be checkpoints, none with a usual name. Give the path of one file."
    )


def _shards(index: Path) -> list[Path]:
    names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise InvalidArgument(f"{index} lists {len(names)} files, of which {len(missing)} are missing: {missing[0]}.")
    return [index.parent / name for name in names]


def _safetensors(file: Path) -> tuple[dict[str, torch.Tensor], object]:
    try:
        with safe_open(file, framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
            return {name: _empty(one.get_shape(), one.get_dtype()) for name, one in slices.items()}, None
    except SafetensorError as error:
        raise InvalidArgument(f"{file} is no safetensors file: {error}.") from error


def _empty(shape: list[int], dtype: str) -> torch.Tensor:
    # An element type that torch lacks (a packed 4-bit one) still has a shape to show.
    return torch.empty(shape, dtype=_DTYPES.get(dtype, torch.uint8), device="meta")


def _torch_file(file: Path) -> tuple[dict[str, torch.Tensor], object]:
    try:
        saved = _load(file)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InvalidArgument(
            f"{file} cannot be read as tensors ({type(error).__name__}). Save the model's state_dict() itself: code "
            "inside a checkpoint is never run."
        ) from error
    if not isinstance(saved, Mapping):
        raise InvalidArgument(f"{file} holds a {type(saved).__name__}. A state dict is needed: names to tensors.")
    return _state_in(saved), next((saved[key] for key in _CONFIG_KEYS if isinstance(saved.get(key), Mapping)), None)


def _load(file: Path) -> object:
    """Map the file, so that names which share a storage still do; files of torch before 1.6 cannot be mapped."""
    if zipfile.is_zipfile(file):
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return torch.load(file, map_location="meta", weights_only=True)


def _state_in(saved: Mapping[object, object]) -> dict[str, torch.Tensor]:
    """Find the model among what a training script saves beside it (optimizer, step)."""
    for key in _STATE_KEYS:
        inside = saved.get(key)
        if isinstance(inside, Mapping) and any(isinstance(value, torch.Tensor) for value in inside.values()):
            return dict(_tensors(inside))
    return dict(_tensors(saved))


def _tensors(mapping: Mapping[object, object]) -> Iterator[tuple[str, torch.Tensor]]:
    return ((str(name), value) for name, value in mapping.items() if isinstance(value, torch.Tensor))


def _config_beside(folder: Path) -> object:
    file = folder / CONFIG
    return json.loads(file.read_text()) if file.is_file() else None
