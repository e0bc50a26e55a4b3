"""How is what ``torch.save`` wrote read, without ever running code that lies in it?"""

from __future__ import annotations

import argparse
import io
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy._core.multiarray as numpy_pickling
import torch
from torch.serialization import safe_globals

from wdyn.checkpoints.claims import check_archive, checked
from wdyn.checkpoints.contents import Contents, tensors_in
from wdyn.errors import InvalidArgument

_ARCHIVE, _SHOWN = b"PK\x03\x04", 16
_REFUSED = re.compile(r"GLOBAL (\S+)")
_OLD_NUMPY = "numpy.core.multiarray"
"""The module of what unpickles numpy's scalars and arrays, as files written with numpy 1 call it."""


def read_torch_file(file: Path) -> Contents:
    """Read a file of ``torch.save``; its tensors stay in the file, mapped.

    A file of torch before 1.6 cannot be mapped, and is read as a whole.

    Raises
    ------
    InvalidArgument
        It is no such file, is damaged, claims more than it holds, or holds objects other than tensors, numpy's and
        plain ones.
    """
    zipped = zipfile.is_zipfile(file)
    if zipped:
        check_archive(file)
    tree = _loaded(file, mapped=zipped)
    tensors = dict(tensors_in(tree))
    checked({label: tensor for label, tensor in tensors.items() if tensor.layout is torch.strided}, file)
    return Contents(str(file), tree)


def load(file: Path | io.BytesIO, *, mapped: bool = False) -> object:
    """Load tensors, numbers and plain containers, and refuse anything else."""
    with safe_globals(list(_allowed())):
        # Mapped, so that names which share a storage still do, and only what is used is read.
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)


def _loaded(file: Path, *, mapped: bool) -> object:
    try:
        return load(file, mapped=mapped)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
        raise InvalidArgument(f"{file} cannot be read as tensors: {_trouble(file, error)}.") from error


def _trouble(file: Path, error: Exception) -> str:
    """Say what is wrong with a file, and what to do: torch tells little of one that it did not write."""
    if refused := _REFUSED.search(str(error)):
        return f"it refers to {refused[1]}. Save the model's state_dict() itself: code inside a checkpoint is never run"
    with file.open("rb") as opened:
        start = opened.read(_SHOWN)
    if not start:
        return "it is empty. Copy or save it anew"
    if start.startswith((_ARCHIVE, pickle.PROTO)):
        return f"it is cut short or damaged ({type(error).__name__}). Copy or save it anew"
    return f"it begins with {start!r}, as no file of torch.save does. Needed is one that holds a state dict"


def _allowed() -> Iterator[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What numpy's scalars and arrays consist of, and what holds a script's arguments: none of them runs code."""
    yield from (np.ndarray, np.dtype, argparse.Namespace)
    yield from {getattr(np.dtypes, name) for name in np.dtypes.__all__ if name not in {"ObjectDType", "VoidDType"}}
    for function in (numpy_pickling.scalar, numpy_pickling._reconstruct):
        yield function
        yield function, f"{_OLD_NUMPY}.{function.__name__}"
