"""Which copies parted, when, and is that a fault or meant?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis.evidence import sel_line
from wdyn.analysis.likeness_words import places
from wdyn.analysis.telling import count, names_where, proof
from wdyn.findings import Finding, Severity
from wdyn.naming import examples
from wdyn.schema import Kind

CODES = {
    "REP001": "Processes that should train the same weights hold different ones.",
    "REP002": "Buffers alone differ between processes.",
    "REP003": "Copies of weights differed between processes, and agreed again.",
}

_WEIGHTS = "(m.kind != 'buffer')"
_NEVER = (
    "Nothing made the copies alike: seed all processes alike before the model is built, load the same file in each, or "
    "broadcast from the first, as DistributedDataParallel does when it wraps the model."
)
_RESUMED = "Load the same checkpoint in every process, before the model is wrapped and the optimizer is made."
_UNKNOWN = "When they parted is not known: compare from the first step on."
_LATER = (
    "Something reached one copy alone: an optimizer step, a load or a write on one rank, a gradient that was not "
    "reduced (no_sync, a parameter that the wrapped forward does not use), or a fault of the hardware."
)
_BY_DESIGN = "By design: each process keeps the statistics of its own batches. To keep one, use SyncBatchNorm."
_BUFFERS = "Compute them alike in all processes, or broadcast them, as DistributedDataParallel does unless told not to."
_MET = (
    "Was the model wrapped, or synchronised, after recording began? Then enter wdyn.watch later; else look for what "
    "reached one copy alone at the first of these steps."
)
_SYNCED = "By design where copies are averaged from time to time (local SGD); else look for what parts them."


def check(result: xr.Dataset, *, syncs: int = 2) -> Iterator[Finding]:
    """Judge what `replicas` measured.

    Parameters
    ----------
    syncs
        Copies that came to agree again as often as this are taken to be synchronised from time to time, as by local
        SGD.
    """
    buffer, often = (result["kind"] == Kind.BUFFER).values, (result["rejoined"] >= syncs).values
    apart = ~buffer & ~often & result["since"].notnull().values
    met = ~buffer & ~often & (result["rejoined"] > 0).values & ~apart
    yield from _apart(result, names_where(result, apart, by=-result["since"]), syncs)
    yield from _met(result, names_where(result, met), syncs)
    yield from _synced(result, names_where(result, ~buffer & often), syncs)
    first = result["first_at"].values
    parted = float(np.nanmin(first[~buffer], initial=np.inf))
    # Where weights part, what is computed from them parts as well: that is no fault of its own.
    for by_design in (True, False):
        chosen = buffer & (first < parted) & (result["own_statistic"].values == by_design)
        yield from _buffers(result, names_where(result, chosen), by_design, parted)


def _apart(result: xr.Dataset, names: list[str], syncs: int) -> Iterator[Finding]:
    if not names:
        return
    found = result.sel({schema.PARAMETER: names})
    since = found["since"].values
    begun = names[: int((since == since[0]).sum())]
    since_when, advice = _begun(result, int(since[0]), float(found["agreed_at"][0]))
    more = len(names) - len(begun)
    followed = f", and {more} more by step {since[-1]:.0f}" if more else ""
    most = int(found["at_end"].max())
    message = (
        f"{_of_all(result, names)} differ between {_processes(result)} {since_when}: {_which(result, begun)}{followed}"
        f". {'One process holds' if most == 1 else f'{most} processes hold'} other bits than the first, at the last "
        f"comparison, step {result[schema.STEP].values[-1]}"
    )
    where = f"m.since.notnull() & (m.rejoined < {syncs}) & {_WEIGHTS}"
    yield _finding(result, names, "REP001", Severity.ERROR, message, advice, where)


def _begun(result: xr.Dataset, step: int, agreed_at: float) -> tuple[str, str]:
    """Say since when copies differ, and what to look for."""
    attempts = result[schema.ATTEMPT].values
    at = int(np.searchsorted(result[schema.STEP].values, step))
    if at and attempts[at] != attempts[at - 1]:
        return f"since step {step}, where the run was resumed", _RESUMED
    if not np.isnan(agreed_at):
        return f"since step {step}, after they agreed at step {agreed_at:.0f}", _LATER
    if step == 0:
        return "from step 0 on, so that they never began alike", _NEVER
    return f"at the first comparison already, at step {step}", _UNKNOWN


def _met(result: xr.Dataset, names: list[str], syncs: int) -> Iterator[Finding]:
    if names:
        found = result.sel({schema.PARAMETER: names})
        message = (
            f"{_of_all(result, names)} differed between {_processes(result)}, from step "
            f"{float(found['first_at'].min()):.0f} to {float(found['last_at'].max()):.0f}, and agree again: "
            f"{_which(result, names)}"
        )
        where = f"(m.rejoined > 0) & (m.rejoined < {syncs}) & m.since.isnull() & {_WEIGHTS}"
        yield _finding(result, names, "REP003", Severity.WARNING, message, _MET, where)


def _synced(result: xr.Dataset, names: list[str], syncs: int) -> Iterator[Finding]:
    if names:
        times = int(result["rejoined"].sel({schema.PARAMETER: names}).max())
        message = (
            f"{_of_all(result, names)} part between {_processes(result)} and agree again, up to {times} times: "
            f"{_which(result, names)}"
        )
        where = f"(m.rejoined >= {syncs}) & {_WEIGHTS}"
        yield _finding(result, names, "REP003", Severity.INFO, message, _SYNCED, where)


def _buffers(result: xr.Dataset, names: list[str], by_design: bool, parted: float) -> Iterator[Finding]:
    if not names:
        return
    found = result.sel({schema.PARAMETER: names})
    rows = int((found["differ"] > 0).any(schema.PARAMETER).sum())
    words = ("statistic of a batch norm", "statistics of batch norms") if by_design else ("buffer",)
    message = (
        f"{count(names, *words)} {'differs' if len(names) == 1 else 'differ'} between {_processes(result)}, first at "
        f"step {float(found['first_at'].min()):.0f}, at {rows} of {result.sizes[schema.STEP]} rows: {examples(names)}"
    )
    severity, advice = (Severity.INFO, _BY_DESIGN) if by_design else (Severity.WARNING, _BUFFERS)
    when = "m.first_at.notnull()" if np.isinf(parted) else f"(m.first_at < {parted:.0f})"
    where = f"{when} & (m.kind == 'buffer') & {'' if by_design else '~'}m.own_statistic"
    yield _finding(result, names, "REP002", severity, message, advice, where)


def _of_all(result: xr.Dataset, names: list[str]) -> str:
    """Count parameters, of all that were compared, buffers not among them."""
    weights = names_where(result, (result["kind"] != Kind.BUFFER).values)
    return f"Copies of {len(names)} of {count(weights, 'parameter')}"


def _processes(result: xr.Dataset) -> str:
    most = result["processes"].max()  # attempts may have had different counts
    return "processes" if np.isnan(most) else f"{most:.0f} processes"


def _which(result: xr.Dataset, names: list[str]) -> str:
    told = places(result.sel({schema.PARAMETER: names}))
    return f"{told} ({'' if len(names) <= 2 else 'such as '}{examples(names[:2], 2)})"


def _finding(
    result: xr.Dataset, names: list[str], code: str, severity: Severity, message: str, advice: str, where: str
) -> Finding:
    line = sel_line("wdyn.replicas(run)", where=where, parameter=names)
    return Finding(code, severity, message, proof(result, names), advice, line)
