"""How can an analyzer be tested? Runs whose right answers are known, because they were planted."""

from __future__ import annotations

import fnmatch
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.arrays import WeightArray, plan_arrays
from wdyn.capture.table import parameter_table
from wdyn.errors import InvalidArgument
from wdyn.naming import examples
from wdyn.rows import Batch, Declaration, Row, Snapshot
from wdyn.schema import Address, Kind, Parts, Quantity, Role
from wdyn.store.reader import open_run
from wdyn.store.writer import Writer

Weights = dict[str, npt.NDArray[np.float32]]
TOKENS, HEAD = "tok.weight", "head.weight"


@dataclass(frozen=True)
class Planted:
    """What `make_run` was asked to plant."""

    layers: int
    width: int
    vocab: int
    steps: tuple[int, ...]
    std: float | Mapping[str, float]
    growth_by_layer: Sequence[float]
    tied: bool
    tie_breaks_at: int | None
    frozen: Sequence[str]
    moved: Sequence[str]
    still: Sequence[str]
    decayed: Sequence[str]
    nan_at: Mapping[str, int]
    seed: int

    def together(self, step: int) -> bool:
        """Whether ``head.weight`` is ``tok.weight`` at this step."""
        return self.tied and (self.tie_breaks_at is None or step < self.tie_breaks_at)

    def check(self, names: Sequence[str]) -> None:
        """Refuse what cannot be planted: a truth that is not there would let a test pass in vain."""
        stds = self.std if isinstance(self.std, Mapping) else {}
        patterns = (*self.frozen, *self.moved, *self.still, *self.decayed, *self.nan_at, *stds)
        for pattern in patterns:
            if not fnmatch.filter(names, pattern):
                raise InvalidArgument(f"{pattern!r} matches no parameter; there are: {examples(names, 12)}")
        if len(self.growth_by_layer) != self.layers:
            raise InvalidArgument(
                f"growth_by_layer has {len(self.growth_by_layer)} factors for {self.layers} layers; give one for each"
            )
        if not self.steps or list(self.steps) != sorted(set(self.steps)):
            raise InvalidArgument(f"steps={self.steps}: needed is at least one step, rising")


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

    Returns
    -------
    DataTree
        As from `open_run`, with statistics of ``weights``, ``states``, ``scalars`` (lr, loss) and weights.

    Raises
    ------
    InvalidArgument
        A pattern matches no parameter, ``growth_by_layer`` has another length, or the steps do not rise.
    """
    growth = (growth_by_layer,) * layers if isinstance(growth_by_layer, int | float) else tuple(growth_by_layer)
    planted = Planted(
        layers, width, vocab, tuple(steps), std, growth, tied, tie_breaks_at,
        frozen, moved, still, decayed, nan_at or {}, seed,
    )  # fmt: skip
    planted.check([one.name for one in _addresses(planted)])
    if to is not None:
        _write(Path(to), planted)
        return open_run(to)
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder) / "run.zarr", planted)
        run = open_run(Path(folder) / "run.zarr").load()
    del run.attrs["path"]
    return run


def _addresses(planted: Planted) -> tuple[Address, ...]:
    width, hidden = planted.width, 4 * planted.width
    parts = Parts(axis=0, names=("q", "k", "v"), sizes=(width,) * 3, source="convention")
    block = {
        "ln.weight": (Role.NORM, (width,), None),
        "ln.bias": (Role.NORM, (width,), None),
        "attn.qkv.weight": (Role.QKV, (3 * width, width), parts),
        "attn.proj.weight": (Role.O, (width, width), None),
        "mlp.up.weight": (Role.MLP_UP, (hidden, width), None),
        "mlp.down.weight": (Role.MLP_DOWN, (width, hidden), None),
    }
    outside = {
        TOKENS: (Role.EMBEDDING, (planted.vocab, width)),
        "pos.weight": (Role.POS_EMBEDDING, (planted.vocab // 2, width)),
    }
    found = [_address(name, name, role, shape, planted) for name, (role, shape) in outside.items()]
    for layer in range(planted.layers):
        for name, (role, shape, fused) in block.items():
            full, path = f"blocks.{layer}.{name}", f"blocks.{name}"
            found.append(_address(full, path, role, shape, planted, layer=layer, parts=fused))
    head = _address(HEAD, HEAD, Role.UNEMBEDDING, (planted.vocab, width), planted, tied_to=TOKENS * planted.tied)
    return (*found, head)


def _address(
    name: str,
    path: str,
    role: Role,
    shape: tuple[int, ...],
    planted: Planted,
    *,
    layer: int = schema.NO_LAYER,
    parts: Parts | None = None,
    tied_to: str = "",
) -> Address:
    kind = Kind.BIAS if name.endswith("bias") else Kind.WEIGHT
    module = (
        "LayerNorm" if len(shape) == 1 else "Embedding" if "emb" in name or (layer < 0 and name != HEAD) else "Linear"
    )
    dims = (schema.FAN_OUT, schema.FAN_IN)[: len(shape)]
    trainable = not _fits(name, (*planted.frozen, *planted.moved))
    return Address(name, path, role, kind, "decoder", layer, shape, dims, "float32", trainable, tied_to, module, parts)


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _trajectory(planted: Planted, addresses: Sequence[Address]) -> Iterator[Weights]:
    """Give the weights at each step; with growth g, W_t = W_0 + sqrt(g^2 - 1) N with N orthogonal to W_0."""
    random = np.random.default_rng(planted.seed)
    start = {one.name: _start(one, planted, random) for one in addresses}
    noise = {name: _orthogonal(values, random) for name, values in start.items()}
    first, last = planted.steps[0], planted.steps[-1]
    for step in planted.steps:
        share = (step - first) / max(1, last - first)
        weights = {one.name: _moved(one, planted, start[one.name], noise[one.name], share) for one in addresses}
        together = planted.together(step)
        for name, since in planted.nan_at.items():
            if step >= since:
                held = weights[TOKENS if together and name == HEAD else name]
                held.flat[0] = np.nan
        if together:
            weights[HEAD] = weights[TOKENS]
        yield weights


def _start(one: Address, planted: Planted, random: np.random.Generator) -> npt.NDArray[np.float64]:
    if len(one.shape) == 1:
        return np.full(one.shape, 0.0 if one.kind == Kind.BIAS else 1.0)
    values = random.standard_normal(one.shape)
    values -= values.mean()
    stds = planted.std if isinstance(planted.std, Mapping) else {"*": planted.std}
    std = next((value for pattern, value in stds.items() if fnmatch.fnmatchcase(one.name, pattern)), 0.02)
    return np.asarray(values * (std / values.std()))


def _orthogonal(values: npt.NDArray[np.float64], random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Noise of the same std, mean 0, uncorrelated with `values`: so that variances add exactly."""
    noise = random.standard_normal(values.shape)
    noise -= noise.mean()
    centred = values - values.mean()
    power = (centred**2).sum()
    if power == 0:
        return np.asarray(noise * 0.01 / noise.std())
    noise -= centred * ((noise * centred).sum() / power)
    return np.asarray(noise * (values.std() / noise.std()))


