"""Is a folder of torch.distributed.checkpoint read without processes, one tensor at a time, and without its code?"""

import pickle
import warnings

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict

from wdyn.checkpoints.opening import open_saved
from wdyn.errors import InvalidArgument


@pytest.fixture
def folder(small, tmp_path):
    """What one process wrote: a model, its optimizer, and a number."""
    model, optimizer = small
    weights, state = get_state_dict(model, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": weights, "optim": state, "step": 3}, checkpoint_id=tmp_path / "step_3", no_dist=True)
    return tmp_path / "step_3"


def test_open_saved__of_a_distributed_folder_has_weights_moments_and_settings(folder, small, same):
    model, optimizer = small
    saved = open_saved(folder)
    state = model.state_dict()
    assert set(saved.names) == set(state)
    assert all(tensor.is_meta for tensor in saved.tensors.values())
    assert all(same(saved.read(name), value) for name, value in state.items())
    assert (saved.step, saved.step_source) == (3, "the optimizer's state")
    for name, parameter in model.named_parameters():
        assert same(saved.training.read("exp_avg", name), optimizer.state[parameter]["exp_avg"])
    assert saved.training.settings[0]["lr"] == 1e-2
    assert set(saved.training.group_of.values()) == {0}


def test_open_saved__puts_together_what_several_processes_wrote(tmp_path, same):
    # Each process writes pieces of a tensor; two pieces in two files are what two processes leave behind.
    from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex

    whole = torch.randn(6, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"w": whole[:4]}, checkpoint_id=tmp_path / "a", no_dist=True)
        dcp.save({"w": whole[4:]}, checkpoint_id=tmp_path / "b", no_dist=True)
    one, two = (dcp.FileSystemReader(tmp_path / name).read_metadata() for name in "ab")
    held = one.state_dict_metadata["w"]
    held.size = whole.size()
    held.chunks = [ChunkStorageMetadata(torch.Size([at, 0]), torch.Size([rows, 3])) for at, rows in ((0, 4), (4, 2))]
    ((_, first),) = one.storage_data.items()
    ((_, second),) = two.storage_data.items()
    second.relative_path = "__1_0.distcp"
    one.storage_data = {MetadataIndex("w", [0, 0]): first, MetadataIndex("w", [4, 0]): second}
    (tmp_path / "b" / "__0_0.distcp").rename(tmp_path / "a" / "__1_0.distcp")
    (tmp_path / "a" / ".metadata").write_bytes(pickle.dumps(one))
    assert same(open_saved(tmp_path / "a").read("w"), whole)


class Trap:
    """Whoever unpickles it runs its code."""

    def __reduce__(self):
        return exec, ("raise SystemExit('code of a checkpoint was run')",)


def test_open_saved__takes_no_code_from_the_metadata(folder):
    (folder / ".metadata").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InvalidArgument, match=r"is no metadata .*: it refers to builtins\.exec"):
        open_saved(folder)
    (folder / ".metadata").write_bytes(pickle.dumps(torch.Size([3])))
    with pytest.raises(InvalidArgument, match=r"is no metadata .*: it holds none"):
        open_saved(folder)


def test_open_saved__leaves_out_objects_that_would_run_code(small, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": small[0].state_dict(), "trap": Trap()}, checkpoint_id=tmp_path / "x", no_dist=True)
    assert set(open_saved(tmp_path / "x").names) == set(small[0].state_dict())


@pytest.mark.parametrize("name", ["../step_3/__0_0.distcp", "/etc/hostname"])
def test_open_saved__reads_no_file_outside_of_the_folder(folder, name):
    known = dcp.FileSystemReader(folder).read_metadata()
    for info in known.storage_data.values():
        info.relative_path = name
    (folder / ".metadata").write_bytes(pickle.dumps(known))
    with pytest.raises(InvalidArgument, match="which does not lie in the folder"):
        open_saved(folder)


def test_open_saved__says_which_file_is_missing_or_cut_short(folder):
    file = folder / "__0_0.distcp"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidArgument, match=r"__0_0\.distcp has .* bytes, and needs .*: it was cut short"):
        open_saved(folder)
    file.rename(folder / "__1_0.distcp")
    with pytest.raises(InvalidArgument, match=r"lacks __0_0\.distcp"):
        open_saved(folder)


def test_open_saved__refuses_a_shape_that_its_file_cannot_hold(folder):
    known = dcp.FileSystemReader(folder).read_metadata()
    known.state_dict_metadata["model.first.weight"].size = torch.Size([10**6, 10**6])
    (folder / ".metadata").write_bytes(pickle.dumps(known))
    with pytest.raises(InvalidArgument, match=r"claims .* bytes of model\.first\.weight, and holds"):
        open_saved(folder)
