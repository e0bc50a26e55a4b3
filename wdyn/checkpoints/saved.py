"""What is a saved model: which tensors it holds, and what else is known, before any value is read?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from wdyn.capture.ties import shares_with
from wdyn.naming import canonical_names

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt", "spiece.model")


class Source(Protocol):
    """Where tensors lie: a file, several of them, or a model and what adapts it."""

    @property
    def headers(self) -> Mapping[str, Tensor]:
        """Of each tensor, by its name there, one without values (or one that is mapped and unread).

        Names that share memory in the file share it here, as `wdyn.capture.ties` sees it.
        """

    def read(self, name: str) -> Tensor:
        """Read one tensor: on the CPU, bit for bit in its own dtype. It may lie in the file, mapped; do not write."""


@runtime_checkable
class Filling(Source, Protocol):
    """A source that reads into memory which is there already: much faster than into fresh memory, or by a mapping."""

    def read_into(self, name: str, target: Tensor) -> Tensor:
        """Read one tensor into contiguous memory of its shape and dtype; return that."""


@dataclass(frozen=True)
class Evidence:
    """A number that may be the step of a saved model, and what says so."""

    number: int
    source: str
    """What says so, as it is told: ``the optimizer's state``, ``the field 'epoch'``, ``its name``."""
    rank: int
    """The kind of evidence; the lowest that a whole series has is believed."""
    unit: str = "step"
    """``step``, ``epoch``, or "" where a bare number does not tell."""


@dataclass(frozen=True)
class Training:
    """What was saved beside the weights about how they train.

    Attributes
    ----------
    settings
        Of each parameter group of the optimizer its plain settings: ``lr``, ``weight_decay``, ``betas``...
    group_of
        Number of the group of each parameter whose place in the optimizer is known.
    moments
        By the optimizer's key, such as ``exp_avg``: the parameters of which there is one, each with its name in
        `source`. Only of parameters whose place in the optimizer is proven.
    source
        Where the moments lie; None where there are none.
    history
        What the trainer logged, by step: ``loss``, ``lr``, ``grad_norm``, ``eval_loss``...
    scheduled
        Whether a scheduler was saved: ``lr`` in `settings` is then that of the step to come.
    notes
        What could not be used, and why.
    """

    settings: tuple[Mapping[str, Any], ...] = ()
    group_of: Mapping[str, int] = field(default_factory=dict)
    moments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    source: Source | None = None
    history: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    scheduled: bool = False
    notes: tuple[str, ...] = ()

    def read(self, key: str, name: str) -> Tensor:
        """Read one moment of one parameter, as in ``read("exp_avg", "h.0.attn.weight")``."""
        if self.source is None:
            raise KeyError(key)
        return self.source.read(self.moments[key][name])


@dataclass(frozen=True)
class Saved:
    """A saved model, made by `open_saved`. Its names and shapes are known; values are read one tensor at a time.

    Attributes
    ----------
    called
        What a message calls it: the path or the name that was given, and the revision.
    place
        The file or the folder that it lies in.
    tensors
        By canonical name (as in `wdyn.describe`, wrappers' prefixes stripped), in the order of the file: a tensor
        without values that has the `shape` and the `dtype`. Names that share memory in the file share it here.
    tied
        Names that the file leaves out because they are tied, each with the one in `tensors` that holds its values.
    config
        The model's config, as ``config.json`` or the file has it; empty where there is none.
    evidence
        What tells the step, the most reliable first.
    training
        State of the optimizer, and what the trainer logged.
    notes
        What is there and was left out, each as a sentence.
    """

    called: str
    place: Path
    source: Source = field(repr=False)
    stored: Mapping[str, str] = field(repr=False)
    """Canonical name -> the name in the file."""
    tied: Mapping[str, str] = field(default_factory=dict, repr=False)
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    evidence: tuple[Evidence, ...] = ()
    training: Training = field(default_factory=Training, repr=False)
    notes: tuple[str, ...] = ()

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Canonical name -> tensor without values."""
        headers = self.source.headers
        return {name: headers[stored] for name, stored in self.stored.items()}

    @property
    def names(self) -> list[str]:
        """Canonical names of all tensors: those in the file, then tied ones that it leaves out."""
        return [*self.stored, *self.tied]

    def read(self, name: str) -> Tensor:
        """Read the values of one tensor, by canonical name: on the CPU, bit for bit, in its own dtype.

        The tensor may be mapped from the file: do not write into it, and let go of it before the next.

        Raises
        ------
        KeyError
            There is no such tensor.
        InvalidArgument
            The file cannot be read back.
        """
        return self.source.read(self.stored[self.tied.get(name, name)])

    def read_into(self, name: str, target: Tensor) -> Tensor:
        """Read the values of one tensor into contiguous memory of its shape and dtype, which is used again so."""
        if isinstance(self.source, Filling):
            return self.source.read_into(self.stored[self.tied.get(name, name)], target)
        return target.copy_(self.read(name))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return tuple(self.tensors[self.tied.get(name, name)].shape)

    def dtype(self, name: str) -> torch.dtype:
        """Element type of a tensor, without reading it."""
        return self.tensors[self.tied.get(name, name)].dtype

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Read each tensor in turn, tied names not twice."""
        return ((name, self.read(name)) for name in self.stored)

    @cached_property
    def leaders(self) -> dict[str, str]:
        """For each of `names` the first that shares its memory, which may be itself: the tie graph."""
        shared = shares_with(self.tensors)
        return shared | {name: shared[holder] for name, holder in self.tied.items()}

    @property
    def nbytes(self) -> int:
        """Size of all tensors in bytes, tied ones once."""
        return sum(self.tensors[name].nbytes for name, first in self.leaders.items() if name == first)

    @property
    def step(self) -> int | None:
        """The step, by the best evidence; None where nothing tells it."""
        return self.evidence[0].number if self.evidence else None

    @property
    def step_source(self) -> str:
        """What tells `step`; "" where nothing does."""
        return self.evidence[0].source if self.evidence else ""

    @property
    def folder(self) -> Path:
        """The folder with what lies beside the weights."""
        return self.place if self.place.is_dir() else self.place.parent

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer lies in the folder."""
        return any((self.folder / name).is_file() for name in _TOKENIZERS)


def canonical(names: Mapping[str, Tensor]) -> dict[str, str]:
    """Canonical name -> name in the file."""
    return {short: name for name, short in canonical_names(names).items()}
