"""Are the bytes that a run or a saved model takes counted right?"""

import pytest
import torch
from torch import nn

import wdyn
from wdyn.reports.anatomy import anatomy
from wdyn.reports.storage import Held, Storage, of_model, of_run, tables


class Both(nn.Module):
    """Weights of two dtypes, of which one is smooth and packs well; a tie."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Linear(256, 256)
        self.brief = nn.Parameter(torch.zeros(300, 300, dtype=torch.bfloat16))
        self.again = self.wide


def record(place, **options):
    with wdyn.watch(Both(), to=place, every=1, snapshots=1, **options) as w:
        for _ in range(3):
            w.step()
    return wdyn.open_run(place)


def walked(place):
    return sum(file.stat().st_size for file in place.rglob("*") if file.is_file())


def test_of_run__counts_each_byte_once(tmp_path):
    found = of_run(record(tmp_path / "r"))
    assert found.disk_bytes == sum(found.groups.values()) == walked(tmp_path / "r")
    assert {"weights", "statistics", "histograms", "tables", "metadata", "states"} <= set(found.groups)
    documents = sum(file.stat().st_size for file in (tmp_path / "r").rglob("zarr.json"))
    assert found.groups["metadata"] == documents
    weights = tmp_path / "r" / "weights"
    assert found.groups["weights"] == walked(weights) - sum(f.stat().st_size for f in weights.rglob("zarr.json"))


def test_of_run__tells_what_each_dtype_takes(tmp_path):
    found = of_run(record(tmp_path / "r"))
    wide, brief = found.dtypes
    assert found.snapshots == 4
    assert (wide.dtype, wide.values, wide.nbytes) == ("float32", 4 * (256 * 256 + 256), 16 * (256 * 256 + 256))
    assert (brief.dtype, brief.values, brief.nbytes) == ("bfloat16", 4 * 90_000, 8 * 90_000)
    assert wide.ratio == pytest.approx(1, rel=0.01)
    packed = {one.dtype: one for one in of_run(record(tmp_path / "p", compression="fast")).dtypes}
    assert packed["float32"].ratio > 1.05
    assert packed["bfloat16"].ratio > 10


def test_of_run__counts_superseded_rows_until_they_are_pruned(tmp_path):
    place = tmp_path / "r"
    record(place)
    with wdyn.watch(Both(), to=place, every=1, snapshots=1, resume=1) as w:
        w.step()
    before = of_run(wdyn.open_run(place))
    assert [one.ratio for one in before.dtypes] == pytest.approx([1, 1], rel=0.01)
    assert before.snapshots == 3
    wdyn.prune(place)
    after = of_run(wdyn.open_run(place))
    assert after.dtypes[0].nbytes < before.dtypes[0].nbytes
    assert [one.ratio for one in after.dtypes] == pytest.approx([1, 1], rel=0.01)


def test_of_model__counts_tied_values_once(tmp_path):
    model = Both()
    place = tmp_path / "state.pt"
    torch.save(model.state_dict(), place)
    found = of_model(anatomy(wdyn.describe(place)), files=[place])
    assert found.disk_bytes == place.stat().st_size
    assert {one.dtype: (one.values, one.nbytes) for one in found.dtypes} == {
        "float32": (256 * 257, 4 * 256 * 257),
        "bfloat16": (90_000, 180_000),
    }


def test_tables__say_it_in_words():
    (model,) = tables(Storage(4100, (Held("float32", 1000, 4000),)))
    assert model.rows == (("float32", "1,000", "4 kB", "4"), ("on disk", "1,000", "4.1 kB", "4.1"))
    held = (Held("bfloat16", 3000, 6000, 4000),)
    groups, packed = tables(Storage(8000, held, {"weights": 6000, "metadata": 2000}, snapshots=4))
    assert groups.rows == (("weights", "6 kB", "75.0%"), ("metadata", "2 kB", "25.0%"))
    assert packed.rows == (("bfloat16", "6 kB", "4 kB", "1.50", "1 kB"),)


def test_tables__of_a_run_without_snapshots(tmp_path):
    with wdyn.watch(nn.Linear(2, 2), to=tmp_path / "r", snapshots=None) as w:
        w.step()
    groups, packed = tables(of_run(wdyn.open_run(tmp_path / "r")))
    assert "weights" not in {row[0] for row in groups.rows}
    assert packed.rows == ()
