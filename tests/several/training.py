"""Train and record, and keep what one process would have recorded of the same."""

import contextlib
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

import wdyn
from several.models import LAYOUTS, PARTS, group, mesh, rank, ranks, small, spread

STEPS = 3
ALL = {"every": 1, "snapshots": 1, "what": "all", "heads": True}


@dataclass
class History:
    """The tensors of each step, as they are spread: weights and buffers, gradients, and what the optimizer held."""

    weights: list = field(default_factory=list)
    gradients: list = field(default_factory=list)
    states: list = field(default_factory=list)
    losses: list = field(default_factory=list)

    def add_weights(self, model):
        self.weights.append(tree_map(copy_of, dict(model.state_dict())))

    def add_gradients(self, model):
        self.gradients.append({name: copy_of(one.grad) for name, one in model.named_parameters()})

    def add_states(self, model, optimizer):
        held = {name: dict(optimizer.state[one]) for name, one in model.named_parameters()}
        self.states.append(tree_map(copy_of, held))

    def whole(self):
        """Put the pieces of all ranks together: of all tensors on the first rank, of none on the others."""
        weights, gradients, states = put_together([self.weights, self.gradients, self.states])
        return History(weights, gradients, states, self.losses)


def copy_of(one):
    return one.detach().clone() if isinstance(one, torch.Tensor) else one


def put_together(tensors):
    """Gather the pieces of the tensors in lists and dictionaries; they are whole on the first rank only."""
    leaves, form = tree_flatten(tensors)
    leaves = [summed(one) if isinstance(one, DTensor) else one for one in leaves]
    mine = [(places_of(one).numpy(), bits_of(one.to_local())) if isinstance(one, DTensor) else None for one in leaves]
    everyone = [None] * ranks()
    dist.gather_object(mine, everyone if rank() == 0 else None)
    if rank() == 0:
        for at, one in enumerate(leaves):
            if isinstance(one, DTensor):
                leaves[at] = torch.empty(one.numel(), dtype=one.dtype)
                for places, bits in (told[at] for told in everyone):
                    leaves[at][torch.from_numpy(places)] = torch.from_numpy(bits).view(one.dtype)
                leaves[at] = leaves[at].view(one.shape)
    return tree_unflatten(leaves, form)


def bits_of(one):
    return one.contiguous().reshape(-1).view(torch.uint8).numpy()


def summed(one):
    """Add up what ranks hold shares of."""
    return one.full_tensor() if any(way.is_partial() for way in one.placements) else one


def places_of(one):
    """Give which elements of a spread tensor this rank holds, by their place in the flattened whole."""
    numbers = torch.arange(one.numel()).view(one.shape)
    return spread(numbers, one.device_mesh, one.placements).to_local().flatten()


class Talk(TorchDispatchMode):
    """Lists what the ranks said to each other."""

    def __init__(self):
        super().__init__()
        self.words = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace in ("c10d", "_c10d_functional"):
            self.words.append(str(func))
        return func(*args, **(kwargs or {}))


def train(layout, *, place=None, **options):
    """Train, watched where a place is given.

    Returns
    -------
    model, history
        The model at the end, and the tensors of each step.
    held
        All that the training leaves behind on this rank.
    words
        What the ranks said to each other.
    """
    model = layout.make()
    layout.spread(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=False)
    history = History()
    torch.manual_seed(5)
    with Talk() as talk, contextlib.ExitStack() as block:
        w = block.enter_context(wdyn.watch(model, optimizer, to=place, **options)) if place else None
        history.add_weights(model)
        for step in range(1, STEPS + 1):
            optimizer.zero_grad()
            loss = layout.backward(model, step)
            history.losses.append(loss.item())
            if w is not None:
                w.log(loss=loss)
            history.add_gradients(model)
            optimizer.step()
            history.add_weights(model)
            history.add_states(model, optimizer)
    held = [model.state_dict(), [one.grad for one in model.parameters()], optimizer.state_dict(), torch.get_rng_state()]
    return model, history, held, talk.words


def same(one, other):
    """Compare what may hold tensors anywhere, bit for bit."""
    if isinstance(one, DTensor):
        return one.placements == other.placements and same(one.to_local(), other.to_local())
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(
            one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8)
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def replay(layout, history, place, **options):
    """Record in one process, with whole weights, what all ranks did together."""
    model = layout.make()
    model.load_state_dict(history.weights[0])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=False)
    named, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    made = 0

    def put(*_):
        nonlocal made
        made += 1
        write(named, history.weights[made])
        for name, held in history.states[made - 1].items():
            optimizer.state[named[name]] = tree_map(copy_of, held)

    optimizer.register_step_post_hook(put)  # before those of wdyn
    with wdyn.watch(model, optimizer, to=place, **options) as w:
        for at in range(STEPS):
            write(buffers, history.weights[at + 1])  # the forward does
            for name, one in named.items():
                one.grad = history.gradients[at][name]
            w.log(loss=history.losses[at])
            optimizer.step()


@torch.no_grad()
def write(tensors, values):
    for name, one in tensors.items():
        one.copy_(values[name])


def keep(history, place):
    """Write the whole weights and gradients as float64, and the bits of the weights, for the tests to look at."""
    arrays = {}
    for step, weights in enumerate(history.weights):
        for name, one in weights.items():
            arrays[f"weights/{step}/{name}"] = one.double().numpy()
            arrays[f"bits/{step}/{name}"] = bits_of(one)
    for at, gradients in enumerate(history.gradients):
        arrays |= {f"gradients/{at + 1}/{name}": one.double().numpy() for name, one in gradients.items()}
    np.savez(place, **arrays)


def recorded(folder, layout, **options):
    """Train unwatched and watched, and leave the run, what one process records of the same, and the whole tensors."""
    layout = LAYOUTS[layout]
    options = ALL | ({"parts": PARTS} if layout.make is small else {}) | options
    with group():
        _, _, unwatched, words = train(layout)
        model, history, watched, watched_words = train(layout, place=folder / "run.zarr", **options)
        history, pieces = history.whole(), {}
        for name, one in model.named_parameters():
            if isinstance(one, DTensor):
                pieces[name], full = places_of(one).tolist(), one.full_tensor()
                assert rank() != 0 or same(full.detach(), history.weights[-1][name])
        if rank() == 0:
            keep(history, folder / "held.npz")
            replay(layout, history, folder / "one.zarr", **options)
        return {"same": same(unwatched, watched), "words": words, "watched words": watched_words, "pieces": pieces}


def evaluated(folder, **options):
    """Train with evaluations before the block, after each step, and at its end: they leave the weights put together."""
    tokens = torch.zeros(2, 4, dtype=torch.int64)
    with group():
        model, on = small(), mesh(("dp",))
        fully_shard(model.low, mesh=on)
        fully_shard(model, mesh=on, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=False)
        evaluate(model, tokens)
        with wdyn.watch(model, optimizer, to=folder / "run.zarr", **ALL | {"snapshots": 2} | options) as w:
            for step in range(1, STEPS + 1):
                optimizer.zero_grad()
                LAYOUTS["fsdp"].backward(model, step)
                optimizer.step()
                evaluate(model, tokens)
            w.snapshot()
        whole = put_together(dict(model.state_dict()))
        if rank() == 0:
            np.savez(folder / "held.npz", **{name: one.double().numpy() for name, one in whole.items()})


@torch.no_grad()
def evaluate(model, tokens):
    model.eval()
    model(tokens)
    model.train()
