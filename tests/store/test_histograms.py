"""Do counts of bins come back, of any columns, from plain zarr and xarray?"""

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wdyn import bins
from wdyn.rows import Batch, Counts, Declaration, Row
from wdyn.store import files, histograms, metadata
from wdyn.store.disk import Disk
from wdyn.store.histograms import HistogramSeries

BINS = 7


@st.composite
def rows(draw):
    """Dense counts (column, bin) of columns that become more, -1 where nothing was recorded."""
    given, columns = [], draw(st.integers(1, 4))
    for _ in range(draw(st.integers(1, 5))):
        columns += draw(st.sampled_from([0, 0, 1, 5]))
        random = np.random.default_rng(draw(st.integers(0, 2**32)))
        dense = random.integers(0, 2**62, (columns, BINS)) * random.integers(0, 2, (columns, BINS))
        dense[random.random(columns) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = -1
        given.append(dense)
    return given


def sparse(dense):
    return Counts.of(dense, absent=np.flatnonzero((dense == -1).all(axis=1)))


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(rows(), st.sampled_from([8 * BINS, 8 * BINS * 3, 2**22]), st.booleans())
def test_histogram__is_what_was_counted(tmp_path_factory, given, chunk_bytes, restart):
    place = tmp_path_factory.mktemp("histogram")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histograms, "_CHUNK_BYTES", chunk_bytes)
        disk, columns = Disk(place), len(given[0])
        series = HistogramSeries(place / "count", disk=disk, column_dim="parameter", columns=columns, bins=BINS)
        for number, dense in enumerate(given):
            series.widen(len(dense))
            series.write(number, sparse(dense))
            if restart:
                series = HistogramSeries.restored(place / "count", series.metadata(number + 1), disk=disk)
        disk.publish(f"{place}/done", b"")
        node = series.metadata(len(given))
    files.replace(f"{place}/count/zarr.json", metadata.encode(node))
    expected = np.full((len(given), len(given[-1]), BINS), -1)
    for number, dense in enumerate(given):
        expected[number, : len(dense)] = dense
    found = zarr.open_array(str(place / "count"), mode="r")
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found[...], expected)


def counts(columns, *, at=0):
    dense = np.zeros((columns, bins.COUNT), dtype=np.int64)
    dense[:, bins.ZERO] = np.arange(columns) + at
    return Counts.of(dense, absent=np.array([], dtype=np.int64))


def declared(count):
    names = np.array([f"p.{number}" for number in range(count)])
    labels = np.array([f"p.{number}[{part}]" for number in range(count) for part in "qk"])
    parts = {"part": labels, "parameter": np.repeat(names, 2), "name": np.array(["q", "k"] * count)}
    return Declaration({"parameter": names}, parts=parts)


def test_chunks__are_one_row_and_about_four_megabytes_wide(oracle, place):
    with oracle.writer(place) as writer:
        writer.append(Batch(0, (Row("histograms/weights", 0, {"count": counts(600)}),), declaration=declared(600)))
    found = zarr.open_group(str(place), mode="r")["histograms/weights/count"]
    assert found.shape == (1, 600, bins.COUNT)
    assert found.chunks == (1, 257, bins.COUNT)
    assert sorted(file.name for file in (place / "histograms/weights/count").glob("c.*")) == [
        "c.0.0.0",
        "c.0.1.0",
        "c.0.2.0",
    ]
    np.testing.assert_array_equal(found[0, :, bins.ZERO], np.arange(600))


def both(step, count):
    return (
        Row("histograms/weights", step, {"count": counts(count, at=step)}, attributes={"of": "all"}),
        Row("parts/histograms/weights", step, {"count": counts(2 * count, at=step)}),
        Row("parts/statistics/weights", step, {"mean": np.arange(2.0 * count)}),
    )


@pytest.mark.parametrize("resume", [False, True])
def test_columns__that_come_later_have_nothing_before(oracle, place, resume):
    writer = oracle.writer(place)
    writer.append(Batch(0, both(0, 2), declaration=declared(2)))
    writer.commit()
    if resume:
        writer.close()
        writer = oracle.writer(place, resume=True, attempt={"resumed_from_step": 1})
    writer.append(Batch(1, declaration=declared(3)))
    writer.append(Batch(2, both(2, 3)))
    writer.commit()
    for closed in (False, True):
        if closed:
            writer.close()
        with xr.open_datatree(place, engine="zarr", chunks=None) as tree:
            for group, dim, known in (("histograms", "parameter", 2), ("parts/histograms", "part", 4)):
                found = tree[f"{group}/weights/count"].transpose("step", dim, "bin")
                assert np.isnan(found.values[0, known:]).all()
                assert not np.isnan(found.values[0, :known]).any()
                np.testing.assert_array_equal(found.values[1, :, bins.ZERO], np.arange(found.sizes[dim]) + 2.0)
            assert tree["parts/part"].values.tolist() == declared(3).parts["part"].tolist()
            assert tree["parts/parameter"].values.tolist() == declared(3).parts["parameter"].tolist()
            assert tree["histograms/weights"].attrs["wdyn"] == {"of": "all"}