def _moved(
    one: Address,
    planted: Planted,
    start: npt.NDArray[np.float64],
    noise: npt.NDArray[np.float64],
    share: float,
) -> npt.NDArray[np.float32]:
    if _fits(one.name, (*planted.frozen, *planted.still)):
        return start.astype(np.float32)
    if _fits(one.name, planted.decayed):
        return (start * (1 - 0.1 * share)).astype(np.float32)
    if len(one.shape) == 1:
        return (start + share * noise).astype(np.float32)
    growth = planted.growth_by_layer[one.layer] if one.layer >= 0 else 1.2
    now = 1 + (growth - 1) * share
    return (start + np.sqrt(now**2 - 1) * noise if now >= 1 else start * now).astype(np.float32)


def _write(path: Path, planted: Planted) -> None:
    addresses = _addresses(planted)
    breaks = planted.tied and planted.tie_breaks_at is not None
    arrays = plan_arrays([one for one in addresses if not one.tied_to or breaks])
    array_of = {name: array for array in arrays for name in array.names}
    group = {"lr": 1e-3, "weight_decay": 0.1, "parameters": len(addresses)}
    about = {"model": "PlantedGPT", "optimizers": [{"name": "AdamW", "groups": [group]}]}
    with Writer(path, about=about, attempt={"resumed_from_step": -1}) as writer:
        writer.append(Batch(planted.steps[0], declaration=Declaration(_table(addresses, array_of), tuple(arrays))))
        for step, weights in zip(planted.steps, _trajectory(planted, addresses), strict=True):
            together = planted.together(step)
            own = {name: values for name, values in weights.items() if not (together and name == HEAD)}
            rows = (
                _statistics_row(step, [weights[one.name] for one in addresses]),
                _states_row(step, addresses, together=together),
                _scalars_row(step),
            )
            writer.append(Batch(step, rows, _snapshot(step, own, arrays)))


