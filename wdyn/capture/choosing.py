"""Which parameters does a person mean by `select`: patterns of names, what they are, or a function?"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from wdyn.errors import InvalidArgument
from wdyn.naming import closest, examples
from wdyn.schema import NO_LAYER, Address, has_role

Predicate = Callable[[Address], bool]
Select = str | Sequence[str] | Mapping[str, Any] | Predicate | None

_MANY = 30  # words that an error may list


def _fits_pattern(text: str, pattern: object) -> bool:
    """Whether a text is named by a pattern; a name may itself have the letters of one."""
    return isinstance(pattern, str) and (text == pattern or fnmatch.fnmatchcase(text, pattern))


_FITS: Mapping[str, Callable[[Address, Any], bool]] = {
    "role": lambda address, role: has_role(role, own=address.role, parts=address.parts),
    "layer": lambda address, layer: bool(address.layer == layer),
    "stack": lambda address, stack: bool(address.stack == stack),
    "kind": lambda address, kind: bool(address.kind == kind),
    "path": lambda address, pattern: _fits_pattern(address.path, pattern),
    "name": lambda address, pattern: _fits_pattern(address.name, pattern),
}


def wanted_by(select: Select, known: Collection[Address]) -> Predicate:
    """Read the `select` argument, for a model that consists of `known`.

    Raises
    ------
    InvalidArgument
        It cannot be read, or some of it matches no parameter.
    """
    if select is None:
        return lambda address: True
    if isinstance(select, Mapping):
        wanted = _by_keys(select, known)
    elif callable(select):
        wanted = select
    else:
        wanted = _one_of("name", _several(select), known, said="select=")
    if not any(map(wanted, known)):
        there = "; ".join(f"{key}: {_listed(key, known)}" for key in ("role", "layer", "stack", "kind"))
        raise InvalidArgument(f"select={select!r} matches no parameter. This model has {there}")
    return wanted


def _by_keys(select: Mapping[str, Any], known: Collection[Address]) -> Predicate:
    tests = []
    for key, value in select.items():
        if key not in _FITS:
            raise InvalidArgument(f"select={select!r} has the key {key!r}; needed are some of {', '.join(_FITS)}")
        values = _layers(value, known) if key == "layer" else _several(value)
        tests.append(_one_of(key, values, known, said=f"select: {key}="))
    return lambda address: all(test(address) for test in tests)


def _one_of(key: str, values: Collection[Any], known: Collection[Address], *, said: str) -> Predicate:
    """Fit one of several values; each must be that of some parameter, so that a slip of the pen is seen."""
    fits = _FITS[key]
    for value in values:
        if not any(fits(address, value) for address in known):
            near = closest(str(value), _there(key, known)) if key in ("path", "name") else []
            hint = f"Closest: {', '.join(near)}" if near else f"This model has {key}: {_listed(key, known)}"
            raise InvalidArgument(f"{said}{value!r} matches no parameter. {hint}")
    return lambda address: any(fits(address, value) for value in values)


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def _layers(value: Any, known: Collection[Address]) -> list[Any]:
    """Give the layers meant: of a range or a slice those that the model has, of numbers each."""
    blocks = sorted({address.layer for address in known} - {NO_LAYER})
    if isinstance(value, slice):
        return blocks[value]
    return [layer for layer in blocks if layer in value] if isinstance(value, range) else _several(value)


def _there(key: str, known: Collection[Address]) -> list[str]:
    """Every value of `key` that parameters have, those of parts included."""
    own = [str(getattr(address, key)) for address in known]
    parts = [name for address in known if key == "role" and address.parts for name in address.parts.names]
    return list(dict.fromkeys(own + parts))


def _listed(key: str, known: Collection[Address]) -> str:
    return examples(_there(key, known), _MANY)
