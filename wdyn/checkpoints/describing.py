"""What is each parameter of a model, of a state dict, or of a checkpoint on disk?"""

from __future__ import annotations

import os
from collections.abc import Mapping

import xarray as xr
from torch import nn

from wdyn.capture.anatomy import addresses
from wdyn.capture.table import parameter_table
from wdyn.checkpoints.headers import read_headers


def describe(model: nn.Module | Mapping[str, object] | str | os.PathLike[str], *, config: object = None) -> xr.Dataset:
    """What is each parameter of a model?

    Parameters
    ----------
    model
        A module; a state dict; or the path of a safetensors file, of a folder with one (and its ``config.json``), or of
        a file that ``torch.save`` wrote. Of files only names and shapes are read.
    config
        The model's config (an object or a mapping), where there is no module to ask. It tells head counts.

    Returns
    -------
    Dataset
        One row for each name over the index coordinate ``parameter``, tied names included:
        ``path role kind stack layer shape dims dtype numel trainable tied_to module parts heads kv_heads head_dim``.

    Raises
    ------
    InvalidArgument
        `model` is none of these, or nothing that can be read is at its path.
    """
    if isinstance(model, str | os.PathLike):
        model, beside = read_headers(model)
        config = beside if config is None else config
    return parameter_table(addresses(model, config=config))
