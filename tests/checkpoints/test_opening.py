"""Is every kind of saved model opened without its values, and read back bit for bit, one tensor at a time?"""

import json

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from wdyn.checkpoints.opening import open_saved
from wdyn.errors import InvalidArgument


def check(saved, state, same):
    """Compare all that is saved with a state dict."""
    assert set(saved.names) == set(state)
    for name, value in state.items():
        assert saved.shape(name) == value.shape
        assert saved.dtype(name) == value.dtype
        assert same(saved.read(name), value)


def test_open_saved__of_a_transformers_folder_gives_back_the_tie_that_the_file_leaves_out(gpt2, hf_folder, same):
    saved = open_saved(hf_folder)
    assert "lm_head.weight" not in saved.stored
    assert saved.tied == {"lm_head.weight": "transformer.wte.weight"}
    assert saved.leaders["lm_head.weight"] == "transformer.wte.weight"
    check(saved, gpt2.state_dict(), same)
    assert saved.config["model_type"] == "gpt2"
    assert saved.nbytes == sum(parameter.nbytes for parameter in gpt2.parameters())
    assert list(saved.stored) == [name for name, _ in gpt2.named_parameters()]


def test_open_saved__joins_the_shards_of_an_index(gpt2, hf_folder, tmp_path, same):
    gpt2.save_pretrained(tmp_path / "sharded", max_shard_size="4KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    check(open_saved(tmp_path / "sharded"), gpt2.state_dict(), same)


def test_open_saved__joins_the_shards_of_torch_files(gpt2, tmp_path, same):
    # As transformers wrote them before safetensors.
    state = gpt2.state_dict()
    names = list(state)
    files = {name: f"pytorch_model-0000{1 + (at > 5)}-of-00002.bin" for at, name in enumerate(names)}
    for file in set(files.values()):
        torch.save({name: state[name] for name in names if files[name] == file}, tmp_path / file)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))
    check(open_saved(tmp_path), state, same)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("key", [None, "model", "state_dict", "model_state_dict"])
def test_open_saved__of_a_torch_file_has_ties_by_storage_and_buffers(small, save, same, zipped, key):
    model, optimizer = small
    state = model.state_dict()
    content = state if key is None else {key: state, "optimizer": optimizer.state_dict(), "epoch": 3}
    saved = open_saved(save(content, _use_new_zipfile_serialization=zipped))
    check(saved, state, same)
    assert saved.leaders["head.weight"] == "first.weight"
    assert saved.dtype("norm.num_batches_tracked") == torch.int64


def test_open_saved__gives_every_dtype_and_form_bit_for_bit(save, tmp_path, same):
    state = {
        "bf16": torch.tensor([1.0, float("nan"), -0.0]).bfloat16(),
        "fp8": torch.randn(3, 4).to(torch.float8_e4m3fn),
        "fp16": torch.randn(2).half(),
        "double": torch.randn(2, 2, dtype=torch.float64),
        "complex": torch.randn(2, dtype=torch.complex64),
        "mask": torch.tensor([True, False]),
        "counter": torch.tensor(7),
        "empty": torch.empty(0, 3),
        "view": torch.randn(3, 5).T,
    }
    check(open_saved(save(state)), state, same)
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "all.safetensors")
    check(open_saved(tmp_path / "all.safetensors"), state, same)


def test_open_saved__strips_what_wrappers_add_to_names(small, save, same):
    model, _ = small
    wrapped = {f"module._orig_mod.{name}": value for name, value in model.state_dict().items()}
    saved = open_saved(save(wrapped))
    check(saved, model.state_dict(), same)
    assert saved.stored["first.weight"] == "module._orig_mod.first.weight"


def test_open_saved__reads_the_ties_that_save_model_notes(small, tmp_path, same):
    model, _ = small
    save_model(model, str(tmp_path / "one.safetensors"))
    saved = open_saved(tmp_path / "one.safetensors")
    assert len(saved.tied) == 1
    assert saved.leaders["head.weight"] == saved.leaders["first.weight"]
    check(saved, model.state_dict(), same)


