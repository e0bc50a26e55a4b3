"""Which step is a saved model of, and what says so?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor

from wdyn.checkpoints.saved import Evidence
from wdyn.errors import InvalidArgument

FROM_FIELD, FROM_NAME, FROM_PATTERN = 1, 2, -1
"""Ranks of evidence; what the optimizer tells stands before a field, and what the user says before all."""

_STEP_FIELDS = (
    "global_step", "step", "steps", "global_steps", "iteration", "iterations", "iter", "iter_num", "num_updates",
    "current_step", "train_step", "n_steps", "num_steps", "update", "updates",
)  # fmt: skip
_EPOCH_FIELDS = ("epoch", "epochs", "current_epoch", "epoch_num")

_STEP_WORDS = "global_?step|step|steps|iteration|iter|it|checkpoint|ckpt|update"
_NUMBER = re.compile(
    rf"(?:(?P<step>(?:{_STEP_WORDS})s?)[-_=. ]?(?P<steps>\d+)"
    r"|(?P<epoch>epoch|ep|e)[-_=. ]?(?P<epochs>\d+)"
    r"|(?:^|(?<=[-_=. ]))(?P<bare>\d+))(?=$|[-_. ])",
    re.IGNORECASE,
)
_SHARD = re.compile(r"-\d{5}-of-\d{5}")


def from_fields(fields: Mapping[str, object]) -> list[Evidence]:
    """Give the numbers among fields of a file that tell its step, those of steps before those of epochs."""
    return [
        Evidence(number, f"the field {name!r}", FROM_FIELD, unit)
        for unit, names in (("step", _STEP_FIELDS), ("epoch", _EPOCH_FIELDS))
        for name in names
        if (number := _count(fields.get(name))) is not None
    ]


def from_name(name: str) -> list[Evidence]:
    """Give the number in the name of a file, a folder or a revision that tells its step.

    A number behind a word for steps comes first, then one behind ``epoch``, then the last that stands alone.
    """
    stem = _SHARD.sub("", re.sub(r"\.(safetensors|pt|pth|ckpt|bin|json|index)$", "", name))
    groups: dict[str, int] = {}
    for match in _NUMBER.finditer(stem):
        kind = "step" if match["steps"] else "epoch" if match["epochs"] else ""
        groups[kind] = int(match["steps"] or match["epochs"] or match["bare"])
    kinds = [kind for kind in ("step", "epoch", "") if kind in groups][:1]
    return [Evidence(groups[kind], "its name", FROM_NAME, _unit(stem, kind)) for kind in kinds]


def by_pattern(name: str, pattern: str) -> Evidence:
    """Give the number that a regular expression finds: its first group, or all that it matches.

    Raises
    ------
    InvalidArgument
        It is no regular expression, finds nothing, or something that is no number.
    """
    try:
        found = re.search(pattern, name)
    except re.error as error:
        raise InvalidArgument(f"step_pattern={pattern!r} is no regular expression: {error}") from error
    text = None if found is None else found[1] if found.re.groups else found[0]
    if text is None or not text.isdigit():
        said = "finds nothing" if found is None else f"finds {text!r}, which is no number,"
        raise InvalidArgument(rf"step_pattern={pattern!r} {said} in {name}. Needed is one such as 'step_(\d+)'")
    return Evidence(int(text), f"its name, by {pattern!r}", FROM_PATTERN)


def disagreements(called: str, evidence: Sequence[Evidence]) -> Iterator[str]:
    """Say which evidence contradicts the step that is believed, the first.

    Steps contradict other steps only, and epochs other epochs; a bare number contradicts all if it equals none.
    """
    if not evidence:
        return
    believed, others = evidence[0], evidence[1:]
    for other in others:
        like = [
            one for one in evidence if one is not other and (not other.unit or not one.unit or one.unit == other.unit)
        ]
        if like and all(one.number != other.number for one in like):
            yield (
                f"{called}: {believed.source} says {believed.unit or 'step'} {believed.number}, but {other.source} "
                f"says {other.number}. The first was used"
            )


def _unit(stem: str, kind: str) -> str:
    # "checkpoint" says what it is, not what is counted.
    counted = re.search(r"(step|iter|update|(?<![a-z])it[-_=. ]?\d)", stem, re.IGNORECASE)
    return "" if kind == "step" and counted is None else kind


def _count(value: object) -> int | None:
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 and not value.is_meta else None
    if isinstance(value, str):
        return int(value) if value.isdigit() else None
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return None
    return int(value) if float(value).is_integer() and value >= 0 else None
