"""Does verify find what differs between two models, and nothing where one was written from the other?"""

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration, ViTConfig, ViTModel

import wdyn
from wdyn.errors import InvalidArgument, NotARun
from wdyn.findings import Severity
from wdyn.store.damage import Verification

SIZES = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}


def bert():
    torch.manual_seed(0)
    return BertForMaskedLM(BertConfig(vocab_size=40, max_position_embeddings=16, **SIZES))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A model with a tokenizer, as it was saved."""
    folder = tmp_path_factory.mktemp("written") / "a"
    bert().save_pretrained(folder)
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"vocab": {"a": 0}}}')
    (folder / "vocab.txt").write_text("a\nb\n")
    return folder


@pytest.fixture
def again(written, tmp_path):
    """A copy of it, for one test alone."""
    return shutil.copytree(written, tmp_path / "b")


def codes(found):
    return [one.code for one in found.findings]


def edit(folder, change):
    """Change the config of a folder."""
    file = folder / "config.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_verify__of_a_copy_finds_nothing_and_says_what_was_compared(written, again):
    found = wdyn.verify(written, again)
    assert (found.findings, found.is_whole) == ((), True)
    told = "\n".join(found.lines())
    assert "the same, as far as was compared" in told
    assert "parameters, bit for bit" in told
    assert "Equal: outputs on 2 × 8 random tokens, with a variance of " in told
    assert "Equal: tokenizer, 2 files" in told
    assert "transformers_version, _name_or_path, _commit_hash not looked at" in told
    assert "Not compared: optimizer (neither has one)" in told
    assert found.as_dict()["outputs"]["largest"] == 0


def test_verify__of_a_model_saved_and_loaded_and_saved_finds_nothing(written, again):
    BertForMaskedLM.from_pretrained(written).save_pretrained(again)
    assert wdyn.verify(written, again).is_whole


def test_verify__sees_one_bit(written, again):
    state = load_file(again / "model.safetensors")
    name = "bert.encoder.layer.1.output.dense.weight"
    state[name].view(torch.int32)[0, 0] ^= 1 << 20
    save_file(state, again / "model.safetensors", metadata={"format": "pt"})
    found = wdyn.verify(written, again)
    assert codes(found) == ["INT001", "INT007"]
    assert name in found.findings[0].message
    assert found.findings[0].evidence["parameter"].values.tolist() == [name]
    assert not found.is_whole


def test_verify__sees_a_cast_although_the_outputs_hardly_differ(written, again):
    bert().bfloat16().save_pretrained(again)
    assert codes(wdyn.verify(written, again))[:2] == ["INT001", "INT007"]


def test_verify__sees_a_tie_that_broke(written, again):
    edit(again, lambda config: config.update(tie_word_embeddings=False))
    state = load_file(again / "model.safetensors")
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"].clone()
    state["cls.predictions.decoder.bias"] = state["cls.predictions.bias"].clone()
    save_file(state, again / "model.safetensors", metadata={"format": "pt"})
    found = wdyn.verify(written, again)
    assert "INT003" in codes(found)
    assert "INT001" not in codes(found)
    assert "INT004" in codes(found)


def test_verify__names_the_keys_of_the_config_that_differ(written, again):
    edit(again, lambda config: config.update(hidden_act="relu", transformers_version="0.1", _name_or_path="x"))
    found = wdyn.verify(written, again)
    assert codes(found) == ["INT007", "INT004"]
    assert found.findings[1].message == "The configs differ: hidden_act: 'gelu' → 'relu'."


def test_verify__takes_a_default_that_is_not_written_for_what_it_is(written, again):
    edit(again, lambda config: config.pop("hidden_act"))
    assert wdyn.verify(written, again).is_whole


def test_verify__compares_what_a_tokenizer_says_and_not_how_it_is_written(written, again):
    file = again / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()), indent=4))
    assert wdyn.verify(written, again).is_whole
    file.write_text(file.read_text().replace('"a": 0', '"a": 1'))
    (again / "vocab.txt").unlink()
    found = wdyn.verify(written, again)
    assert codes(found) == ["INT005"]
    assert "tokenizer.json: differs, vocab.txt: only in a" in found.findings[0].message


def test_verify__says_that_a_model_does_not_load(written, again):
    edit(again, lambda config: config.update(hidden_size=24))
    found = wdyn.verify(written, again)
    assert "INT006" in codes(found)
    assert found.findings[0].severity == Severity.ERROR


def test_verify__does_not_take_weights_that_were_made_up_for_proof(written, again):
    state = load_file(again / "model.safetensors")
    del state["bert.encoder.layer.1.output.dense.weight"]
    save_file(state, again / "model.safetensors", metadata={"format": "pt"})
    found = wdyn.verify(written, again)
    assert {"INT002", "INT006"} <= set(codes(found))
    made_up = next(one for one in found.findings if one.code == "INT006")
    assert "b: 1 parameters are not in the file and were made up" in made_up.message


def test_verify__does_not_take_a_constant_output_for_proof(tmp_path):
    model = bert()
    with torch.no_grad():
        model.cls.predictions.transform.LayerNorm.weight.zero_()
    for name in "ab":
        model.save_pretrained(tmp_path / name)
    found = wdyn.verify(tmp_path / "a", tmp_path / "b")
    assert codes(found) == ["INT008"]
    assert "do not depend on the input" in found.findings[0].message


@pytest.mark.parametrize(
    ("model", "probe"),
    [
        (lambda: ViTModel(ViTConfig(image_size=16, patch_size=8, **SIZES)), "2 random images of 16 × 16"),
        (
            lambda: T5ForConditionalGeneration(
                T5Config(vocab_size=30, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
            ),
            "2 × 8 random tokens",
        ),
    ],
)
def test_verify__probes_each_kind_of_model(tmp_path, model, probe):
    torch.manual_seed(0)
    made = model()
    for name in "ab":
        made.save_pretrained(tmp_path / name)
    found = wdyn.verify(tmp_path / "a", tmp_path / "b")
    assert (codes(found), found.compared.outputs.probe) == ([], probe)


def test_verify__compares_optimizers_bit_for_bit(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    for name in "ab":
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / f"{name}.pt")
    found = wdyn.verify(tmp_path / "a.pt", tmp_path / "b.pt")
    assert found.is_whole
    assert "Equal: optimizer, 4 moments bit for bit, and its settings" in str(found)
    optimizer.state[model.weight]["exp_avg"][0, 0] += 1
    optimizer.param_groups[0]["lr"] = 0.2
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "b.pt")
    changed = wdyn.verify(tmp_path / "a.pt", tmp_path / "b.pt")
    assert codes(changed) == ["INT009"]
    assert "group 0 lr: 0.1 → 0.2, exp_avg of weight: differs" in changed.findings[0].message


def test_verify__compares_a_run_with_the_checkpoint_that_it_recorded(tmp_path):
    model = torch.nn.Linear(3, 2)
    with wdyn.watch(model, to=tmp_path / "run.zarr", every=1, snapshots=1) as w:
        w.step()
    torch.save(model.state_dict(), tmp_path / "m.pt")
    found = wdyn.verify(tmp_path / "run.zarr", tmp_path / "m.pt")
    assert found.is_whole
    assert "Not compared: outputs (that takes two folders with a config)" in found.lines()


def test_verify__of_one_run_reads_it_back(tmp_path):
    with wdyn.watch(torch.nn.Linear(3, 2), to=tmp_path / "run.zarr", every=1) as w:
        w.step()
    found = wdyn.verify(tmp_path / "run.zarr")
    assert isinstance(found, Verification)
    assert found.is_whole


def test_verify__refuses_what_is_no_run_and_no_model(written, tmp_path):
    with pytest.raises(NotARun, match="No run at"):
        wdyn.verify(written)
    with pytest.raises(InvalidArgument, match="Nothing is at"):
        wdyn.verify(written, tmp_path / "none.pt")


def test_verify__leaves_the_program_as_it_was(written, again):
    from transformers.utils import logging

    before = torch.get_rng_state(), logging.get_verbosity(), logging.is_progress_bar_enabled(), torch.is_grad_enabled()
    wdyn.verify(written, again)
    after = torch.get_rng_state(), logging.get_verbosity(), logging.is_progress_bar_enabled(), torch.is_grad_enabled()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_verify__lets_a_missing_buffer_pass_as_no_error():
    a = torch.nn.BatchNorm1d(3)
    b = {name: value for name, value in copy.deepcopy(a).state_dict().items() if name != "num_batches_tracked"}
    (found,) = wdyn.verify(a, b).findings
    assert (found.code, found.severity) == ("INT002", Severity.WARNING)