@pytest.mark.parametrize("group", ["histograms/weights", "parts/histograms/weights", "parts/statistics/weights"])
def test_group__shows_its_labels_and_edges_when_opened_alone(oracle, place, group):
    with oracle.writer(place) as writer:
        writer.append(Batch(0, both(0, 2), declaration=declared(2)))
        writer.commit()
        open_now = xr.open_zarr(place, group=group, chunks=None).load()
    closed = xr.open_zarr(place / group, chunks=None, consolidated=False).load()
    xr.testing.assert_identical(open_now, closed)
    dim = "part" if group.startswith("parts/") else "parameter"
    assert (
        closed.indexes[dim].tolist()
        == declared(2).parts["part" if dim == "part" else "parameter"].tolist()[:: 1 if dim == "part" else 2]
    )
    if "histograms" in group:
        lower, upper = bins.edges()
        np.testing.assert_array_equal(closed["lower"], lower)
        np.testing.assert_array_equal(closed["upper"], upper)
        assert closed["count"].dims == ("step", dim, "bin")


@pytest.mark.parametrize("part", ["parts", "statistics", "histograms"])
def test_group_of_groups__opens_alone_once_the_run_is_closed(oracle, place, part):
    with oracle.writer(place) as writer:
        writer.append(oracle.batch(0, declare=oracle.declaration()))
    whole = xr.open_datatree(place, engine="zarr", chunks=None)
    alone = xr.open_datatree(place / part, engine="zarr", chunks=None)
    assert {f"/{part}{node.path}".rstrip("/") for node in alone.subtree} == {node.path for node in whole[part].subtree}


def test_damaged_counts__are_found(oracle, place):
    with oracle.writer(place) as writer:
        writer.append(Batch(0, both(0, 2), declaration=declared(2)))
    file = place / "histograms/weights/count/c.0.0.0"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="checksum"):
        xr.open_zarr(place, group="histograms/weights", chunks=None)["count"].load()


def test_counts_of_a_killed_writer__are_not_seen(oracle, place):
    """A column that comes later writes nothing before it; what lies there belongs to no committed row."""
    with oracle.writer(place) as writer:
        writer.append(Batch(0, both(0, 2), declaration=declared(2)))
    killed = oracle.writer(place, resume=True, attempt={"resumed_from_step": 1})
    killed.append(Batch(1, both(1, 9), declaration=declared(9)))
    ghosts = [place / "histograms/weights/count/c.1.4.0", place / "parts/histograms/weights/count/c.1.4.0"]
    assert all(ghost.exists() for ghost in ghosts)
    killed.abandon()
    with oracle.writer(place, resume=True, attempt={"resumed_from_step": 1}) as writer:
        assert not any(ghost.exists() for ghost in ghosts)
        writer.append(Batch(1, both(1, 2)))
        writer.append(Batch(2, both(2, 9), declaration=declared(9)))
    found = xr.open_zarr(place, group="histograms/weights", chunks=None)["count"]
    assert np.isnan(found.sel(step=[0, 1]).values[:, 2:]).all()
    np.testing.assert_array_equal(found.sel(step=2).values[:, bins.ZERO], np.arange(9.0) + 2)


def test_row_in_which_nothing_was_counted__is_no_file(oracle, place):
    none = Counts.of(np.full((2, bins.COUNT), -1), absent=np.arange(2))
    with oracle.writer(place) as writer:
        row = Row("histograms/updates", 0, {"count": none})
        writer.append(Batch(0, (row,), declaration=declared(2)))
        writer.append(Batch(1, (Row("histograms/updates", 1, {"count": counts(2)}),)))
    assert [path.name for path in (place / "histograms/updates/count").glob("c.*")] == ["c.1.0.0"]
    found = xr.open_zarr(place, group="histograms/updates", chunks=None)["count"]
    assert np.isnan(found.values[0]).all()
    np.testing.assert_array_equal(found.values[1, :, bins.ZERO], [0.0, 1.0])
