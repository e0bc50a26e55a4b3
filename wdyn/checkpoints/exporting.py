"""How do the weights of a step become a saved model that other programs read?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from wdyn import schema
from wdyn.checkpoints.placing import check_dtypes, placed, write_safetensors
from wdyn.checkpoints.pretrained import write_folder
from wdyn.checkpoints.restoring import restored
from wdyn.checkpoints.run_weights import RunWeights
from wdyn.errors import InvalidArgument
from wdyn.naming import examples
from wdyn.reading.tables import dataset

if TYPE_CHECKING:
    import xarray as xr

SAFETENSORS = ".safetensors"
TORCH = (".pt", ".pth", ".bin")
_SELECTED = "left_out"


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes
    ----------
    path
        The file, or the folder.
    step
        The step whose weights they are.
    names
        Count of the weights, tied names too.
    tied
        Names that share the memory of another one, with that one.
    nbytes
        Size of the files.
    notes
        What else is to be known, each as a sentence.
    """

    path: Path
    step: int
    names: int
    tied: Mapping[str, str]
    nbytes: int
    notes: tuple[str, ...] = ()


def export(
    run: xr.DataTree,
    *,
    step: int | None = None,
    to: str | os.PathLike[str],
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    overwrite: bool = False,
    partial: bool = False,
) -> Exported:
    """Write the weights of a step as a saved model, bit for bit in their own dtype; whole, or not at all.

    Parameters
    ----------
    run
        A run.
    step
        A step at which a snapshot was taken. Default: the last such step.
    to
        Where it goes, which also tells what it will be:

        - ``model.safetensors``: written one tensor at a time. Of names that were tied the first holds the values, and
          the file's metadata tells the others, as ``safetensors.torch.load_model`` reads it.
        - ``state.pt`` (``.pth``, ``.bin``): a state dict, for ``torch.load(..., weights_only=True)``; names that were
          tied share their storage.
        - a folder: what ``from_pretrained`` of transformers loads, in shards where it is above 5 GB.
    config
        For a folder, the model's config: a folder that has a ``config.json``, such a file, a mapping, or a name on the
        Hugging Face hub. Default: what the run kept of the model.
    overwrite
        Whether to replace what an export left there before.
    partial
        Whether to export a part, where not all weights of the model were recorded.

    Returns
    -------
    Exported
        The path, the step, and what is to be known of them.

    Raises
    ------
    StepNotRecorded
        No snapshot was taken at `step`; the message names the nearest.
    NoMatch
        The run has no snapshots at all.
    InvalidArgument
        Weights were not recorded, something is at `to`, the format cannot hold them, or the config does not fit them.
    CannotRecord
        The place cannot be written.
    """
    weights = RunWeights(run, step)
    notes = _incomplete(run, weights)
    if notes and not partial:
        raise InvalidArgument(
            f"{' '.join(notes)} Needed for a model are all; export those that there are with partial=True (--partial)"
        )
    place, suffix = Path(to), _suffix(Path(to))
    with placed(place, overwrite=overwrite) as made:
        if suffix == SAFETENSORS:
            _write_file(made, weights)
        elif suffix:
            torch.save(restored(weights), made)
        else:
            notes += write_folder(made, run, weights, config=config, partial=partial)
    kept = {name: at for name, at in weights.holders.items() if at in weights.headers}
    tied = {name: at for name, at in kept.items() if name != at}
    return Exported(place, weights.step, len(kept), tied, _size(place), tuple(notes))


def _suffix(place: Path) -> str:
    """The suffix of a file that can be written; "" for a folder, whose name may end in a version: ``model-v1.5``."""
    suffix = place.suffix.lower()
    if suffix[1:2].isalpha() and suffix not in (SAFETENSORS, *TORCH) and not place.is_dir():
        raise InvalidArgument(
            f"{place} ends in {place.suffix}. Needed is {SAFETENSORS}, {', '.join(TORCH)}, or the name of a folder"
        )
    return "" if place.is_dir() or not suffix[1:2].isalpha() else suffix


def _write_file(made: Path, weights: RunWeights) -> None:
    check_dtypes(weights.headers)
    tied = {name: at for name, at in weights.holders.items() if name != at and at in weights.headers}
    write_safetensors(made, weights.headers, read=weights.read, metadata={**tied, "format": "pt"})


def _incomplete(run: xr.DataTree, weights: RunWeights) -> list[str]:
    """Say which weights of the model are not there."""
    notes = []
    if told := _not_selected(run, weights.step):
        some = ", ".join(map(str, told.get("examples", ())[:3]))
        notes.append(f"{told.get('count')} weights were not recorded, since select= left them out, for example {some}.")
    if unkept := [name for name, at in weights.holders.items() if at not in weights.headers]:
        notes.append(f"No values are kept of {examples(unkept)}, whose dtype cannot be stored.")
    return notes


def _not_selected(run: xr.DataTree, step: int) -> dict[str, Any]:
    """What the attempt that wrote a step says of weights that it did not record."""
    number = int(dataset(run, schema.STATES)[schema.ATTEMPT].sel({schema.STEP: step}))
    attempts = run.attrs.get(schema.ATTRIBUTES, {}).get("attempts", ())
    found = next((one.get(_SELECTED) for one in attempts if one.get("number") == number), None)
    return found if isinstance(found, dict) else {}


def _files(place: Path) -> Iterator[Path]:
    return place.iterdir() if place.is_dir() else iter((place,))


def _size(place: Path) -> int:
    return sum(file.stat().st_size for file in _files(place))