def _table(addresses: Sequence[Address], array_of: Mapping[str, WeightArray]) -> dict[str, npt.NDArray[Any]]:
    described = parameter_table(addresses)
    columns = {str(name): values.values for name, values in described.variables.items()}
    group = np.zeros(len(addresses), dtype=np.int64)
    kept = ["" if one.tied_to or one.name not in array_of else array_of[one.name].slug for one in addresses]
    held = {schema.GROUP: group, "in_optimizer": group == 0, schema.WEIGHTS: np.array(kept, dtype=np.str_)}
    return {**columns, **held}


def _snapshot(step: int, weights: Weights, arrays: Iterable[WeightArray]) -> Snapshot:
    chosen = [one for one in arrays if one.names[0] in weights]
    values = {one.slug: np.stack([weights[name] for name in one.names]) for one in chosen}
    return Snapshot(step, {one.slug: values[one.slug] if one.layers else values[one.slug][0] for one in chosen})


def _statistics_row(step: int, weights: Sequence[npt.NDArray[np.float32]]) -> Row:
    measured = [_statistics(values.astype(np.float64)) for values in weights]
    columns = {name: np.array([one[name] for one in measured]) for name in schema.STATISTIC_NAMES}
    return Row(f"{schema.STATISTICS}/{Quantity.WEIGHTS}", step, columns)


def _statistics(values: npt.NDArray[np.float64]) -> dict[str, float | int]:
    """The plain textbook formulas, in numpy."""
    finite = values[np.isfinite(values)]
    deviation, std = finite - finite.mean(), finite.std()
    with np.errstate(invalid="ignore"):  # a constant tensor has no skewness: 0/0 is NaN
        shape = {name: np.float64((deviation**p).mean()) / std**p for name, p in (("skewness", 3), ("kurtosis", 4))}
    nans = int(np.isnan(values).sum())
    return {
        "mean": float(finite.mean()),
        "std": float(std),
        "rms": float(np.sqrt((finite**2).mean())),
        "min": float(finite.min()),
        "max": float(finite.max()),
        "abs_max": float(np.abs(finite).max()),
        "l1": float(np.abs(finite).sum()),
        "l2": float(np.sqrt((finite**2).sum())),
        **{name: float(value) for name, value in shape.items()},
        "count": values.size,
        "zeros": int((values == 0).sum()),
        "nonfinite": values.size - finite.size,
        "nans": nans,
        "infs": values.size - finite.size - nans,
    }


def _states_row(step: int, addresses: Sequence[Address], *, together: bool) -> Row:
    own = np.arange(len(addresses))
    tied = np.array([one.name == HEAD and together for one in addresses])
    states = {
        schema.SHARES_WITH: np.where(tied, 0, own),
        schema.TRAINABLE: np.array([one.trainable for one in addresses], dtype=np.int64),
        schema.GROUP: np.zeros(len(addresses), dtype=np.int64),
    }
    return Row(schema.STATES, step, states)


def _scalars_row(step: int) -> Row:
    values = {"lr": [1e-3], "weight_decay": [0.1], "loss": 4.0 / (1 + step), "wall_time": 1.7e9 + step}
    return Row(schema.SCALARS, step, {name: np.asarray(value, dtype=np.float64) for name, value in values.items()})
