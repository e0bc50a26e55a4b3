"""What is compared of two models beside their weights, and what cannot be?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from wdyn.analysis.round_trip import Compared, Outputs
from wdyn.checkpoints import accompanying
from wdyn.checkpoints.configs import CONFIG
from wdyn.checkpoints.probing import NoProbe, Response, absent_words, respond
from wdyn.checkpoints.sides import Side
from wdyn.errors import InvalidArgument


@dataclass
class _Told:
    """What was found out so far."""

    found: dict[str, Any] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def compared(parameters: xr.Dataset, a: Side, b: Side) -> Compared:
    """Compare what lies beside the weights of two models, where both have it."""
    told = _Told()
    _config(told, a, b)
    _tokenizer(told, a, b)
    _outputs(told, a, b)
    _optimizer(told, a, b)
    return Compared(parameters, done=tuple(told.done), left=told.left, **told.found)


def _config(told: _Told, a: Side, b: Side) -> None:
    configs = [accompanying.config_of(one.saved) if one.saved else {} for one in (a, b)]
    if not all(configs):
        told.left["config"] = _which(configs, "has none")
        return
    differ = accompanying.config_differences(*configs)
    told.found["config"] = differ
    if not differ:
        told.done.append(f"config, {', '.join(accompanying.VOLATILE)} not looked at")


def _tokenizer(told: _Told, a: Side, b: Side) -> None:
    folders = _folders(a, b)
    there = [folder is not None and accompanying.has_tokenizer(folder) for folder in folders]
    if not any(there) or None in folders:
        told.left["tokenizer"] = "none is there" if not any(there) else "one of the two is no folder"
        return
    differ, equal = accompanying.tokenizer_differences(*(folder for folder in folders if folder))
    told.found["tokenizer"] = differ
    if not differ:
        told.done.append(f"tokenizer, {equal} files")


def _outputs(told: _Told, a: Side, b: Side) -> None:
    folders = _folders(a, b)
    if not all(folder and (folder / CONFIG).is_file() for folder in folders):
        told.left["outputs"] = "that takes two folders with a config"
        return
    responses: dict[str, Response] = {}
    failed: dict[str, str] = {}
    for letter, folder in zip("ab", folders, strict=True):
        assert folder is not None
        try:
            responses[letter] = respond(folder)
        except NoProbe as error:
            told.left["outputs"] = str(error)
            return
        except InvalidArgument as error:
            failed[letter] = str(error)
    absent = {letter: absent_words(one) for letter, one in responses.items()}
    told.found["unloadable"] = failed | _new(absent)
    if len(responses) == 2:
        told.found["outputs"] = _agreement(responses["a"], responses["b"])


def _new(absent: Mapping[str, str]) -> dict[str, str]:
    """What one model lacks and the other does not: a head that was never saved is lacking in both."""
    return {letter: words for letter, words in absent.items() if words and len(set(absent.values())) > 1}


def _agreement(a: Response, b: Response) -> Outputs:
    same = a.output.shape == b.output.shape
    largest = float((a.output - b.output).abs().max()) if same and a.output.numel() else math.inf
    return Outputs(a.probe, largest, (a.variance, b.variance))


def _optimizer(told: _Told, a: Side, b: Side) -> None:
    saved = [one.saved for one in (a, b)]
    there = [one is not None and accompanying.has_optimizer(one) for one in saved]
    if not all(there):
        told.left["optimizer"] = _which(there, "has none")
        return
    one, other = (each.training for each in saved if each is not None)
    differ = accompanying.optimizer_differences(one, other)
    told.found["optimizer"] = differ
    if not differ:
        told.done.append(f"optimizer, {sum(map(len, one.moments.values()))} moments bit for bit, and its settings")


def _folders(a: Side, b: Side) -> tuple[Path | None, Path | None]:
    first, second = (one.saved.place if one.saved and one.saved.place.is_dir() else None for one in (a, b))
    return first, second


def _which(there: list[Any], words: str) -> str:
    lacking = [letter for letter, one in zip("ab", there, strict=True) if not one]
    return f"{' and '.join(lacking)} {words}" if len(lacking) == 1 else "neither has one"
