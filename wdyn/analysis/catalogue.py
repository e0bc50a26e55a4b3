"""Which analyzers are there? The built-in ones, and those that installed packages declare."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points

from wdyn.analysis.analyzer import Analyzer
from wdyn.errors import BrokenAnalyzer, UnknownName
from wdyn.naming import closest

ENTRY_POINTS = "wdyn.analyzers"
"""The group of entry points under which a package declares its analyzers."""

_BUILT_IN = {
    "init_audit": "wdyn.analysis.initialization",
    "tied_weights": "wdyn.analysis.tying",
    "depth_growth": "wdyn.analysis.depth",
    "distribution": "wdyn.analysis.distribution",
    "movement": "wdyn.analysis.movement",
    "update_sizes": "wdyn.analysis.update_sizes",
    "learning_rate": "wdyn.analysis.learning_rate",
    "optimizer_state": "wdyn.analysis.optimizer_state",
    "adapters": "wdyn.analysis.adapters",
    "replicas": "wdyn.analysis.replicas",
    "compare_runs": "wdyn.analysis.compare_runs",
}


def analyzers() -> tuple[Analyzer, ...]:
    """List every analyzer: the built-in ones, then plug-ins from the entry points ``wdyn.analyzers``.

    Warns
    -----
    RuntimeWarning
        For each plug-in that cannot be used. It is left out; the others are not disturbed.
    """
    found = {name: _built_in(name) for name in _BUILT_IN}
    for point in entry_points(group=ENTRY_POINTS):
        try:
            plugged = _load(point)
            if plugged.name in found:
                raise BrokenAnalyzer(f"there already is an analyzer named '{plugged.name}'; give it another name")
        except Exception as error:  # whatever a stranger's package does, the other analyzers must work
            warnings.warn(
                f"The analyzer plug-in '{point.name}' ({point.value}) is left out: {type(error).__name__}: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
        else:
            found[plugged.name] = plugged
    return tuple(found.values())


def chosen(wanted: Iterable[Analyzer | str] | None) -> tuple[Analyzer, ...]:
    """Turn a mix of analyzers and names into analyzers; ``None`` means all.

    Raises
    ------
    UnknownName
        If a name is not that of an analyzer.
    """
    if wanted is None:
        return analyzers()
    listed = list(wanted)
    known: dict[str, Analyzer] = {}
    if any(isinstance(one, str) for one in listed):
        known = {one.name: one for one in analyzers()}
    return tuple(one if isinstance(one, Analyzer) else _named(one, known) for one in listed)


def selected(available: Sequence[Analyzer], *, select: Sequence[str], ignore: Sequence[str]) -> tuple[Analyzer, ...]:
    """Keep the analyzers that can give a code which `select` asks for and that `ignore` does not drop as a whole.

    Raises
    ------
    UnknownName
        If an entry is the beginning of no code of these analyzers.
    """
    for prefix in (*select, *ignore):
        _require_known(prefix, available)
    return tuple(
        one
        for one in available
        if (not select or any(_concerns(prefix, one) for prefix in select))
        and not any(one.family.startswith(prefix.upper()) for prefix in ignore)
    )


def wanted_code(code: str, *, select: Sequence[str], ignore: Sequence[str]) -> bool:
    """Whether a finding with this code was asked for: ``INI`` covers ``INI002``."""
    asked = not select or any(code.startswith(prefix.upper()) for prefix in select)
    return asked and not any(code.startswith(prefix.upper()) for prefix in ignore)


def _built_in(name: str) -> Analyzer:
    found = getattr(importlib.import_module(_BUILT_IN[name]), name)
    assert isinstance(found, Analyzer)
    return found


def _load(point: EntryPoint) -> Analyzer:
    loaded = point.load()
    if not isinstance(loaded, Analyzer):
        raise BrokenAnalyzer(f"it is {type(loaded).__name__}, not an Analyzer; make one with @wdyn.analyzer(...)")
    return loaded


def _named(name: str, known: dict[str, Analyzer]) -> Analyzer:
    if not isinstance(name, str):
        raise BrokenAnalyzer(
            f"{type(name).__name__} is no analyzer. Pass what @wdyn.analyzer(...) made, or the name of an analyzer."
        )
    if name not in known:
        near = ", ".join(closest(name, known) or known)
        raise UnknownName(f"No analyzer is named '{name}'. Closest: {near}. List them with: wdyn list")
    return known[name]


def _concerns(prefix: str, one: Analyzer) -> bool:
    upper = prefix.upper()
    if not one.codes and upper.startswith(one.family):
        return True  # a plug-in need not list its codes
    return one.family.startswith(upper) or any(code.startswith(upper) for code in one.codes)


def _require_known(prefix: str, available: Sequence[Analyzer]) -> None:
    if prefix and any(_concerns(prefix, one) for one in available):
        return
    families = ", ".join(sorted({one.family for one in available}))
    raise UnknownName(
        f"'{prefix}' begins no finding code. Families here: {families}. Give a family such as INI, or a code such as "
        "INI002. List them with: wdyn list"
    )
