"""How does a saved model come to its place: whole, and never as a part under its name?"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from wdyn.checkpoints.configs import CONFIG
from wdyn.checkpoints.headers import SAFETENSORS_DTYPES
from wdyn.errors import CannotRecord, InvalidArgument, WdynError
from wdyn.naming import examples
from wdyn.store import files
from wdyn.store.root import is_run

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_METADATA = "__metadata__"
_ALIGNMENT = 8
_NAMES = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}


@contextmanager
def placed(place: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a path to write a file or a folder at; when the block is left in order, it is moved to `place` and durable.

    Raises
    ------
    InvalidArgument
        Something is at `place` that may not be replaced.
    CannotRecord
        The disk does not take it.
    """
    _check_free(place, overwrite=overwrite)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".wdyn-export-", dir=place.parent) as folder:
            made = Path(folder) / place.name
            yield made
            _check_free(place, overwrite=overwrite)
            for path in (*made.glob("*"), made):
                files.sync(path)
            _move(made, place)
            files.sync(place.parent)
    except OSError as error:
        if isinstance(error, WdynError):
            raise
        raise CannotRecord(f"Cannot write {place}: {error.strerror or error}") from error


def check_dtypes(tensors: Mapping[str, Tensor]) -> None:
    """Refuse what safetensors has no word for.

    Raises
    ------
    InvalidArgument
        A dtype, or a name, is none that such a file can hold.
    """
    unknown = [f"{name} ({tensor.dtype})" for name, tensor in tensors.items() if tensor.dtype not in _NAMES]
    if unknown or _METADATA in tensors:
        raise InvalidArgument(f"safetensors cannot hold {examples(unknown or [_METADATA])}. Export to a .pt file")


def write_safetensors(
    file: Path, tensors: Mapping[str, Tensor], *, read: Callable[[str], Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file, one tensor at a time.

    Parameters
    ----------
    file
        Where it goes; nothing is there.
    tensors
        Of each a tensor without values, by name.
    read
        Gives the values of one.
    metadata
        What the file says of itself.
    """
    # Those of the widest elements first, as safetensors itself does: so each begins where its elements may.
    order = sorted(tensors, key=lambda name: -tensors[name].element_size())
    about: dict[str, object] = {_METADATA: dict(metadata)}
    start = 0
    for name in order:
        tensor = tensors[name]
        stop = start + tensor.nbytes
        about[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, stop]}
        start = stop
    header = json.dumps(about, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    with file.open("xb") as opened:
        opened.write(len(header).to_bytes(8, "little") + header)
        for name in order:
            opened.write(read(name).contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _check_free(place: Path, *, overwrite: bool) -> None:
    if within := [folder for folder in place.absolute().parents if is_run(folder)]:
        raise InvalidArgument(f"{place} lies within the run {within[0]}, which holds nothing else. Export elsewhere")
    if place.is_dir():
        held = sorted(file.name for file in place.iterdir())
        foreign = [name for name in held if not _is_exported(name)]
        if foreign:
            raise InvalidArgument(
                f"{place} is a folder that holds {examples(foreign)}. Needed is one that is not there"
            )
        if held and not overwrite:
            raise InvalidArgument(
                f"{place} holds a model. Replace it with overwrite=True (--force), or export elsewhere"
            )
    elif place.exists() and not overwrite:
        raise InvalidArgument(f"{place} exists. Replace it with overwrite=True (--force), or export elsewhere")


def _is_exported(name: str) -> bool:
    return name in (CONFIG, INDEX) or (name.startswith("model") and name.endswith(".safetensors"))


def _move(made: Path, place: Path) -> None:
    if made.is_dir() and place.is_dir() and any(place.iterdir()):
        files.exchange(made, place)
    else:
        made.replace(place)
