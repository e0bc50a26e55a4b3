"""How does a user ask for a recording of a training loop that already exists?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import nn
from torch.optim import Optimizer

from wdyn.capture.anatomy import addresses
from wdyn.capture.budgets import budget
from wdyn.capture.choosing import Select, wanted_by
from wdyn.capture.declared import Declared
from wdyn.capture.optimizers import as_optimizers
from wdyn.capture.plan import DROP, Plan, check_when_full
from wdyn.capture.processes import records_together, stands_by
from wdyn.capture.schedule import Decision, as_schedule
from wdyn.capture.spread import divided_tensors
from wdyn.capture.watched import check_compression, check_model, declared_parts, quantities
from wdyn.errors import InvalidArgument
from wdyn.handle import Watch
from wdyn.store.place import check_place

LOG_SPACED = "log-spaced"


def watch(
    model: nn.Module,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    *,
    to: str | os.PathLike[str],
    every: int | Decision | None = None,
    snapshots: int | Decision | str | None = LOG_SPACED,
    what: str | Sequence[str] = ("weights", "updates", "gradients"),
    select: Select = None,
    heads: bool = False,
    parts: Declared | None = None,
    compression: str | None = None,
    resume: bool | int = False,
    disk_limit: int = 10 * 2**30,
    queue_bytes: int = 2**30,
    when_full: str = DROP,
    flush_on_sigterm: bool = False,
    alone: bool = False,
    check_replicas: bool = False,
) -> Watch:
    """Record what happens to the weights of `model` while the block runs.

    Nothing inside the block has to change: a step is counted each time the optimizer (the last one, of several) has
    stepped. Training is bit for bit what it is without. An error inside recording is warned about once, and never
    reaches the loop.

    Memory: copies of the recorded weights, where these lie, as told under `what`, and one on the host for a snapshot;
    all are used again.

    Parameters
    ----------
    model
        Any module. Its parameters and persistent buffers are recorded.
    optimizer
        One, several, or None for a loop that has none and calls ``w.step()`` itself.
    to
        Where the run goes: a folder that does not exist yet, or a run to be continued.
    every
        Steps at which statistics are recorded: a number, a schedule, or a function of the step. Default:
        ``budget(0.01)``. Step 0, before any update, and the last step always have a row.
    snapshots
        Steps at which all weights are kept exactly. Default: step 0, then log-spaced, as closely as `disk_limit`
        allows, and the last step. None keeps none.
    what
        What is recorded, some of these, or ``"all"``. Statistics of

        - ``weights``, and of ``gradients`` as the optimizer sees them, unscaled and clipped: no memory.
        - ``updates``, the weights after a step minus those before it, measured: a copy of the weights. Beside them
          stand the update ratio and the cosine of the update with the weights.
        - ``displacement``, the weights minus those of the first row: a copy of the first weights.
        - ``moments``, every tensor that the optimizer holds of a parameter and that is shaped like it, each a quantity
          by its own name (``exp_avg``, ``momentum_buffer``): no memory.

        And relations: ``update_cosine`` of an update with the one of the row before it, with the count of steps between
        (a copy of the last updates), and ``predicted_update``, how what the optimizer's formula says compares with what
        was measured, where the formula is known (the copy of ``updates``, and one of the gradients where the state of
        the optimizer does not tell them).
    select
        Which parameters. Names or patterns with ``*``; or what all must fit, one or several values each:
        ``{"role": ["q", "k"], "layer": range(4), "stack": "decoder", "kind": "weight", "path": ..., "name":
        "*.attn.*"}``; or a function of a `wdyn.schema.Address`. A role also finds fused weights that have it as a
        part; a slice of layers counts as in a list, so ``slice(-2, None)`` is the last two; layer -1 is what stands
        outside blocks. Default: all.
    heads
        Whether each attention head is a part, with statistics of its own, where the number of heads is known.
    parts
        How fused weights split, where you know better: ``{"*.qkv.weight": "q,k,v"}`` for equal parts along fan_out,
        ``"q:32,k:8,v:8"`` for others, ``"q,k,v per_head:4"`` for four times one head of each, or a
        `wdyn.schema.Parts`.
    compression
        How snapshots are stored: None, raw, or ``"fast"``, bitshuffle and lz4, which saves a seventh of float32 and a
        quarter of bfloat16 for some time of the writer.
    resume
        What to do where a run is already: False refuses, True continues after the step of the `load_state_dict`
        given to this watch, else after the last one recorded, and a number continues after that step. Weights that
        are not those recorded at that step are warned about. Where no run is, True starts one.
    disk_limit
        Bytes that the default snapshots may take.
    queue_bytes
        Memory that rows and snapshots may hold while they wait for the disk; a quarter of it is kept for rows.
    when_full
        What a snapshot does that finds no room there: ``"drop"``, it is left out, counted, and warned about once; or
        ``"block"``, training waits until the disk has taken what is before it. Rows always wait. Nothing waits for a
        disk that takes no writes: what finds no room then is counted as lost.
    alone
        Whether this process records by itself what it trains, where a process group is, to a place of its own: a stage
        of a pipeline, or one of several models. Default: processes record one run together. Of a model whose copies
        train (DDP) the first process records all and the others nothing; of one that is spread over them as DTensors
        (FSDP2, tensor parallel) each records its pieces, so all of them enter the block, with the same arguments.
    check_replicas
        Whether the copies of weights that several processes hold are compared bit by bit at each row, so that all of
        them enter the block. What differs is warned about, and kept as ``states/replicas_differ``.
    flush_on_sigterm
        Whether SIGTERM, by which a scheduler says that it will kill soon, first waits until all that was recorded is
        durable. Then the program does what it did before at that signal. Only in the main thread.

    Returns
    -------
    Watch
        A context manager; nothing is touched before its block is entered.

    Raises
    ------
    InvalidArgument, NothingToWatch
        An argument cannot be used; the message says what was found and what was needed.
    RunExists
        A run is at `to`, and `resume` is False.
    NotARun
        `resume` is a step, and no run is there.
    """
    if isinstance(snapshots, str) and snapshots != LOG_SPACED:
        raise InvalidArgument(f"snapshots={snapshots!r}: needed is a number of steps, a schedule, or None")
    check_model(model)
    declared = declared_parts(parts, model)
    known = addresses(model, parts=declared) if select is not None else []
    wanted = wanted_by(select, known)
    plan = Plan(
        place=_place(model, to, resume=resume, alone=alone, check_replicas=check_replicas),
        rows=as_schedule(budget(0.01) if every is None else every, "every"),
        snapshots=None if isinstance(snapshots, str) else as_schedule(snapshots, "snapshots"),
        what=quantities(what),
        wanted=wanted,
        left_out=tuple(one.name for one in known if not wanted(one)),
        parts=declared,
        heads=heads,
        compression=check_compression(compression),
        resume=resume,
        disk_limit=disk_limit,
        queue_bytes=queue_bytes,
        when_full=check_when_full(when_full),
        flush_on_sigterm=flush_on_sigterm,
        alone=alone,
        check_replicas=check_replicas,
    )
    return Watch(model, as_optimizers(optimizer), plan)


def _place(
    model: nn.Module, to: str | os.PathLike[str], *, resume: bool | int, alone: bool, check_replicas: bool
) -> Path:
    """Check the place, where this process is the only one that does, and not the first of several that begin."""
    tensors = divided_tensors(model)
    together = records_together(tensors, alone=alone, check_replicas=check_replicas)
    if together or stands_by(tensors, alone=alone, check_replicas=check_replicas):
        return Path(to)
    return check_place(to, resume=resume)
