"""What must a run hold at each step? All that is written here is a known function of the step.

Imported by tests through a fixture, and by the processes that tests kill.
"""

from pathlib import Path

import numpy as np
import xarray as xr

from wdyn import bins, schema
from wdyn.arrays import plan_arrays
from wdyn.capture.table import parameter_table
from wdyn.rows import Batch, Counts, Declaration, Row, Snapshot
from wdyn.schema import Address, Kind, Role
from wdyn.store.writer import Writer

EACH_ROW = tuple(
    f"/{group}"
    for group in (
        "statistics/weights",
        "histograms/weights",
        "parts/statistics/weights",
        "parts/histograms/weights",
        "relations",
        "states",
        "scalars",
    )
)

ROWS = len(EACH_ROW)
"""Rows of a batch."""

LATE_FROM = 3
"""The step from which the model has a fourth parameter, in runs that get one."""


def address(name, path, layer, shape, dtype="float32"):
    dims = ("fan_out", "fan_in")[: len(shape)]
    return Address(name, path, Role.LINEAR, Kind.WEIGHT, "root", layer, shape, dims, dtype)


ADDRESSES = (
    address("h.0.w", "h.w", 0, (3, 4)),
    address("h.1.w", "h.w", 1, (3, 4)),
    address("b", "b", -1, (5,), "bfloat16"),
    address("late", "late", -1, (2,), "float64"),
)
ARRAYS = plan_arrays(ADDRESSES)
LAYERED, BITS, LATE = (array.slug for array in ARRAYS)


def table(count=3):
    """Columns of a table of the first `count` parameters."""
    held = {name: array.slug for array in ARRAYS for name in array.names}
    known = ADDRESSES[:count]
    columns = {str(name): column.values for name, column in parameter_table(known).variables.items()}
    return {**columns, schema.WEIGHTS: np.array([held[one.name] for one in known])}


def declaration(count=3, *, known=1):
    """A table of `count` parameters with their parts, and the arrays that the first `known` of them did not have."""
    return Declaration(table(count), tuple(ARRAYS[known - 1 : count - 1]), parts=parts(count))


def parts(count=3):
    """Columns over the halves of the first `count` parameters."""
    halved = [(one.name, half) for one in ADDRESSES[:count] for half in ("q", "k")]
    return {
        "part": np.array([f"{name}[{half}]" for name, half in halved]),
        "parameter": np.array([name for name, _ in halved]),
        "expert": np.arange(len(halved), dtype=np.int64),
    }


def weights(step):
    """Stored values of each array at a step."""
    return {
        LAYERED: (np.arange(24, dtype=np.float32).reshape(2, 3, 4) + 1) * np.float32(step + 0.5),
        BITS: (np.arange(5) * 257 + step).astype(np.uint16) & np.uint16(0x3FFF),
        LATE: np.array([step, -step], dtype=np.float64),
    }


def statistics(step, count=3):
    return {"mean": np.arange(count) + step / 8.0, "zeros": np.arange(count, dtype=np.int64) + step}


def histogram(step, columns):
    """Counts (column, bin), -1 in every third column, from the one at `step`."""
    dense = np.zeros((columns, bins.COUNT), dtype=np.int64)
    for column in range(columns):
        dense[column, [bins.NEGATIVE_OVERFLOW, bins.ZERO, bins.NAN]] = step, column, 2**40 + step
        dense[column, (7 * step + column) % bins.COUNT] += 5
    dense[step % 3 :: 3] = -1
    return dense


def counts(step, columns):
    return Counts.of(histogram(step, columns), absent=np.arange(columns)[step % 3 :: 3])


def scalars(step):
    return {"lr": np.array([step / 4.0]), "loss": np.array(100.0 - step)}


