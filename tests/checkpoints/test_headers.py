"""Are names, shapes and configs of saved models read, without their values?"""

import json
import zipfile
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint
from safetensors.torch import save_file
from torch import nn

from wdyn import describe
from wdyn.checkpoints.opening import tensors_at
from wdyn.errors import InvalidArgument
from wdyn.schema import parts_from_json

STATE = {f"h.{layer}.attn.query_key_value.weight": torch.zeros(24, 8, dtype=torch.bfloat16) for layer in range(2)}


def read_headers(path):
    found = tensors_at(Path(path))
    return found.source.headers, found.config or None


def shapes(state):
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}


def test_read_headers__of_a_safetensors_file_have_no_values(tmp_path):
    save_file(STATE, tmp_path / "any.safetensors")
    state, config = read_headers(tmp_path / "any.safetensors")
    assert shapes(state) == shapes(STATE)
    assert all(tensor.is_meta for tensor in state.values())
    assert config is None


def test_read_headers__of_a_folder_bring_the_config_that_tells_the_heads(tmp_path):
    save_file(STATE, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 2}))
    parts = {parts_from_json(text) for text in describe(tmp_path)["parts"].values}
    assert [(p.sizes, p.repeats, p.source) for p in parts] == [((4, 4, 4), 2, "config")]
    assert set(describe(tmp_path, config={"num_attention_heads": 3})["parts"].values) == {""}


def test_read_headers__join_the_shards_of_an_index(tmp_path):
    files = {}
    for number, (name, tensor) in enumerate(STATE.items()):
        save_file({name: tensor}, tmp_path / f"part{number}.safetensors")
        files[name] = f"part{number}.safetensors"
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    assert shapes(read_headers(tmp_path)[0]) == shapes(STATE)
    (tmp_path / "part1.safetensors").unlink()
    with pytest.raises(InvalidArgument, match=r"lists 2 files, of which 1 are missing: part1\.safetensors"):
        read_headers(tmp_path)


@pytest.mark.parametrize("key", [None, "model", "state_dict"])
def test_read_headers__find_the_model_in_a_torch_file_and_its_ties(tmp_path, key):
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    saved = net.state_dict() if key is None else {key: net.state_dict(), "step": 3, "model_args": {"n_head": 2}}
    torch.save(saved, tmp_path / "model.pt")
    tied_to = describe(tmp_path / "model.pt")["tied_to"].to_series().to_dict()
    assert tied_to == {"0.weight": "", "0.bias": "", "1.weight": "0.weight", "1.bias": ""}
    assert read_headers(tmp_path / "model.pt")[1] == (None if key is None else {"n_head": 2})


