"""What is planted? The parameters of a small GPT, and how its weights move from step to step."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.errors import InvalidArgument
from wdyn.naming import examples
from wdyn.schema import Address, Extra, Kind, Parts, Quantity, Role

Weights = dict[str, npt.NDArray[np.float32]]
TOKENS, HEAD = "tok.weight", "head.weight"

_WHAT = (*Quantity, Extra.MOMENTS)
_GRADIENT = 0.01


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
    what: tuple[str, ...]
    replicas_differ: Mapping[str, Sequence[int]] | None
    seed: int

    def together(self, step: int) -> bool:
        """Whether ``head.weight`` is ``tok.weight`` at this step."""
        return self.tied and (self.tie_breaks_at is None or step < self.tie_breaks_at)

    def differing(self, name: str, step: int) -> int:
        """Count the processes whose copy differs from that of the first."""
        told = (self.replicas_differ or {}).items()
        return next((counts[self.steps.index(step)] for one, counts in told if fnmatch.fnmatchcase(name, one)), 0)

    def processes(self) -> dict[str, int]:
        """Say how many recorded, where several did: as few as there can have been."""
        if self.replicas_differ is None:
            return {}
        return {"processes": 1 + max([1, *(count for counts in self.replicas_differ.values() for count in counts)])}

    def check(self, names: Sequence[str]) -> None:
        """Refuse what cannot be planted: a truth that is not there would let a test pass in vain."""
        stds = self.std if isinstance(self.std, Mapping) else {}
        differing = self.replicas_differ or {}
        patterns = (*self.frozen, *self.moved, *self.still, *self.decayed, *self.nan_at, *stds, *differing)
        for pattern in patterns:
            if not fnmatch.filter(names, pattern):
                raise InvalidArgument(f"{pattern!r} matches no parameter; there are: {examples(names, 12)}")
        if len(self.growth_by_layer) != self.layers:
            raise InvalidArgument(
                f"growth_by_layer has {len(self.growth_by_layer)} factors for {self.layers} layers; give one for each"
            )
        if lengths := {len(counts) for counts in differing.values()} - {len(self.steps)}:
            raise InvalidArgument(f"replicas_differ has {lengths} counts for {len(self.steps)} steps; give one each")
        if not self.steps or list(self.steps) != sorted(set(self.steps)):
            raise InvalidArgument(f"steps={self.steps}: needed is at least one step, rising")
        if unknown := set(self.what) - set(_WHAT):
            raise InvalidArgument(f"what={sorted(unknown)}: these words are not known; give some of {', '.join(_WHAT)}")


def addresses(planted: Planted) -> tuple[Address, ...]:
    """List the parameters of the planted model, in its order."""
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


def trajectory(planted: Planted, addresses: Sequence[Address]) -> Callable[[int], Weights]:
    """Give the weights as a function of the step; with growth g, W_t = W_0 + sqrt(g^2 - 1) N, N orthogonal to W_0."""
    random = np.random.default_rng(planted.seed)
    start = {one.name: _start(one, planted, random) for one in addresses}
    noise = {name: _orthogonal(values, random) for name, values in start.items()}
    first, last = planted.steps[0], planted.steps[-1]

    def weights_at(step: int) -> Weights:
        share = (step - first) / max(1, last - first)
        weights = {one.name: _moved(one, planted, start[one.name], noise[one.name], share) for one in addresses}
        together = planted.together(step)
        for name, since in planted.nan_at.items():
            if step >= since:
                held = weights[TOKENS if together and name == HEAD else name]
                held.flat[0] = np.nan
        if together:
            weights[HEAD] = weights[TOKENS]
        return weights

    return weights_at


def gradients(planted: Planted, addresses: Sequence[Address]) -> dict[str, npt.NDArray[np.float64]]:
    """Give the gradient of each parameter that has one, the same at every step, with an rms of exactly 0.01."""
    random = np.random.default_rng([planted.seed, 1])
    found = {}
    for one in addresses:
        values = random.standard_normal(one.shape)
        if one.trainable and not _fits(one.name, planted.still):
            found[one.name] = np.asarray(values * (_GRADIENT / np.sqrt((values**2).mean())))
    if planted.tied and TOKENS in found and HEAD in found:
        found[HEAD] = found[TOKENS]
    return found


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
