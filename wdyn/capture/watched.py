"""What can be watched, of which quantities, and how often is it kept whole when the user said little?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import nn

from wdyn.capture.anatomy import addresses
from wdyn.capture.declared import Declared, check_parts
from wdyn.capture.processes import check_wrappers
from wdyn.capture.schedule import Schedule, as_schedule, powers
from wdyn.capture.spread import divided_tensors
from wdyn.capture.tensors import uninitialised
from wdyn.errors import InvalidArgument, NothingToWatch
from wdyn.naming import closest, examples
from wdyn.schema import Extra, Quantity

EVERYTHING = "all"
FAST = "fast"

_LONGEST_TRAINING = 1e6
"""Steps that the default snapshots should be spread over."""


def check_model(model: nn.Module) -> None:
    """Refuse what cannot be watched.

    Raises
    ------
    InvalidArgument
        It is no module, some of its parameters have no values yet, or a wrapper hides them.
    NothingToWatch
        It has no parameter.
    """
    if not isinstance(model, nn.Module):
        raise InvalidArgument(f"model is a {type(model).__name__}: needed is a torch.nn.Module")
    check_wrappers(model)
    unmade = uninitialised(model)
    if unmade:
        raise InvalidArgument(
            f"{examples(unmade)} has no values yet, since its lazy module made none; run one forward before watch(...)"
        )
    tensors = divided_tensors(model)
    if not tensors:
        raise NothingToWatch(f"{type(model).__name__} has no parameters; watch the module that holds those that train")
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise InvalidArgument(f"{name} is on the meta device, without values; load or initialise the model first")


def quantities(what: str | Sequence[str]) -> tuple[Quantity | Extra, ...]:
    """Read the `what` argument.

    Raises
    ------
    InvalidArgument
        It names something that is not recorded.
    """
    known: dict[str, Quantity | Extra] = {str(one): one for one in (*Quantity, *Extra)}
    names = [what] if isinstance(what, str) else list(what)
    if names == [EVERYTHING]:
        return tuple(known.values())
    for name in names:
        if name not in known:
            near = closest(str(name), known, count=1)
            raise InvalidArgument(
                f"what={name!r}: {f'did you mean {near[0]!r}? ' if near else ''}Needed are some of {', '.join(known)}, "
                f"or {EVERYTHING!r}"
            )
    return tuple(dict.fromkeys(known[name] for name in names))


def check_compression(compression: str | None) -> str | None:
    """Refuse a `compression` that is not known.

    Raises
    ------
    InvalidArgument
        It is neither None nor ``fast``.
    """
    if compression not in (None, FAST):
        raise InvalidArgument(
            f"compression={compression!r}: needed is None, which stores weights raw, or {FAST!r}, which packs them by "
            f"bitshuffle and lz4"
        )
    return compression


def declared_parts(parts: Declared | None, model: nn.Module) -> Declared:
    """Read the `parts` argument.

    Raises
    ------
    InvalidArgument
        A pattern matches no matrix, or its split does not fit.
    """
    if parts is None:
        return {}
    check_parts(parts, addresses(model))
    return parts


def snapshot_schedule(size: int, *, disk_limit: int, tell: Callable[[str], None]) -> Schedule:
    """Choose the default snapshots: step 0, powers of a whole number, and the last step, within `disk_limit` bytes.

    The number is 2 where that fits a training of a million steps, larger where snapshots are large.
    """
    count = disk_limit // max(1, size)
    if count < 2:
        tell(
            f"No snapshots are kept: one takes {size / 1e9:.1f} GB, and the first and the last do not fit "
            f"disk_limit={disk_limit / 1e9:.1f} GB. Raise it, or choose them: snapshots=wdyn.at(0)"
        )
        return as_schedule(None, "snapshots")
    between = max(1, count - 3)  # beside step 0, step 1 and the last
    return powers(max(2, math.ceil(_LONGEST_TRAINING ** (1 / between))))
