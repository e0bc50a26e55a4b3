"""Runs for the tests of reading: any addresses, with random weights that the test knows."""

import numpy as np
import pytest

import wdyn
from wdyn import schema
from wdyn.arrays import plan_arrays
from wdyn.capture.table import parameter_table
from wdyn.rows import Batch, Declaration, Row, Snapshot
from wdyn.schema import Address, Kind, Parts, Role
from wdyn.store.writer import Writer

OUT_IN = ("fan_out", "fan_in")
IN_OUT = ("fan_in", "fan_out")


class Recorded:
    """A run, and the float64 truth of its weights by full name: (step, ...)."""

    def __init__(self, path, addresses, *, steps=(0, 10), skip=(), seed=0):
        random = np.random.default_rng(seed)
        holders = [one for one in addresses if not one.tied_to]
        arrays = plan_arrays(holders)
        held = {name: array.slug for array in arrays for name in array.names}
        self.truth = {one.name: random.standard_normal((len(steps), *one.shape)).astype("f4") for one in holders}
        names = [one.name for one in addresses]
        shares = np.array([names.index(one.tied_to or one.name) for one in addresses])
        table = {str(name): column.values for name, column in parameter_table(addresses).variables.items()}
        given = {
            schema.WEIGHTS: np.array([held.get(name, "") for name in names]),
            "in_optimizer": np.ones(len(names), dtype=bool),
            schema.GROUP: np.zeros(len(names), dtype=np.int64),
        }
        with Writer(path, about={"model": "M"}, attempt={"resumed_from_step": -1}) as writer:
            writer.append(Batch(steps[0], declaration=Declaration({**table, **given}, tuple(arrays))))
            for at, step in enumerate(steps):
                values = {one.slug: np.stack([self.truth[name][at] for name in one.names]) for one in arrays}
                kept = {one.slug: values[one.slug] if one.layers else values[one.slug][0] for one in arrays}
                rows = (
                    Row("statistics/weights", step, {"std": np.array([float(at)] * len(names))}),
                    Row(schema.STATES, step, {schema.SHARES_WITH: shares}),
                    Row(schema.SCALARS, step, {"lr": np.array([0.1]), "loss": np.array(float(step))}),
                )
                writer.append(Batch(step, rows, None if step in skip else Snapshot(step, kept)))
        self.run = wdyn.open_run(path)


def address(name, path, role, layer, shape, *, dims=OUT_IN, parts=None, kind=Kind.WEIGHT, stack="decoder", **more):
    return Address(
        name, path, role, kind, stack, layer, shape, tuple(dims)[: len(shape)], "float32", parts=parts, **more
    )


def gpt2(width=6, layers=(0, 1), heads=2):
    """Addresses laid out like GPT-2: Conv1D stored (fan_in, fan_out), qkv fused along fan_out, a tied head."""
    qkv = Parts(axis=1, names=("q", "k", "v"), sizes=(width,) * 3)
    known = {"heads": heads, "kv_heads": heads, "head_dim": width // heads}
    yield address("wte.weight", "wte.weight", Role.EMBEDDING, -1, (10, width))
    for at in layers:
        attn = f"h.{at}.attn"
        yield address(f"{attn}.qkv.weight", "h.attn.qkv.weight", Role.QKV, at, (width, 3 * width), dims=IN_OUT,
                      parts=qkv, **known)  # fmt: skip
        bias = Parts(axis=0, names=("q", "k", "v"), sizes=(width,) * 3)
        yield address(f"{attn}.qkv.bias", "h.attn.qkv.bias", Role.QKV, at, (3 * width,), kind=Kind.BIAS, parts=bias)
        yield address(f"{attn}.o.weight", "h.attn.o.weight", Role.O, at, (width, width), dims=IN_OUT, **known)
    yield address("head.weight", "head.weight", Role.UNEMBEDDING, -1, (10, width), tied_to="wte.weight")


@pytest.fixture
def record(tmp_path):
    """Record addresses, by default GPT-2's, as runs of increasing number."""
    made = []

    def make(addresses=None, **options):
        made.append(None)
        return Recorded(tmp_path / f"{len(made)}.zarr", tuple(addresses or gpt2()), **options)

    return make


@pytest.fixture
def layout():
    """Make addresses by hand."""
    return address


@pytest.fixture
def gpt2_layout():
    return gpt2
