"""Can what a saved model claims be in its file?

A file of a kilobyte can claim any shape, by repeating one number or by naming a storage that it does not hold; an
archive of a megabyte can unpack to a gigabyte. Both are told before a value is touched.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from wdyn.errors import InvalidArgument

_MOST_JSON: Final = 2**26
"""Size of a config, or of an index of shards, that none has."""


def check_archive(file: Path) -> None:
    """Refuse an archive that unpacks to more than its own size: `torch.save` packs nothing.

    Raises
    ------
    InvalidArgument
        It does.
    """
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    has, needs = file.stat().st_size, sum(member.file_size for member in members)
    if needs > has or any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise InvalidArgument(
            f"{file} has {has:,} bytes, is compressed, and would unpack to {needs:,}. torch.save does not compress: "
            "save the state_dict() anew with it."
        )


def checked(tensors: Mapping[str, torch.Tensor], file: Path) -> dict[str, torch.Tensor]:
    """Refuse tensors that claim more values than their storage has room for, or storages larger than their file.

    Raises
    ------
    InvalidArgument
        One does; the message names it.
    """
    storages: dict[int, int] = {}
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided:
            raise InvalidArgument(f"{name!r} in {file} is of layout {tensor.layout}. Dense tensors are needed.")
        storage, claimed = tensor.untyped_storage(), tensor.numel() * tensor.element_size()
        if claimed > storage.nbytes():
            raise InvalidArgument(
                f"{name!r} in {file} claims {claimed:,} bytes (shape {list(tensor.shape)}), and {storage.nbytes():,} "
                "are kept of it. Save it with .contiguous() if it was expanded."
            )
        storages[storage._cdata] = storage.nbytes()
    has, claimed = file.stat().st_size, sum(storages.values())
    if claimed > has:
        raise InvalidArgument(f"{file} has {has:,} bytes, and its tensors claim {claimed:,}.")
    return dict(tensors)


def read_json(file: Path) -> dict[str, Any]:
    """Read the JSON object in a file beside a checkpoint.

    Raises
    ------
    InvalidArgument
        It holds none, or is larger or deeper than any config.
    """
    if (size := file.stat().st_size) > _MOST_JSON:
        raise InvalidArgument(f"{file} has {size:,} bytes, and can have {_MOST_JSON:,} at most.")
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{file} cannot be read as JSON: {error}.") from error
    if not isinstance(found, dict):
        raise InvalidArgument(f"{file} holds a {type(found).__name__}. A JSON object is needed.")
    return found
