"""Are the config, the tokenizer and the optimizer that lie beside two saved models the same?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from wdyn.checkpoints.pairs import real_bits
from wdyn.checkpoints.saved import Saved, Training

VOLATILE: Final = ("transformers_version", "_name_or_path", "_commit_hash")
"""Keys of a config that tell of how it was saved, and nothing of the model."""

_DTYPE = "dtype"
_OLD_KEYS = {"torch_dtype": _DTYPE}
_TOKENIZER = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt",
    "spiece.model", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
)  # fmt: skip
_LONGEST = 40


def config_of(saved: Saved) -> Mapping[str, Any]:
    """Give a config, with the defaults that transformers fills in where it knows the kind: files may leave them out."""
    if not (saved.place.is_dir() and saved.config.get("model_type")):
        return saved.config
    import transformers  # its import takes seconds

    try:
        known = transformers.AutoConfig.from_pretrained(
            str(saved.place), trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError):
        return saved.config
    whole: dict[str, Any] = known.to_dict()
    return whole


def config_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, str]:
    """Name the keys of two configs whose values differ, with both; those in `VOLATILE` left out."""
    one, other = dict(_flat(a)), dict(_flat(b))
    if one.get(_DTYPE) is None or other.get(_DTYPE) is None:  # not said; the weights themselves tell
        one.pop(_DTYPE, None), other.pop(_DTYPE, None)
    keys = dict.fromkeys((*one, *other))
    differ = [key for key in keys if one.get(key) != other.get(key) or (key in one) != (key in other)]
    return {key: f"{_short(one, key)} → {_short(other, key)}" for key in differ}


def tokenizer_differences(a: Path, b: Path) -> tuple[dict[str, str], int]:
    """Name the files of two tokenizers that differ, or are in one folder only; and count those that are equal."""
    found, equal = {}, 0
    for name in _TOKENIZER:
        there = [(folder / name).is_file() for folder in (a, b)]
        if all(there):
            same = _content(a / name) == _content(b / name)
            equal += same
            if not same:
                found[name] = "differs"
        elif any(there):
            found[name] = "only in a" if there[0] else "only in b"
    return found, equal


def has_tokenizer(folder: Path) -> bool:
    """Whether any file of a tokenizer is in a folder."""
    return any((folder / name).is_file() for name in _TOKENIZER)


def optimizer_differences(a: Training, b: Training) -> dict[str, str]:
    """Name what differs between the states of two optimizers: settings of groups, and moments, bit for bit."""
    found: dict[str, str] = {}
    if a.settings != b.settings:
        for number, pair in enumerate(zip(a.settings, b.settings, strict=False)):
            found |= {f"group {number} {key}": words for key, words in config_differences(*pair).items()}
        if len(a.settings) != len(b.settings):
            found["groups"] = f"{len(a.settings)} → {len(b.settings)}"
    ours, theirs = ({(key, name) for key, names in each.moments.items() for name in names} for each in (a, b))
    found |= {f"{key} of {name}": "only in one" for key, name in sorted(ours ^ theirs)}
    for key, name in sorted(ours & theirs):
        one, other = a.read(key, name), b.read(key, name)
        if one.shape != other.shape or one.dtype != other.dtype or not torch.equal(real_bits(one), real_bits(other)):
            found[f"{key} of {name}"] = "differs"
    return found


def has_optimizer(saved: Saved) -> bool:
    """Whether the state of an optimizer was saved, in a way that tells which parameter it is of."""
    return bool(saved.training.settings or saved.training.moments)


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in config.items():
        if key in VOLATILE:
            continue
        name = f"{prefix}{_OLD_KEYS.get(str(key), key)}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}.")
        else:
            yield name, list(value) if isinstance(value, tuple) else value


def _short(config: Mapping[str, object], key: str) -> str:
    if key not in config:
        return "not there"
    text = repr(config[key])
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _content(file: Path) -> object:
    """What a file says: a JSON file may be written in several ways."""
    raw = file.read_bytes()
    if file.suffix != ".json":
        return raw
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return raw
