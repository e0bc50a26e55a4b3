"""What is each parameter of a model, of a state dict, of a checkpoint on disk, or of what a config says?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import xarray as xr
from torch import nn

from wdyn.capture.anatomy import addresses
from wdyn.capture.declared import Declared, check_parts
from wdyn.capture.table import parameter_table
from wdyn.checkpoints.configs import is_hub_name, model_from_config
from wdyn.checkpoints.files import has_only_a_config
from wdyn.checkpoints.opening import tensors_at
from wdyn.errors import InvalidArgument


def describe(
    model: nn.Module | Mapping[str, object] | str | os.PathLike[str],
    *,
    config: object = None,
    parts: Declared | None = None,
    key: str | None = None,
) -> xr.Dataset:
    """What is each parameter of a model?

    Parameters
    ----------
    model
        A module; a state dict; the path of a safetensors file, of a folder with one (and its ``config.json``), of the
        index of several, of a file that ``torch.save`` wrote, or of a folder of ``torch.distributed.checkpoint``; or a
        folder with a ``config.json`` alone, or a name on the Hugging Face hub. Of files only names and shapes are
        read, of the hub only the config.
    config
        The model's config (an object or a mapping), where there is no module to ask. It tells head counts.
    parts
        How fused weights split, where you know better than the evidence: ``{"*.qkv.weight": "q,k,v"}`` for equal parts
        along fan_out, ``"q:32,k:8,v:8"`` for others, ``"q,k,v per_head:4"`` for four times one head of each, or a
        `wdyn.schema.Parts`.
    key
        Which model, where a file holds several: ``"ema"``.

    Returns
    -------
    Dataset
        One row for each name over the index coordinate ``parameter``, tied names included:
        ``path role kind stack layer shape dims dtype numel trainable tied_to module parts heads kv_heads head_dim``.
        The attribute ``model`` is the class of the module, "" where none was there.

    Raises
    ------
    InvalidArgument
        `model` is none of these, nothing that can be read is at its path, or `parts` does not fit.
    """
    if isinstance(model, xr.DataTree):
        raise InvalidArgument("This is a run, whose parameters are described already: wdyn.parameters(run)")
    if isinstance(model, str | os.PathLike):
        model, beside = _read(model, key=key)
        config = beside if config is None else config
    found = addresses(model, config=config)
    if parts is not None:
        check_parts(parts, found)
        found = addresses(model, config=config, parts=parts)
    name = type(model).__name__ if isinstance(model, nn.Module) else ""
    return parameter_table(found).assign_attrs(model=name)


def _read(source: str | os.PathLike[str], *, key: str | None) -> tuple[nn.Module | Mapping[str, object], object]:
    place = Path(source)
    asked_of_hub = isinstance(source, str) and not place.exists() and is_hub_name(source)
    if asked_of_hub or has_only_a_config(place):
        return model_from_config(source if isinstance(source, str) else place), None
    found = tensors_at(place, key=key)
    return found.source.headers, found.config or None
