"""How does a finding say where its proof stands? As a line of Python that a person can run."""

from __future__ import annotations


def sel_line(call: str, **labels: object) -> str:
    """Write the selection that shows the evidence again.

    >>> sel_line("wdyn.movement(run).change", parameter=["h.0.weight"])
    "wdyn.movement(run).change.sel(parameter=['h.0.weight'])"
    """
    chosen = ", ".join(f"{dim}={label!r}" for dim, label in labels.items())
    return f"{call}.sel({chosen})" if chosen else call
