"""Are names, shapes and configs of saved models read, without their values?"""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wdyn import describe
from wdyn.checkpoints.headers import read_headers
from wdyn.errors import InvalidArgument
from wdyn.schema import parts_from_json

STATE = {f"h.{layer}.attn.query_key_value.weight": torch.zeros(24, 8, dtype=torch.bfloat16) for layer in range(2)}


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
    with pytest.raises(InvalidArgument, match="holds no tensors"):
        read_headers(tmp_path / "step.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InvalidArgument, match="holds a list"):
        read_headers(tmp_path / "list.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgument, match="holds 0 files"):
        read_headers(tmp_path / "empty")