def batch(step, *, declare=None, snapshot=True, count=3):
    rows = (
        Row("statistics/weights", step, statistics(step, count)),
        Row("histograms/weights", step, {"count": counts(step, count)}, attributes={"exact": True}),
        Row("relations", step, {"update_ratio": np.arange(count) + step / 8.0}),
        Row("parts/statistics/weights", step, statistics(step, 2 * count)),
        Row("parts/histograms/weights", step, {"count": counts(step, 2 * count)}),
        Row("states", step, {"shares_with": np.arange(count, dtype=np.int64)}),
        Row("scalars", step, scalars(step)),
    )
    kept = Snapshot(step, dict(list(weights(step).items())[: count - 1])) if snapshot else None
    return Batch(step, rows, kept, declare)


def writer(path, **options):
    given = {"about": {"model": "Oracle", "optimizers": []}, "attempt": {"resumed_from_step": -1}}
    return Writer(Path(path), **(given | options))


def steps_of(path):
    """Open a run with xarray alone, check every value of every row, and give the steps of each group."""
    with xr.open_datatree(path, engine="zarr", chunks=None) as tree:
        for node in tree.subtree:
            node.load()
        return {node.path: check(node.to_dataset(), node.path) for node in tree.leaves if "step" in node}


def check(dataset, path):
    steps = dataset["step"].values.tolist()
    for row, step in enumerate(steps):
        at = dataset.isel(step=row)
        if path == "/statistics/weights":
            check_statistics(at, known(at, "parameter", step))
        elif path == "/parts/statistics/weights":
            check_statistics(at, known(at, "part", step))
        elif path == "/histograms/weights":
            check_histogram(at, step, known(at, "parameter", step))
        elif path == "/parts/histograms/weights":
            check_histogram(at, step, known(at, "part", step))
        elif path == "/relations":
            ratio = np.arange(at.sizes["parameter"]) + step / 8.0
            expected = np.where(known(at, "parameter", step), ratio, np.nan)
            np.testing.assert_array_equal(at["update_ratio"].values, expected)
        elif path == "/scalars":
            np.testing.assert_array_equal(at["lr"].values, scalars(step)["lr"])
            assert at["loss"].item() == scalars(step)["loss"]
        elif path.startswith("/weights/"):
            np.testing.assert_array_equal(at["value"].values, weights(step)[path.rpartition("/")[2]])
    return steps


def known(row, dim, step):
    """Which columns were there at a step."""
    late = np.array([str(name).startswith("late") for name in row[dim].values])
    return ~late | (step >= LATE_FROM)


def check_statistics(row, there):
    expected = statistics(row["step"].item(), len(there))
    np.testing.assert_array_equal(row["mean"].values, np.where(there, expected["mean"], np.nan))
    np.testing.assert_array_equal(row["zeros"].values, np.where(there, expected["zeros"], np.nan))


def check_histogram(row, step, there):
    expected = histogram(step, len(there)).astype(float)
    expected[(expected == -1) | ~there[:, None]] = np.nan
    np.testing.assert_array_equal(row["count"].values, expected)
    lower, upper = bins.edges()
    np.testing.assert_array_equal(row["lower"].values, lower)
    np.testing.assert_array_equal(row["upper"].values, upper)


def write_for_ever(path):
    """Append rows from a background thread as fast as they go, telling each step that is acknowledged."""
    from wdyn.store.background import BackgroundWriter
    from wdyn.store.root import is_run

    resume = is_run(Path(path))
    attempt = {"resumed_from_step": max(steps_of(path)["/states"]) if resume else -1}
    background = BackgroundWriter(writer(path, resume=resume, attempt=attempt), limit_bytes=1 << 20)
    step = max(0, attempt["resumed_from_step"])  # its row is written anew: the attempt hides the old one
    background.submit(batch(step, declare=None if resume else declaration()), wait=True)
    told = -1
    while background.failure is None:
        step += 1
        background.submit(batch(step), wait=True)
        if step % 7 == 0:
            background.flush()
        if (committed := background.committed) != told:
            told = committed
            print(told, flush=True)
    raise background.failure


if __name__ == "__main__":
    import sys

    from wdyn.store import files

    files.make_durable = lambda root, written: None  # a kill takes nothing from the system's own memory
    write_for_ever(sys.argv[1])