def test_open_saved__asks_which_of_several_models_and_lists_them(small, save, same):
    model, _ = small
    other = {name: value + 1 for name, value in model.state_dict().items()}
    path = save({"nets": {"g": model.state_dict(), "d": other}, "optim": {"g": torch.zeros(3)}})
    with pytest.raises(InvalidArgument, match=r"holds 2 models: 'nets\.g' \(10 tensors\), 'nets\.d' .*--key"):
        open_saved(path)
    check(open_saved(path, key="nets.d"), other, same)
    with pytest.raises(InvalidArgument, match=r"no model under 'g'. It holds 'nets\.g'"):
        open_saved(path, key="g")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2, 3, 4, 5, 6], "a list of 6 numbers"),
        ({"epoch": 3, "lr": 0.1}, "a mapping of epoch, lr"),
        (torch.zeros(2, 3), r"a tensor of shape \(2, 3\), float32"),
        (3.5, "a float"),
        ({}, "an empty mapping"),
        ([torch.zeros(1), "x"], "a list of 2 things"),
    ],
)
def test_open_saved__of_a_file_without_weights_says_what_it_holds(save, content, words):
    path = save(content, "odd.pt")
    with pytest.raises(InvalidArgument, match=f"No weights are in .*odd.pt: it holds {words}"):
        open_saved(path)


def test_open_saved__of_an_optimizer_alone_finds_no_weights(small, save):
    with pytest.raises(InvalidArgument, match=r"No weights are in .* it holds a mapping of state, param_groups"):
        open_saved(save(small[1].state_dict()))


def test_open_saved__leaves_out_and_tells_what_is_no_weight(small, save):
    state = {**small[0].state_dict(), "vocabulary": ["a", "b"], "rate": 0.5}
    saved = open_saved(save({"model": state}))
    assert set(saved.names) == set(small[0].state_dict())
    (note,) = saved.notes
    assert "vocabulary (a list of 2 strs), rate (a float)" in note


def test_open_saved__says_that_nothing_is_there(tmp_path):
    with pytest.raises(InvalidArgument, match=r"Nothing is at .*none\.pt"):
        open_saved(tmp_path / "none.pt")
    with pytest.raises(InvalidArgument, match="revision='main' is of a model on the hub"):
        open_saved(tmp_path, revision="main")


def test_open_saved__of_a_file_cut_short_names_it(hf_folder, tmp_path):
    whole = (hf_folder / "model.safetensors").read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[:-100])
    with pytest.raises(InvalidArgument, match=r"cut\.safetensors"):
        open_saved(cut)
    cut.write_bytes(whole)
    saved = open_saved(cut)
    cut.write_bytes(whole[:-100])  # while it is read
    with pytest.raises(InvalidArgument, match=r"cut\.safetensors ends within .*: it was cut short"):
        list(saved)


def test_open_saved__finds_the_tokenizer_beside_the_weights(hf_folder, tmp_path):
    assert not open_saved(hf_folder).has_tokenizer
    save_file({"w": torch.zeros(2)}, tmp_path / "model.safetensors")
    (tmp_path / "tokenizer.json").write_text("{}")
    assert open_saved(tmp_path / "model.safetensors").has_tokenizer


def test_open_saved__of_lightning_has_weights_moments_and_its_own_settings(lightning, same):
    model, files = lightning
    saved = open_saved(files[-1])
    check(saved, model.state_dict(), same)
    assert (saved.step, saved.step_source) == (8, "the optimizer's state")
    assert set(saved.training.moments) == {"exp_avg", "exp_avg_sq"}
    assert saved.config == {"width": 8}


def test_read_into__uses_the_memory_that_it_is_given(small, save, hf_folder):
    for path, name in ((save(small[0].state_dict()), "first.weight"), (hf_folder, "transformer.wte.weight")):
        saved = open_saved(path)
        target = torch.full(saved.shape(name), 7.0)
        assert saved.read_into(name, target) is target
        assert torch.equal(target, saved.read(name))


def test_leaders__of_a_module_without_ties_are_the_names_themselves(save):
    saved = open_saved(save(nn.Linear(2, 2).state_dict()))
    assert saved.leaders == {"weight": "weight", "bias": "bias"}


def test_open_saved__of_a_file_with_a_usual_name_has_the_step_of_its_folder(trained, tmp_path):
    found = open_saved(trained[0] / "checkpoint-4" / "model.safetensors")
    assert (found.step, found.step_source) == (4, "the field 'global_step'")
    place = tmp_path / "step_7" / "model.safetensors"
    place.parent.mkdir()
    save_file({"w": torch.ones(2)}, place)
    assert (open_saved(place).step, open_saved(place).step_source) == (7, "its name")
    assert open_saved(place.rename(place.with_name("other.safetensors"))).step is None
