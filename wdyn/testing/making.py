"""How is a run with planted answers written, as `watch` would have written it?"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import bins, schema
from wdyn.arrays import WeightArray, plan_arrays
from wdyn.capture.listing import parameter_columns
from wdyn.naming import part_label
from wdyn.rows import Batch, Counts, Declaration, Row, Snapshot
from wdyn.schema import Address, Extra, Quantity
from wdyn.store.reader import open_run
from wdyn.store.writer import Writer
from wdyn.testing.numbers import statistics
from wdyn.testing.planting import HEAD, Planted, Weights, addresses, trajectory
from wdyn.testing.training import BETA1, BETA2, training_rows


def make_run(
    to: str | os.PathLike[str] | None = None,
    *,
    layers: int = 4,
    width: int = 16,
    vocab: int = 48,
    steps: Sequence[int] = (0, 10, 100),
    std: float | Mapping[str, float] = 0.02,
    growth_by_layer: Sequence[float] | float = 1.5,
    tied: bool = True,
    tie_breaks_at: int | None = None,
    frozen: Sequence[str] = (),
    moved: Sequence[str] = (),
    still: Sequence[str] = (),
    decayed: Sequence[str] = (),
    nan_at: Mapping[str, int] | None = None,
    what: Sequence[str] = ("weights",),
    replicas_differ: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
) -> xr.DataTree:
    """Make the run of a small GPT with known answers, as `watch` would have recorded it.

    Its parameters are ``tok.weight``, ``pos.weight``, ``blocks.<i>.ln.weight`` and ``.ln.bias``,
    ``blocks.<i>.attn.qkv.weight`` (fused q, k, v), ``.attn.proj.weight``, ``.mlp.up.weight``, ``.mlp.down.weight``, and
    ``head.weight``.

    Parameters
    ----------
    to
        Where to write it; default: nowhere, the run is in memory.
    layers, width, vocab
        Sizes.
    steps
        Steps with a row and a snapshot, rising from the first.
    std
        Exact std of each matrix at the first step, or one by pattern of names (0.02 where none fits).
    growth_by_layer
        By what factor the std of each layer's matrices has grown at the last step, exactly; rows between are linear.
    tied, tie_breaks_at
        Whether ``head.weight`` shares the storage of ``tok.weight``, and the step from which it no longer does.
    frozen, moved, still, decayed
        Patterns of names: not trainable and constant; not trainable and moving all the same; trainable and constant;
        trainable and only scaled down, to 0.9 at the end.
    nan_at
        Names whose first element is NaN from a step on.
    what
        What else is recorded, in the words of `watch`: ``updates`` (with how they stand to the weights and to each
        other) and ``displacement`` of the weights above; ``gradients`` with an rms of exactly 0.01, the same at every
        step, of all that is trainable and not ``still``; ``moments``, those of Adam with betas 0.9 and 0.999 for these
        gradients. The weights do not follow from the gradients.
    replicas_differ
        Patterns of names, and at each step in how many processes the copy differs (-1: not compared); 0 of all others.
        By default one process records, and nothing is compared.

    Returns
    -------
    DataTree
        As from `open_run`, with statistics and histograms of ``weights`` and of their q, k and v, ``states``,
        ``scalars`` (lr, weight_decay, loss) and weights.

    Raises
    ------
    InvalidArgument
        A pattern matches no parameter, ``growth_by_layer`` or counts of `replicas_differ` have another length, the
        steps do not rise, or a word of `what` is not known.
    """
    growth = (growth_by_layer,) * layers if isinstance(growth_by_layer, int | float) else tuple(growth_by_layer)
    planted = Planted(
        layers, width, vocab, tuple(steps), std, growth, tied, tie_breaks_at,
        frozen, moved, still, decayed, nan_at or {}, tuple(what), replicas_differ, seed,
    )  # fmt: skip
    planted.check([one.name for one in addresses(planted)])
    if to is not None:
        _write(Path(to), planted)
        return open_run(to)
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder) / "run.zarr", planted)
        run = open_run(Path(folder) / "run.zarr").load()
    del run.attrs["path"]
    return run


def _write(path: Path, planted: Planted) -> None:
    known = addresses(planted)
    breaks = planted.tied and planted.tie_breaks_at is not None
    arrays = plan_arrays([one for one in known if not one.tied_to or breaks])
    array_of = {name: array for array in arrays for name in array.names}
    parts = list(_parts(known))
    group = {"lr": 1e-3, "weight_decay": 0.1, "parameters": len(known)}
    about = {"model": "PlantedGPT", "optimizers": [{"name": "AdamW", "groups": [group]}]}
    with Writer(path, about=about, attempt={"resumed_from_step": -1, **planted.processes()}) as writer:
        tables = Declaration(_table(known, array_of), tuple(arrays), parts=_parts_table(parts))
        writer.append(Batch(planted.steps[0], declaration=tables))
        weights_at = trajectory(planted, known)
        for step, trained in zip(planted.steps, training_rows(planted, known, weights_at), strict=True):
            weights = weights_at(step)
            together = planted.together(step)
            own = {name: values for name, values in weights.items() if not (together and name == HEAD)}
            rows = (
                *_numbers("", step, [weights[one.name] for one in known]),
                *_numbers(f"{schema.PARTS}/", step, [weights[name][rows] for name, _, rows in parts]),
                _states_row(step, known, planted),
                _scalars_row(step, betas=Extra.MOMENTS in planted.what),
                *trained,
            )
            writer.append(Batch(step, rows, _snapshot(step, own, arrays)))


def _table(addresses: Sequence[Address], array_of: Mapping[str, WeightArray]) -> dict[str, npt.NDArray[Any]]:
    group = np.zeros(len(addresses), dtype=np.int64)
    kept = ["" if one.tied_to or one.name not in array_of else array_of[one.name].slug for one in addresses]
    held = {schema.GROUP: group, "in_optimizer": group == 0, schema.WEIGHTS: np.array(kept, dtype=np.str_)}
    return {**parameter_columns(addresses), **held}


def _snapshot(step: int, weights: Weights, arrays: Iterable[WeightArray]) -> Snapshot:
    chosen = [one for one in arrays if one.names[0] in weights]
    values = {one.slug: np.stack([weights[name] for name in one.names]) for one in chosen}
    return Snapshot(step, {one.slug: values[one.slug] if one.layers else values[one.slug][0] for one in chosen})


def _parts(addresses: Sequence[Address]) -> Iterator[tuple[str, str, slice]]:
    """Give each part of the fused weights: its parameter, its name, and its rows."""
    for one in addresses:
        start = 0
        for name, size in zip(one.parts.names, one.parts.sizes, strict=True) if one.parts else ():
            yield one.name, name, slice(start, start + size)
            start += size


def _parts_table(parts: Sequence[tuple[str, str, slice]]) -> dict[str, npt.NDArray[Any]]:
    names = np.array([name for _, name, _ in parts])
    none = np.full(len(parts), -1)
    return {
        schema.PART: np.array([part_label(parameter, name) for parameter, name, _ in parts]),
        schema.PARAMETER: np.array([parameter for parameter, _, _ in parts]),
        "name": names,
        "role": names,
        schema.EXPERT: none,
        schema.HEAD: none,
    }


def _numbers(prefix: str, step: int, values: Sequence[npt.NDArray[np.float32]]) -> tuple[Row, Row]:
    """Statistics and histograms of the weights, or of their parts."""
    measured = [statistics(one) for one in values]
    columns = {name: np.array([one[name] for one in measured]) for name in schema.STATISTIC_NAMES}
    counted = np.array([np.bincount(bins.bin_of(one).ravel(), minlength=bins.COUNT) for one in values])
    counts = Counts.of(counted, absent=np.empty(0, dtype=np.int64))
    return (
        Row(f"{prefix}{schema.STATISTICS}/{Quantity.WEIGHTS}", step, columns),
        Row(f"{prefix}{schema.HISTOGRAMS}/{Quantity.WEIGHTS}", step, {schema.COUNTED: counts}),
    )


def _states_row(step: int, addresses: Sequence[Address], planted: Planted) -> Row:
    own = np.arange(len(addresses))
    tied = np.array([one.name == HEAD and planted.together(step) for one in addresses])
    states = {
        schema.SHARES_WITH: np.where(tied, 0, own),
        schema.TRAINABLE: np.array([one.trainable for one in addresses], dtype=np.int64),
        schema.GROUP: np.zeros(len(addresses), dtype=np.int64),
        schema.SAME_TENSOR: np.ones(len(addresses), dtype=np.int64),
    }
    if planted.replicas_differ is not None:
        states[schema.REPLICAS_DIFFER] = np.array([planted.differing(one.name, step) for one in addresses])
    return Row(schema.STATES, step, states)


def _scalars_row(step: int, *, betas: bool) -> Row:
    values = {"lr": [1e-3], "weight_decay": [0.1], "loss": 4.0 / (1 + step), "wall_time": 1.7e9 + step}
    values |= {"beta1": [BETA1], "beta2": [BETA2]} if betas else {}
    return Row(schema.SCALARS, step, {name: np.asarray(value, dtype=np.float64) for name, value in values.items()})
