"""Do exact weights come back bit for bit, whole or torn, from any reader?"""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr
import zarr

import wdyn
from wdyn import schema
from wdyn.arrays import plan_arrays
from wdyn.capture.table import parameter_table
from wdyn.rows import Batch, Declaration, Row, Snapshot
from wdyn.schema import Address, Kind, Role
from wdyn.store import weights
from wdyn.store.dtypes import STORED_TYPES

SHAPES = [(), (0,), (1,), (3, 0), (2, 3), (1, 1, 1)]
SHARDED = {  # more than 4 MiB each; awkward lengths, padded in more than one way
    "float32": [(1049, 1031), (2_097_169,), (3, 700_001)],
    "bfloat16": [(2111, 1033)],
    "float64": [(10007, 61)],
    "bool": [(2053, 2069)],
}


def random_bits(shape, dtype, seed):
    """Any bits at all, NaNs with payloads among them; for bool any truth."""
    stored = np.dtype(STORED_TYPES[dtype].dtype)
    random = np.random.default_rng(seed)
    if stored.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    return np.frombuffer(random.bytes(int(np.prod(shape)) * stored.itemsize), stored).reshape(shape)


def record(oracle, place, wanted, *, layers=(), steps=(0, 3), compression=None):
    """Write weights of these shapes and dtypes; give their stored bits by slug and step."""
    addresses = [
        Address(
            name=f"{dtype}.{number}.{layer}",
            path=f"{dtype}.{number}",
            role=Role.OTHER,
            kind=Kind.WEIGHT,
            stack="root",
            layer=layer,
            shape=shape,
            dims=tuple(f"axis_{axis}" for axis in range(len(shape))),
            dtype=dtype,
        )
        for number, (dtype, shape) in enumerate(wanted)
        for layer in layers or (schema.NO_LAYER,)
    ]
    arrays = plan_arrays(addresses)
    table = {str(name): column.values for name, column in parameter_table(addresses).variables.items()}
    held = {name: array.slug for array in arrays for name in array.names}
    table[schema.WEIGHTS] = np.array([held[one.name] for one in addresses])
    kept = {step: {} for step in steps}
    own = np.arange(len(addresses), dtype=np.int64)
    with oracle.writer(place, compression=compression) as writer:
        writer.append(Batch(0, declaration=Declaration(table, tuple(arrays))))
        for step in steps:
            kept[step] = {one.slug: random_bits(one.full_shape, one.dtype, step + at) for at, one in enumerate(arrays)}
            row = Row(schema.STATES, step, {schema.SHARES_WITH: own})
            writer.append(Batch(step, (row,), Snapshot(step, kept[step])))
    return arrays, kept


def as_bytes(values):
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def check(place, arrays, kept):
    """Compare what plain xarray and wdyn read with what was written, bit by bit."""
    run, plain = wdyn.open_run(place), xr.open_datatree(place, engine="zarr", chunks=None)
    for step, values in kept.items():
        state = wdyn.state_dict(run, step=step)
        for array in arrays:
            stored = plain[f"weights/{array.slug}/value"].sel(step=step)
            assert stored.dtype == values[array.slug].dtype
            assert stored.shape == array.full_shape
            np.testing.assert_array_equal(as_bytes(stored.values), as_bytes(values[array.slug]))
            layers = values[array.slug] if array.layers else [values[array.slug]]
            for name, bits in zip(array.names, layers, strict=True):
                tensor = state[name]
                assert tensor.dtype == getattr(torch, array.dtype)
                assert tuple(tensor.shape) == array.shape
                back = tensor.contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else torch.empty(0)
                np.testing.assert_array_equal(back.numpy(), as_bytes(bits))


@pytest.mark.parametrize("layers", [(), (0, 1), (2,)])
def test_weights__come_back_bit_for_bit(oracle, place, layers):
    wanted = [(dtype, shape) for dtype in STORED_TYPES for shape in SHAPES]
    check(place, *record(oracle, place, wanted, layers=layers))


@pytest.mark.parametrize("layers", [(), (0, 1, 5)])
@pytest.mark.parametrize("dtype", SHARDED)
def test_large_weights__come_back_bit_for_bit(oracle, place, dtype, layers):
    wanted = [(dtype, shape) for shape in SHARDED[dtype]]
    arrays, kept = record(oracle, place, wanted, layers=layers, steps=(4,))
    for array in arrays:
        codecs = weights.array_metadata(array, 1)["codecs"]
        assert [codec["name"] for codec in codecs] == ["sharding_indexed"]
    check(place, arrays, kept)


def test_large_weights__of_one_layer_are_read_alone(oracle, place):
    """A flipped bit in one layer leaves the others readable: they lie in chunks of their own."""
    (array,), kept = record(oracle, place, [("float32", (1024, 1024))], layers=(0, 1), steps=(0,))
    (file,) = (place / f"weights/{array.slug}/value").glob("c.*")
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    file.write_bytes(bytes(data))
    values = xr.open_zarr(place, group=f"weights/{array.slug}", chunks=None)["value"]
    np.testing.assert_array_equal(as_bytes(values[0, 1].values), as_bytes(kept[0][array.slug][1]))
    with pytest.raises(ValueError, match="checksum"):
        values[0, 0].load()