def test_read_headers__of_the_old_torch_format(tmp_path):
    torch.save(STATE, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert shapes(read_headers(tmp_path / "old.pt")[0]) == shapes(STATE)


class Trap:
    """Whoever unpickles it runs its code."""

    def __reduce__(self):
        return exec, ("raise SystemExit('code of a checkpoint was run')",)


def test_read_headers__never_run_code(tmp_path):
    torch.save({"weight": torch.zeros(1), "trap": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(InvalidArgument, match="code inside a checkpoint is never run"):
        read_headers(tmp_path / "trap.pt")


@pytest.mark.parametrize("old", [False, True], ids=["archive", "old"])
def test_read_headers__tell_a_torch_file_that_is_cut_short_from_none(tmp_path, old):
    path = tmp_path / "m.pt"
    torch.save(STATE, path, _use_new_zipfile_serialization=not old)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InvalidArgument, match=r"m\.pt cannot be read as tensors: it is cut short or damaged"):
        read_headers(path)
    path.write_bytes(b"")
    with pytest.raises(InvalidArgument, match="it is empty"):
        read_headers(path)
    path.write_text("loss: 3.0, 2.0, 1.0\n")
    with pytest.raises(InvalidArgument, match=r"it begins with b'loss: 3\.0, 2\.0, ', as no file of torch.save does"):
        read_headers(path)


def test_read_headers__list_the_models_of_a_folder_that_holds_several(tmp_path, quiet):
    for step in (10, 2):
        (tmp_path / f"checkpoint-{step}").mkdir()
        save_file(STATE, tmp_path / f"checkpoint-{step}" / "model.safetensors")
    with pytest.raises(InvalidArgument, match=r"holds 2 saved models: checkpoint-2, checkpoint-10\. Give the path"):
        read_headers(tmp_path)
    with quiet():
        torch.distributed.checkpoint.save({"model": STATE}, checkpoint_id=tmp_path / "distributed", no_dist=True)
    with pytest.raises(InvalidArgument, match=r"holds 3 saved models: checkpoint-2, checkpoint-10, distributed\."):
        read_headers(tmp_path)
    for step in (10, 2):
        torch.save(STATE, tmp_path / f"step_{step}.pt")
    with pytest.raises(InvalidArgument, match=r"holds 2 saved models: step_2\.pt, step_10\.pt\. Give the path"):
        read_headers(tmp_path)


@pytest.mark.parametrize(
    ("content", "match"),
    [(None, "Nothing is at"), (b"", "cannot be read|is no safetensors"), (b"\x08" + b"\x00" * 20, "is no safetensors")],
)
def test_read_headers__say_what_is_wrong_with_a_file(tmp_path, content, match):
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidArgument, match=match):
        read_headers(path)


def test_read_headers__refuse_what_holds_no_tensors(tmp_path):
    torch.save({"step": 3}, tmp_path / "step.pt")
    with pytest.raises(InvalidArgument, match=r"No weights are in .* it holds a mapping of step"):
        read_headers(tmp_path / "step.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InvalidArgument, match="it holds a list of 2 numbers"):
        read_headers(tmp_path / "list.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgument, match=r"empty holds no saved model: needed is a file \.safetensors"):
        read_headers(tmp_path / "empty")


@pytest.mark.parametrize("old", [False, True], ids=["archive", "old"])
def test_read_headers__refuse_a_shape_that_strides_claim(tmp_path, old):
    claims = {"w": torch.zeros(1).expand(2**17, 2**17)}
    torch.save(claims, tmp_path / "m.pt", _use_new_zipfile_serialization=not old)
    assert (tmp_path / "m.pt").stat().st_size < 2000
    with pytest.raises(InvalidArgument, match=r"'w' in .*m\.pt claims 68,719,476,736 bytes .* and 4 are kept of it"):
        read_headers(tmp_path / "m.pt")


def test_read_headers__refuse_a_storage_that_was_never_saved(tmp_path):
    torch.save({"w": torch.empty(2**17, 2**17, device="meta")}, tmp_path / "m.pt")
    with pytest.raises(InvalidArgument, match="and its tensors claim 68,719,476,736"):
        read_headers(tmp_path / "m.pt")


def test_read_headers__refuse_an_archive_that_unpacks_to_more_than_it_is(tmp_path):
    torch.save({"w": torch.zeros(2**20)}, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole, zipfile.ZipFile(tmp_path / "m.pt", "w", 8) as bomb:
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name))
    assert read_headers(tmp_path / "whole.pt")[0]["w"].shape == (2**20,)
    with pytest.raises(InvalidArgument, match=r"is compressed, and would unpack to 4,19\d,\d+"):
        read_headers(tmp_path / "m.pt")


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "a/b.safetensors"])
def test_read_headers__follow_no_index_out_of_its_folder(tmp_path, name):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(InvalidArgument, match="which is no file beside it"):
        read_headers(index)


@pytest.mark.parametrize("text", ["[" * 10**5, "{", "[1]", '{"weight_map": 3}', '{"weight_map": {}}'])
def test_read_headers__survive_an_index_that_is_none(tmp_path, text):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(InvalidArgument, match=r"index\.json (cannot be read as JSON|holds a list|lists no files)"):
        read_headers(tmp_path)
