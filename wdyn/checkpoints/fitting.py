"""Do saved models make up one series of one model, and what about them is odd?"""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from wdyn.checkpoints.opening import open_saved
from wdyn.checkpoints.saved import Saved
from wdyn.errors import InvalidArgument
from wdyn.naming import examples

Form = tuple[tuple[int, ...], str]
"""Shape and dtype."""

_SMALL = 0.6
"""A saved model of less than this share of the usual size is told of."""


@dataclass(frozen=True)
class Origin:
    """How a saved model is opened again."""

    source: str | Path
    key: str | None = None
    revision: str | None = None
    base: str | os.PathLike[str] | None = None

    def open(self) -> Saved:
        """Open it."""
        return open_saved(self.source, key=self.key, revision=self.revision, base=self.base)

    @property
    def label(self) -> str:
        """What it is called: a path in full, or a name on the hub and the revision."""
        if self.revision is not None:
            return f"{self.source}@{self.revision}"
        return str(Path(self.source).absolute()) if Path(self.source).exists() else str(self.source)


@dataclass(frozen=True)
class Member:
    """A saved model of a series: its step, what told it, and what it consists of."""

    origin: Origin
    step: int
    step_source: str
    forms: Mapping[str, Form]
    nbytes: int

    @property
    def called(self) -> str:
        """Its name in messages."""
        return self.origin.label


def check_one_model(members: Sequence[Member]) -> None:
    """Refuse a series in which a tensor changes its shape, or most of them are others."""
    first: dict[str, tuple[Form, Member]] = {}
    for member in members:
        common = [name for name in member.forms if name in first]
        other = [name for name in common if first[name][0][0] != member.forms[name][0]]
        if first and (len(common) - len(other)) * 2 < len(member.forms):
            raise InvalidArgument(
                f"{member.called} is another model than {members[0].called}: of its {len(member.forms)} tensors "
                f"{len(common) - len(other)} have the same name and shape. Import them into runs of their own"
            )
        if other:
            changes = [f"{name} is {member.forms[name][0]} and was {first[name][0][0]}" for name in other]
            before = first[other[0]][1].called
            raise InvalidArgument(
                f"The architecture changes at {member.called}: {examples(changes)} in {before}. Import each part "
                f"of the series into a run of its own"
            )
        for name, form in member.forms.items():
            first.setdefault(name, (form, member))


def oddities(members: Sequence[Member]) -> Iterator[str]:
    """Tell of what a user will not have meant: tensors that come and go, other dtypes, a much smaller one."""
    usual = statistics.median(member.nbytes for member in members)
    by_change: dict[tuple[str, str], list[str]] = defaultdict(list)
    for before, after in pairwise(members):
        for what, names in (
            ("lacks tensors that were there before", [name for name in before.forms if name not in after.forms]),
            ("has tensors that were not there before", [name for name in after.forms if name not in before.forms]),
        ):
            if names:
                yield f"{after.called} {what}: {examples(names)}"
        for name in before.forms.keys() & after.forms.keys():
            if (old := before.forms[name][1]) != (new := after.forms[name][1]):
                by_change[after.called, f"{old} before, {new} now"].append(name)
    for (called, change), names in by_change.items():
        yield f"{called} has {len(names)} tensors of another dtype, {change}: {examples(sorted(names))}"
    for member in members:
        if member.nbytes < _SMALL * usual:
            yield (
                f"{member.called} holds {member.nbytes / 1e6:,.1f} MB of weights, {member.nbytes / usual:.0%} of what "
                f"the others usually hold"
            )
