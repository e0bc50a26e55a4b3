"""How are tensors read from safetensors files, of which a model may have several?"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wdyn.checkpoints.headers import safetensors_header
from wdyn.errors import InvalidArgument

_LENGTH_BYTES = 8
_METADATA = "__metadata__"


@dataclass(frozen=True)
class _Span:
    """Where the bytes of a tensor lie."""

    file: Path
    start: int
    length: int


class SafetensorsFiles:
    """The tensors of several files, as a `wdyn.checkpoints.saved.Source`.

    They are read, not mapped: a file that another program cuts short is then an error that can be told, and pages of a
    mapping cost more than a copy.

    Attributes
    ----------
    headers
        Of each tensor one without values.
    metadata
        What the files say of themselves.

    Raises
    ------
    InvalidArgument
        A file is no safetensors file, or is cut short.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.headers: dict[str, Tensor] = {}
        self.metadata: dict[str, str] = {}
        self._spans: dict[str, _Span] = {}
        for file in files:
            self.headers |= safetensors_header(file)  # which checks what is taken for granted below
            with file.open("rb") as opened:
                length = int.from_bytes(opened.read(_LENGTH_BYTES), "little")
                found = json.loads(opened.read(length))
            self.metadata |= found.pop(_METADATA, {})
            for name, about in found.items():
                start, stop = about["data_offsets"]
                self._spans[name] = _Span(file, _LENGTH_BYTES + length + start, stop - start)

    def read(self, name: str) -> Tensor:
        """Read one tensor."""
        return self.read_into(name, torch.empty_like(self.headers[name], device="cpu"))

    def read_into(self, name: str, target: Tensor) -> Tensor:
        """Read one tensor into contiguous memory of its shape and dtype; return that."""
        span = self._spans[name]
        if target.nbytes != span.length:
            raise InvalidArgument(f"{span.file} holds {name} in an element type that this torch does not have")
        data = target.reshape(-1).view(torch.uint8).numpy()
        with span.file.open("rb", buffering=0) as opened:
            found = os.preadv(opened.fileno(), [data.data], span.start) if span.length else 0
            while 0 < found < span.length:  # the system reads at most 2 GiB at once
                more = os.preadv(opened.fileno(), [data[found:].data], span.start + found)
                found = found + more if more else -1
        if found != span.length:
            raise InvalidArgument(f"{span.file} ends within {name}: it was cut short")
        return target


def dropped_ties(metadata: Mapping[str, str], held: Mapping[str, Tensor]) -> dict[str, str]:
    """Give the names that ``safetensors.torch.save_model`` left out, each with the one that holds its values."""
    return {name: at for name, at in metadata.items() if at in held and name not in held}
