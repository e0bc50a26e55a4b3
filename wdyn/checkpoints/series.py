"""Which saved models make up a series, at which steps, and do they fit together?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wdyn.checkpoints.files import model_folder
from wdyn.checkpoints.fitting import Form, Member, Origin, check_one_model, oddities
from wdyn.checkpoints.listing import is_alias, saved_models
from wdyn.checkpoints.saved import Evidence
from wdyn.checkpoints.steps import by_pattern, disagreements
from wdyn.errors import InvalidArgument
from wdyn.store.root import is_run

_UNKNOWN = Evidence(0, "nothing", rank=3)


@dataclass(frozen=True)
class _Seen:
    """What is kept of a saved model that was opened once."""

    origin: Origin
    alias: bool
    evidence: tuple[Evidence, ...]
    forms: Mapping[str, Form]
    nbytes: int


def origins(
    saved: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    revisions: Sequence[str] = (),
    key: str | None = None,
    base: str | os.PathLike[str] | None = None,
) -> tuple[list[Origin], bool]:
    """List what is to be opened, and whether it was found in a folder rather than named one by one.

    Raises
    ------
    InvalidArgument
        A folder holds no saved model, or is a run; or there are revisions of something other than one name on the hub.
    """
    given = [saved] if isinstance(saved, str | os.PathLike) else list(saved)
    if not given:
        raise InvalidArgument("No checkpoint was given. Needed are paths, or a name on the Hugging Face hub")
    if revisions:
        if len(given) != 1:
            raise InvalidArgument(f"revisions= are of one model on the hub, and {len(given)} were given")
        return [Origin(str(given[0]), key, revision, base) for revision in revisions], False
    found: list[Origin] = []
    scanned = False
    for one in given:
        if is_run(Path(one)):
            raise InvalidArgument(f"{one} is a run already. Needed are saved models; read it with wdyn report {one}")
        if Path(one).is_dir():
            inside = saved_models(Path(one))
            scanned = scanned or inside != [Path(one)]
            found += [Origin(path, key, None, base) for path in inside]
        else:
            found.append(Origin(one if isinstance(one, str) else Path(one), key, None, base))
    return found, scanned


def series(
    found: Sequence[Origin], *, scanned: bool, step_pattern: str | None = None, tell: Callable[[str], None]
) -> list[Member]:
    """Open each once, and put them in the order of their steps; values are not read.

    Parameters
    ----------
    found, scanned
        What `origins` gave. What was found in a folder and holds no weights is left out, and told.
    step_pattern
        A regular expression that finds the step in a name.
    tell
        Told of what was left out, and of what is odd.

    Raises
    ------
    InvalidArgument
        None holds weights; steps are not known, or two have the same; or they are not of one model.
    """
    seen = list(_seen(found, scanned=scanned, step_pattern=step_pattern, tell=tell))
    members = _members(seen, tell=tell)
    check_one_model(members)
    for oddity in oddities(members):
        tell(oddity)
    return members


def _seen(
    found: Sequence[Origin], *, scanned: bool, step_pattern: str | None, tell: Callable[[str], None]
) -> Iterator[_Seen]:
    failures: list[InvalidArgument] = []
    some = False
    for origin in found:
        try:
            saved = origin.open()
        except InvalidArgument as error:
            if not scanned:
                raise
            failures.append(error)
            continue
        some = True
        for note in (*saved.notes, *saved.training.notes):
            tell(note)
        name = model_folder(Path(origin.source)).name if origin.revision is None else origin.revision
        given = () if step_pattern is None else (by_pattern(name, step_pattern),)
        forms = {name: (saved.shape(name), str(saved.dtype(name)).removeprefix("torch.")) for name in saved.names}
        alias = scanned and is_alias(Path(origin.source))
        yield _Seen(origin, alias, (*given, *saved.evidence), forms, saved.nbytes)
    if not some:
        raise failures[0]
    for failure in failures:
        tell(f"Left out: {failure}")


def _members(seen: Sequence[_Seen], *, tell: Callable[[str], None]) -> list[Member]:
    kind = _common_evidence([one for one in seen if not one.alias] or seen)
    taken: dict[int, _Seen] = {}
    members = []
    for one in sorted(seen, key=lambda one: one.alias):  # `last.ckpt` gives way to the file that it repeats
        evidence = sorted(one.evidence, key=lambda said: (_kind(said) != kind, said.rank))
        believed = next(iter(evidence), _UNKNOWN)
        if believed is _UNKNOWN:
            tell(f"{one.origin.label}: nothing tells its step: it is taken for 0")
        if one.alias and (believed.number in taken or (kind is not None and _kind(believed) != kind)):
            tell(f"Left out: {one.origin.label}, which repeats another or does not tell its step as the others do")
            continue
        if (other := taken.get(believed.number)) is not None:
            raise InvalidArgument(
                f"Two are of step {believed.number}, as {believed.source} says: {other.origin.label} and "
                f"{one.origin.label}. Give one of them, or step_pattern=... (--step-pattern) that tells them apart"
            )
        taken[believed.number] = one
        for complaint in disagreements(one.origin.label, evidence):
            tell(complaint)
        members.append(Member(one.origin, believed.number, believed.source, one.forms, one.nbytes))
    return sorted(members, key=lambda member: member.step)


def _kind(evidence: Evidence) -> tuple[int, str]:
    return evidence.rank, evidence.unit


def _common_evidence(seen: Sequence[_Seen]) -> tuple[int, str] | None:
    """The most reliable kind of evidence that all have: steps and epochs are not mixed."""
    kinds = [{_kind(evidence): evidence.rank for evidence in one.evidence} for one in seen]
    common = [kind for kind in kinds[0] if all(kind in others for others in kinds)]
    if common:
        return min(common, key=lambda kind: kind[0])
    if len(seen) == 1:
        return None
    bare = next((one for one in seen if not one.evidence), seen[-1])
    other = seen[0] if bare is not seen[0] else seen[-1]
    raise InvalidArgument(
        f"The steps are not told alike: of {other.origin.label} {_said(other)}, of {bare.origin.label} {_said(bare)}. "
        rf"Give step_pattern=... (--step-pattern), a regular expression for the number in the names: 'step_(\d+)'"
    )


def _said(one: _Seen) -> str:
    said = next(iter(one.evidence), None)
    return "nothing says it" if said is None else " ".join([said.source, "says", *said.unit.split(), str(said.number)])
