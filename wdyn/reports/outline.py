"""What is the model made of, each block said once?

A model of 12 equal blocks has 148 parameters and about a dozen things to say about them.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile

import xarray as xr

from wdyn import schema
from wdyn.reports.splits import split_words

OUTSIDE = "outside blocks"

_LONGEST = 40
"""Modules that a block may list: more are names that do not repeat, and a list of them tells nothing."""


@dataclass(frozen=True)
class Member:
    """One module of a block, with all that it holds.

    Attributes
    ----------
    name
        Its path below the block: ``attn.c_attn``.
    role
        What it does.
    tensors
        Its parameters and their lengths: ``weight 2304 × 768, bias 2304``.
    notes
        What is special: the path whose storage it shares, that it is frozen.
    parts
        How it splits: ``q 768, k 768, v 768; 12 heads of 64``, or ``parts unknown`` where it is fused and nobody can
        tell how; "" for what does not split.
    values
        Count of its elements, those that it shares left out.
    """

    name: str
    role: str
    tensors: str
    notes: str = ""
    parts: str = ""
    values: int = 0


@dataclass(frozen=True)
class Block:
    """What repeats over some layers, or stands alone outside them.

    Attributes
    ----------
    title
        Such as ``decoder, layers 0–11``.
    count
        How many layers are alike.
    members
        What each of them holds.
    """

    title: str
    count: int
    members: tuple[Member, ...]

    @property
    def values(self) -> int:
        """Count of elements that one of its layers holds."""
        return sum(member.values for member in self.members)


@dataclass(frozen=True)
class _Tensor:
    """Parameters that differ in nothing but their layer."""

    module: str
    leaf: str
    role: str
    stack: str
    shape: tuple[int, ...]
    trainable: bool
    tied_to: str
    layered: bool
    dtype: str
    """"" for the one that most of the model has."""
    split: str

    @property
    def words(self) -> str:
        """What to call it: ``weight 768 × 2304 int8``."""
        size = " × ".join(map(str, self.shape)) if self.shape else "scalar"
        return f"{self.leaf} {size} {self.dtype}".rstrip()

    @property
    def values(self) -> int:
        """Count of elements that only it holds."""
        return 0 if self.tied_to else math.prod(self.shape)


def outline(parameters: xr.Dataset) -> tuple[Block, ...]:
    """Fold the table of parameters into blocks.

    Parameters
    ----------
    parameters
        The table of a run, or what `describe` says of a model: variables ``path role stack layer shape trainable
        tied_to`` over ``parameter``, and ``dtype parts heads kv_heads head_dim`` where they are known.
    """
    blocks: dict[tuple[str, tuple[int, ...], bool], list[_Tensor]] = {}
    blocks_seen = False
    for tensor, layers in _fold(parameters).items():
        blocks_seen |= tensor.layered
        # What stands before the blocks and what stands after them are two things: embeddings and head.
        key = (tensor.stack if tensor.layered else "", tuple(layers), blocks_seen)
        blocks.setdefault(key, []).append(tensor)
    return tuple(_block(stack, layers, tensors) for (stack, layers, _), tensors in blocks.items())


def spans(numbers: Iterable[int]) -> str:
    """Write ascending numbers in short: ``0-3, 7``."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs)


def _fold(parameters: xr.Dataset) -> dict[_Tensor, list[int]]:
    folded: dict[_Tensor, list[int]] = {}
    for tensor, layer in _tensors(parameters):
        layers = folded.setdefault(tensor, [])
        if tensor.layered:
            layers.append(layer)
    return folded


def _tensors(parameters: xr.Dataset) -> Iterator[tuple[_Tensor, int]]:
    columns = {str(name): values.values.tolist() for name, values in parameters.data_vars.items()}
    names = parameters[schema.PARAMETER].values.tolist()
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    path_of = dict(zip(names, columns["path"], strict=True))
    usual = Counter(columns.get("dtype", ())).most_common(1)
    for name, row in zip(names, rows, strict=True):
        module, _, leaf = row["path"].rpartition(".")
        layer, shape, partner = row["layer"], _lengths(row["shape"]), row["tied_to"]
        # By its path, so that what is tied within each layer folds too. Who names itself is no arrow.
        arrow = "" if partner == name else path_of.get(partner, partner)
        layered, trains = layer != schema.NO_LAYER, bool(row["trainable"])
        dtype = "" if not usual or row["dtype"] == usual[0][0] else row["dtype"]
        split = split_words(row) if len(shape) > 1 else ""
        yield _Tensor(module, leaf, row["role"], row["stack"], shape, trains, arrow, layered, dtype, split), layer


def _lengths(shape: object) -> tuple[int, ...]:
    return tuple(json.loads(shape)) if isinstance(shape, str) else tuple(shape)  # type: ignore[arg-type]


def _block(stack: str, layers: tuple[int, ...], tensors: list[_Tensor]) -> Block:
    prefix = _common([tensor.module for tensor in tensors]) if layers else ""
    modules: dict[tuple[str, str], list[_Tensor]] = {}
    for tensor in tensors:
        modules.setdefault((tensor.module, tensor.role), []).append(tensor)
    members = [_member(module[len(prefix) :], role, group) for (module, role), group in modules.items()]
    if len(members) > _LONGEST:
        members[_LONGEST:] = [Member(f"and {len(members) - _LONGEST} more", "", "")]
    where = f" of {prefix.rstrip('.')}" if prefix else ""
    title = f"{stack}, layer{'s' if len(layers) > 1 else ''} {spans(layers)}{where}" if layers else OUTSIDE
    return Block(title, max(len(layers), 1), tuple(members))


def _common(modules: list[str]) -> str:
    """Components that all modules begin with, with the dot that follows: ``transformer.h.``."""
    columns = zip(*(module.split(".")[:-1] for module in modules), strict=False)
    return "".join(f"{parts[0]}." for parts in takewhile(lambda parts: len(set(parts)) == 1, columns))


def _member(name: str, role: str, tensors: list[_Tensor]) -> Member:
    text = ", ".join(tensor.words for tensor in tensors)
    notes = [f"shares the storage of {tensor.tied_to}" for tensor in tensors if tensor.tied_to]
    frozen = [tensor.leaf for tensor in tensors if not tensor.trainable]
    if frozen:
        notes.append("frozen" if len(frozen) == len(tensors) else f"{', '.join(frozen)} frozen")
    splits = dict.fromkeys(tensor.split for tensor in tensors if tensor.split)
    return Member(name, role, text, "; ".join(notes), "; ".join(splits), sum(tensor.values for tensor in tensors))
