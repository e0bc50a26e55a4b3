"""How does a finding say where its proof stands? As a line of Python that a person can run."""

from __future__ import annotations

_NAMES = 3  # labels that a line may list
_LENGTH = 160  # characters that a line may have


def sel_line(call: str, *, where: str = "", **labels: object) -> str:
    """Write the selection that shows the evidence again.

    Parameters
    ----------
    call
        What gives the result.
    where
        A condition on the result ``m`` that selects along the one dimension in `labels`; it stands for a list that is
        too long to read. Without it, the list is cut.
    **labels
        What to select, by dimension.

    >>> sel_line("wdyn.movement(run).change", parameter=["h.0.weight"])
    "wdyn.movement(run).change.sel(parameter=['h.0.weight'])"
    >>> sel_line("wdyn.init_audit(run)", where="m.verdict == 'unknown'", parameter=["a", "b", "c", "d"])
    "wdyn.init_audit(run).pipe(lambda m: m.sel(parameter=m.verdict == 'unknown'))"
    """
    line = _line(call, labels)
    if len(line) <= _LENGTH and all(not isinstance(held, list) or len(held) <= _NAMES for held in labels.values()):
        return line
    if where:
        (dim,) = labels
        return f"{call}.pipe(lambda m: m.sel({dim}={where}))"
    kept = next((count for count in range(_NAMES, 1, -1) if len(_line(call, _cut(labels, count))) <= _LENGTH), 1)
    return _line(call, _cut(labels, kept))


def _line(call: str, labels: dict[str, object]) -> str:
    chosen = ", ".join(f"{dim}={label!r}" for dim, label in labels.items())
    return f"{call}.sel({chosen})" if chosen else call


def _cut(labels: dict[str, object], count: int) -> dict[str, object]:
    return {dim: held[:count] if isinstance(held, list) else held for dim, held in labels.items()}
