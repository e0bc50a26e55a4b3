"""How is a folder of ``torch.distributed.checkpoint`` read by one process, one tensor at a time?"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import ReadItem

from wdyn.checkpoints.contents import Contents
from wdyn.checkpoints.torch_files import load
from wdyn.errors import InvalidArgument

METADATA = ".metadata"

_METADATA_MODULES = {"torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem"}
_METADATA_CLASSES = {
    "Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata", "TensorProperties",
    "MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING", "_StorageInfo",
}  # fmt: skip
_PATHS = {"Path", "PosixPath", "PurePosixPath", "PurePath"}
_LARGEST_OBJECT = 1 << 20
"""Bytes up to which an object that is no tensor is read."""


def is_distributed(folder: Path) -> bool:
    """Whether ``torch.distributed.checkpoint`` wrote this folder."""
    return (folder / METADATA).is_file() and any(folder.glob("*.distcp"))


def read_distributed(folder: Path) -> Contents:
    """Read what a folder holds: its tensors have no values yet, small other objects are read.

    Raises
    ------
    InvalidArgument
        Its metadata cannot be read, names files that lie elsewhere, are missing or too short, or claims more than they
        hold.
    """
    reader = _Reader(folder)
    _check_places(folder, reader.known)
    _check_sizes(folder, reader.known)
    places = reader.known.planner_data or {}
    objects = [name for name, one in reader.known.state_dict_metadata.items() if isinstance(one, BytesStorageMetadata)]
    held: dict[str, object] = dict(reader.objects(objects))
    held |= reader.headers
    name_of = {id(tensor): name for name, tensor in reader.headers.items()}
    tree: dict[Any, Any] = {}
    for name, value in held.items():
        _put(tree, places.get(name, (name,)), value)
    return Contents(str(folder), _with_lists(tree), lambda tensor: reader.tensor(name_of[id(tensor)]))


class _Reader(FileSystemReader):
    """Reads single tensors, in this process alone, and takes no code from the metadata."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.known = _metadata(folder / METADATA)
        self.headers = {
            name: torch.empty(one.size, dtype=one.properties.dtype, device="meta")
            for name, one in self.known.state_dict_metadata.items()
            if isinstance(one, TensorStorageMetadata)
        }
        self.set_up_storage_reader(self.known, is_coordinator=True)

    def tensor(self, name: str) -> Tensor:
        """Read one tensor, put together from its pieces."""
        target = torch.empty_like(self.headers[name], device="cpu")
        self._read({name: target}, DefaultLoadPlanner())
        return target

    def objects(self, names: Iterable[str]) -> Mapping[str, object]:
        """Read objects that are no tensors; of one that cannot be read safely, or is large, None."""
        found = dict.fromkeys(names)
        small = {name: None for name in found if self._length(name) <= _LARGEST_OBJECT}
        planner = _ObjectPlanner()
        if small:
            self._read(dict(small), planner)
        return found | planner.found

    def _read(self, wanted: dict[str, Any], planner: DefaultLoadPlanner) -> None:
        try:
            planner.set_up_planner(wanted, self.known, is_coordinator=True)
            self.read_data(planner.create_local_plan(), planner).wait()
        except (OSError, RuntimeError, EOFError, AssertionError, pickle.UnpicklingError) as error:
            raise InvalidArgument(
                f"{self.folder} cannot be read back at {next(iter(wanted))}: {type(error).__name__}: {error}"
            ) from error

    def _length(self, name: str) -> int:
        return sum(info.length for index, info in self.known.storage_data.items() if index.fqn == name)


class _ObjectPlanner(DefaultLoadPlanner):
    """Takes objects as far as they can be read without running code."""

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self.found: dict[str, object] = {}

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Take one object; one of another kind is left out."""
        try:
            self.found[read_item.dest_index.fqn] = load(value)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError):
            self.found[read_item.dest_index.fqn] = None


class _Unpickler(pickle.Unpickler):
    """Makes the plain records that metadata consist of, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Give what a name in the pickle stands for, if it is one of the records."""
        known = module in _METADATA_MODULES and re.split(r"\.", name)[0] in _METADATA_CLASSES
        plain = (module, name) in {("torch", "Size"), ("collections", "OrderedDict"), ("builtins", "set")}
        path = module.partition(".")[0] == "pathlib" and name in _PATHS
        layout = (module, name) == ("torch.serialization", "_get_layout")
        dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if known or plain or path or layout or dtype:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")


def _metadata(file: Path) -> Metadata:
    try:
        with file.open("rb") as opened:
            found = _Unpickler(opened).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, TypeError, ValueError, IndexError, KeyError) as error:
        raise InvalidArgument(f"{file} is no metadata of torch.distributed.checkpoint: {error}") from error
    if not isinstance(found, Metadata) or not isinstance(found.storage_data, Mapping):
        raise InvalidArgument(f"{file} is no metadata of torch.distributed.checkpoint: it holds none")
    return found


def _check_places(folder: Path, known: Metadata) -> None:
    """Refuse files that lie elsewhere, are not there, or end before what they should hold."""
    ends: dict[str, int] = {}
    for info in known.storage_data.values():
        ends[info.relative_path] = max(ends.get(info.relative_path, 0), info.offset + info.length)
    for name, end in ends.items():
        if Path(name).name != name:
            raise InvalidArgument(f"{folder / METADATA} names {name!r}, which does not lie in the folder")
        if not (folder / name).is_file():
            raise InvalidArgument(f"{folder} lacks {name}, of which its {METADATA} tells")
        if (size := (folder / name).stat().st_size) < end:
            raise InvalidArgument(f"{folder / name} has {size} bytes, and needs {end}: it was cut short")


def _check_sizes(folder: Path, known: Metadata) -> None:
    """Refuse tensors that claim more than was written of them."""
    held: dict[str, int] = defaultdict(int)
    for index, info in known.storage_data.items():
        held[index.fqn] += info.length
    for name, one in known.state_dict_metadata.items():
        if isinstance(one, TensorStorageMetadata):
            claimed = math.prod(one.size) * one.properties.dtype.itemsize
            if claimed > held[name]:
                raise InvalidArgument(f"{folder} claims {claimed:,} bytes of {name}, and holds {held[name]:,}")


def _put(tree: dict[Any, Any], place: Sequence[Any], value: object) -> None:
    for key in place[:-1]:
        tree = tree.setdefault(key, {})
    tree[place[-1]] = value


def _with_lists(tree: Any) -> Any:
    """Turn mappings that only count into the lists that they were."""
    if not isinstance(tree, dict):
        return tree
    inside = {key: _with_lists(value) for key, value in tree.items()}
    counts = bool(inside) and list(inside) == list(range(len(inside)))
    return list(inside.values()) if counts else inside