@pytest.mark.parametrize("layers", [(), (0, 1, 5)])
def test_compressed_weights__come_back_bit_for_bit(oracle, place, layers):
    wanted = [(dtype, shape) for dtype in STORED_TYPES for shape in SHAPES]
    wanted += [(dtype, shape) for dtype, shapes in SHARDED.items() for shape in shapes[:1]]
    check(place, *record(oracle, place, wanted, layers=layers, steps=(2,), compression="fast"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float8_e4m3fn"])
@pytest.mark.parametrize("shape", [(3, 50), (1049, 1031), (2100, 2100)])
def test_compressed_weights__are_smaller_where_they_are_weights(oracle, place, dtype, shape):
    """Weights that were drawn from a normal distribution have much the same exponents, unlike random bits."""
    drawn = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.02).to(getattr(torch, dtype))
    address = oracle.address("w", "w", -1, shape, dtype)
    (array,) = plan_arrays([address])
    sizes = {}
    for compression in (None, "fast"):
        path = place.with_name(f"{compression}.zarr")
        with oracle.writer(path, compression=compression) as writer:
            table = {"parameter": np.array(["w"]), "weights": np.array([array.slug])}
            bits = np.ascontiguousarray(drawn.view(torch.uint8).numpy()).view(STORED_TYPES[dtype].dtype)
            writer.append(Batch(0, (), Snapshot(0, {array.slug: bits}), Declaration(table, (array,))))
        (file,) = (path / f"weights/{array.slug}/value").glob("c.*")
        sizes[compression] = file.stat().st_size
        value = xr.open_zarr(path, group=f"weights/{array.slug}", chunks=None)["value"]
        np.testing.assert_array_equal(as_bytes(value.values[0]), as_bytes(bits))
    assert weights.encoded_bytes(array) == sizes[None]
    if len(bits.ravel()) > 1000:
        assert sizes["fast"] < 0.96 * sizes[None]


def test_compressed_weights__that_are_damaged_are_found(oracle, place):
    (array,), _ = record(oracle, place, [("float32", (20, 30))], steps=(0,), compression="fast")
    (file,) = (place / f"weights/{array.slug}/value").glob("c.*")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="checksum"):
        xr.open_zarr(place, group=f"weights/{array.slug}", chunks=None)["value"].load()


@pytest.mark.parametrize(("first", "then"), [(None, "fast"), ("fast", None)])
def test_compression__of_an_array_stays_as_it_began(oracle, place, first, then):
    with oracle.writer(place, compression=first) as writer:
        for step in range(2):
            writer.append(oracle.batch(step, declare=oracle.declaration() if step == 0 else None))
    with oracle.writer(place, resume=True, compression=then, attempt={"resumed_from_step": 2}) as writer:
        writer.append(oracle.batch(2))
        writer.append(oracle.batch(3, declare=oracle.declaration(4, known=3), count=4))
    assert oracle.steps_of(place)["/states"] == [0, 1, 2, 3]
    group = zarr.open_group(str(place), mode="r")["weights"]
    packed = {slug: any("blosc" in str(codec) for codec in group[slug]["value"].metadata.to_dict()["codecs"])
              for slug in (oracle.LAYERED, oracle.BITS, oracle.LATE)}  # fmt: skip
    assert packed == {oracle.LAYERED: first == "fast", oracle.BITS: first == "fast", oracle.LATE: then == "fast"}


def test_compression__is_one_that_is_known(oracle, place):
    with pytest.raises(wdyn.WdynError, match="compression='zip': needed is 'fast', or None"):
        oracle.writer(place, compression="zip")
    assert not place.exists()


PLAIN = """
import json, sys
import numpy as np
import xarray as xr
path, slugs = sys.argv[1], json.loads(sys.argv[2])
tree = xr.open_datatree(path, engine="zarr")
told = {}
for slug in slugs:
    alone = xr.open_zarr(path, group=f"weights/{slug}")["value"].values
    assert alone.tobytes() == tree[f"weights/{slug}/value"].values.tobytes()
    told[slug] = [str(alone.dtype), list(alone.shape), int(np.frombuffer(alone.tobytes(), np.uint8).sum())]
assert "wdyn" not in sys.modules
print(json.dumps(told))
"""


def test_weights__are_read_by_a_process_that_knows_no_wdyn(oracle, place):
    wanted = [("float32", (1049, 1031)), ("bfloat16", (2, 3)), ("complex64", (3,)), ("int8", ()), ("float16", (0, 2))]
    arrays, kept = record(oracle, place, wanted, steps=(0,))
    slugs = json.dumps([array.slug for array in arrays])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-I", "-c", PLAIN, str(place), slugs],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for array in arrays:
        bits = kept[0][array.slug]
        assert told[array.slug] == [str(bits.dtype), [1, *bits.shape], int(as_bytes(bits).sum(dtype=np.int64))]


def test_lost_chunk__shows_as_nan(oracle, place):
    floats = [name for name, stored in STORED_TYPES.items() if np.dtype(stored.dtype).kind in "fc" or stored.bits_of]
    arrays, _ = record(oracle, place, [(dtype, (2, 3)) for dtype in floats])
    for array in arrays:
        (place / f"weights/{array.slug}/value" / "c.0.0.0").unlink()
    run = wdyn.open_run(place)
    for array in arrays:
        values = run[f"weights/{array.slug}/value"]
        assert np.isnan(values[0].values).all(), array.dtype
        if not STORED_TYPES[array.dtype].bits_of:
            assert np.isnan(xr.open_zarr(place, group=f"weights/{array.slug}")["value"][0].values).all()


def test_state_dict__tells_of_damage(oracle, place):
    (array,), _ = record(oracle, place, [("bfloat16", (2, 3))])
    file = place / f"weights/{array.slug}/value" / "c.0.0.0"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    run = wdyn.open_run(place)
    with pytest.raises(wdyn.WdynError, match=rf"weights/{array.slug}.* cannot be read back.*checksum"):
        wdyn.state_dict(run, step=0)
    assert wdyn.state_dict(run, step=3)
