"""Is it told what is wrong with a path that holds no run that can be read?"""

import json
import os

import pytest
import zarr

import wdyn
from wdyn.errors import DamagedRun, NewerFormat, NotARun
from wdyn.store.root import is_run, read_root


@pytest.fixture
def run(oracle, place):
    with oracle.writer(place) as writer:
        writer.append(oracle.batch(0, declare=oracle.declaration()))
    return place


def change(run, edit):
    """Edit the root metadata of a run."""
    document = json.loads((run / "zarr.json").read_text())
    edit(document)
    (run / "zarr.json").write_text(json.dumps(document))


def refused(path, error, match):
    """Every reader must refuse the path in the same words."""
    with pytest.raises(error, match=match):
        read_root(path)
    with pytest.raises(error, match=match):
        wdyn.open_run(path)
    assert is_run(path) == (error is not NotARun)


def test_root__of_a_run_is_read(run):
    root = read_root(run)
    assert root.attributes["rows"]["states"] == 1
    assert set(root.members("states")) == {"step", "attempt", "parameter", "shares_with"}
    assert is_run(run)


def test_root__is_not_there(tmp_path):
    refused(tmp_path / "gone", NotARun, r"No run at .*gone: it does not exist\. A run is the folder that watch")


def test_root__is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", NotARun, "it is a file, and a run is a folder")


def test_root__is_an_empty_folder(tmp_path):
    refused(tmp_path, NotARun, r"exists, but holds no zarr\.json")


def test_root__is_zarr_that_wdyn_did_not_write(tmp_path):
    zarr.create_group(tmp_path / "group.zarr")
    refused(tmp_path / "group.zarr", NotARun, "no run that wdyn wrote: its attributes hold no 'wdyn.format'")
    zarr.create_array(tmp_path / "array.zarr", shape=(2,), dtype="f4")
    refused(tmp_path / "array.zarr", NotARun, "no run that wdyn wrote")


@pytest.mark.parametrize("text", ["[]", "null", "3", '{"attributes": []}', '{"attributes": {"wdyn": {"format": "1"}}}'])
def test_root__is_other_json(tmp_path, text):
    (tmp_path / "zarr.json").write_text(text)
    refused(tmp_path, NotARun, "no run that wdyn wrote")


def test_root__is_of_a_newer_format(run):
    change(run, lambda root: root["attributes"]["wdyn"].update(format=2))
    refused(run, NewerFormat, r"has format 2, this wdyn reads up to 1; upgrade with: pip install --upgrade wdyn")


@pytest.mark.parametrize("text", ["", "{", '{"zarr_format": 3, "attributes":', "\x00\xff"])
def test_root__is_broken(run, text):
    (run / "zarr.json").write_text(text, encoding="latin-1")
    refused(run, DamagedRun, r"zarr\.json is damaged")


@pytest.mark.parametrize("gone", ["attempts", "consolidated"])
def test_root__lacks_what_every_run_has(run, gone):
    change(
        run,
        lambda root: (
            root["attributes"]["wdyn"].pop(gone) if gone == "attempts" else root.update(consolidated_metadata=None)
        ),
    )
    refused(run, DamagedRun, r"zarr\.json is damaged: .* is not there")


def test_root__has_attempts_out_of_order(run):
    change(run, lambda root: root["attributes"]["wdyn"]["attempts"].append({"number": 7}))
    refused(run, DamagedRun, r"its attempts are numbered \[0, 7\]")


def test_root__may_not_be_read(run):
    (run / "zarr.json").unlink()
    (run / "zarr.json").mkdir()
    refused(run, DamagedRun, r"zarr\.json cannot be read: .*Is a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_root__is_forbidden(run):
    (run / "zarr.json").chmod(0)
    refused(run, DamagedRun, "cannot be read: .*Permission denied")
