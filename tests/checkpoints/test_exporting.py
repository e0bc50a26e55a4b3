"""Is what was exported what the model was: bit for bit, with its ties, for each program that reads it?"""

import json
import os
import shutil
import signal

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, load_model
from torch import nn

import wdyn
from wdyn.checkpoints import pretrained
from wdyn.checkpoints.run_weights import RunWeights
from wdyn.errors import CannotRecord, InvalidArgument, StepNotRecorded

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu,
    torch.complex64, torch.int64, torch.uint8, torch.bool,
]  # fmt: skip


class Mixed(nn.Module):
    """A tensor of every dtype with random bits, odd shapes, blocks, and a tie."""

    def __init__(self):
        super().__init__()
        for dtype in DTYPES:
            noise = torch.randint(0, 2 if dtype == torch.bool else 256, (3 * dtype.itemsize,), dtype=torch.uint8)
            self.register_buffer(f"of_{dtype}".replace(".", "_"), noise.view(dtype))
        self.blocks = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.none = nn.Parameter(torch.empty(0, 3))
        self.head = nn.Linear(3, 3, bias=False)
        self.head.weight = self.blocks[0].weight


def kept(state):
    return {name: value.detach().clone() for name, value in state.items()}


def record(model, place, *, loss, steps=4, every=2, **options):
    """Train a few steps; give the run, and the state dict at each step with a snapshot."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    states = {}
    with wdyn.watch(model, optimizer, to=place, every=1, snapshots=every, **options):
        states[0] = kept(model.state_dict())
        for step in range(1, steps + 1):
            optimizer.zero_grad()
            loss(model).backward()
            optimizer.step()
            states[step] = kept(model.state_dict())
    return wdyn.open_run(place), states


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("mixed") / "run.zarr"
    return record(Mixed(), place, loss=lambda model: sum((block(torch.ones(3)) ** 2).sum() for block in model.blocks))


def equal(found, expected, same):
    assert found.keys() == expected.keys()
    assert [name for name in expected if not same(found[name], expected[name])] == []


def test_export__writes_a_safetensors_file_with_the_bits_of_each_dtype(mixed, tmp_path, same):
    run, states = mixed
    done = wdyn.export(run, step=2, to=tmp_path / "deep" / "model.safetensors")
    found = load_file(done.path)
    expected = {name: value for name, value in states[2].items() if name != "head.weight"}
    equal(found, expected, same)
    assert (done.step, done.names, dict(done.tied)) == (2, len(states[2]), {"head.weight": "blocks.0.weight"})
    assert done.nbytes == done.path.stat().st_size
    assert not same(states[2]["blocks.0.weight"], states[4]["blocks.0.weight"])


def test_export__tells_safetensors_of_ties(mixed, tmp_path, same):
    run, states = mixed
    done = wdyn.export(run, step=2, to=tmp_path / "model.safetensors")
    model = Mixed()
    load_model(model, done.path)
    equal(model.state_dict(), states[2], same)
    with safe_open(done.path, framework="pt") as opened:
        assert opened.metadata() == {"format": "pt", "head.weight": "blocks.0.weight"}


@pytest.mark.parametrize("name", ["state.pt", "state.pth", "pytorch_model.bin"])
def test_export__writes_a_state_dict_in_which_ties_share_storage(mixed, tmp_path, same, name):
    run, states = mixed
    found = torch.load(wdyn.export(run, step=4, to=tmp_path / name).path, weights_only=True)
    equal(found, states[4], same)
    assert found["head.weight"].data_ptr() == found["blocks.0.weight"].data_ptr()
    Mixed().load_state_dict(found)


def test_export__takes_the_last_snapshot_and_says_so(mixed, tmp_path):
    assert wdyn.export(mixed[0], to=tmp_path / "state.pt").step == 4


def test_export__reads_one_tensor_at_a_time(mixed, tmp_path, monkeypatch):
    """Of the tensors that were read, only the one that is being written is still held."""
    import weakref

    from wdyn.checkpoints.run_weights import RunWeights

    read, held, alive = RunWeights.read, [], []

    def watched(self, name):
        alive.append(sum(one() is not None for one in held))
        tensor = read(self, name)
        held.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(RunWeights, "read", watched)
    wdyn.export(mixed[0], to=tmp_path / "model.safetensors")
    assert len(alive) == len(mixed[1][0]) - 1
    assert max(alive) <= 1


def test_export__names_the_nearest_steps(mixed, tmp_path):
    with pytest.raises(StepNotRecorded, match="No snapshot at step 3; the nearest are at 0, 2, 4"):
        wdyn.export(mixed[0], step=3, to=tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt"])
def test_export__replaces_a_file_only_when_told(mixed, tmp_path, name):
    place = tmp_path / name
    place.write_bytes(b"mine")
    with pytest.raises(InvalidArgument, match=r"exists\. Replace it with overwrite=True \(--force\)"):
        wdyn.export(mixed[0], to=place)
    assert place.read_bytes() == b"mine"
    wdyn.export(mixed[0], to=place, overwrite=True)
    assert place.stat().st_size > 100
    assert list(tmp_path.iterdir()) == [place]


def test_export__replaces_no_folder_with_other_things_in_it(mixed, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InvalidArgument, match=r"is a folder that holds thesis\.tex"):
        wdyn.export(mixed[0], to=tmp_path, overwrite=True)
    with pytest.raises(InvalidArgument, match=r"is a folder that holds \.wdyn, "):
        wdyn.export(mixed[0], to=mixed[0].attrs["path"], overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_export__puts_nothing_into_a_run(mixed):
    with pytest.raises(InvalidArgument, match=r"lies within the run .*run\.zarr, which holds nothing else"):
        wdyn.export(mixed[0], to=f"{mixed[0].attrs['path']}/weights/model.pt")


def test_export__refuses_a_suffix_of_no_format(mixed, tmp_path):
    with pytest.raises(InvalidArgument, match=r"ends in \.onnx\. Needed is \.safetensors, \.pt, \.pth, \.bin, or"):
        wdyn.export(mixed[0], to=tmp_path / "model.onnx")


def test_export__says_that_the_place_cannot_be_written(mixed, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotRecord, match="Cannot write"):
        wdyn.export(mixed[0], to=tmp_path / "file" / "model.safetensors")


def test_export__refuses_what_safetensors_has_no_word_for(tmp_path):
    model = nn.Linear(2, 2, dtype=torch.complex128)
    run, _ = record(model, tmp_path / "run.zarr", loss=lambda one: one(torch.ones(2).cdouble()).abs().sum())
    with pytest.raises(InvalidArgument, match=r"weight \(torch\.complex128\).*Export to a \.pt file"):
        wdyn.export(run, to=tmp_path / "model.safetensors")
    wdyn.export(run, to=tmp_path / "state.pt")


def test_export__makes_no_path_of_a_name(tmp_path, same):
    model = nn.Module()
    names = ["../../evil", "/etc/evil", "__wdyn__", "zarr.json", "K", "k", "x" * 300]
    for name in names:
        model._parameters[name] = nn.Parameter(torch.randn(2))
    place = tmp_path / "deep" / "er" / "run.zarr"
    run, states = record(model, place, loss=lambda one: sum((p**2).sum() for p in one.parameters()))
    out = tmp_path / "deep" / "er" / "out"
    equal(load_file(wdyn.export(run, to=out / "m.safetensors").path), states[4], same)
    equal(torch.load(wdyn.export(run, to=out / "m.pt").path, weights_only=True), states[4], same)
    assert sorted(file.name for file in out.iterdir()) == ["m.pt", "m.safetensors"]
    assert list(tmp_path.rglob("evil")) == []


@pytest.mark.kill
def test_export__that_is_killed_leaves_what_was_there(mixed, tmp_path, killed, monkeypatch):
    place = tmp_path / "model.safetensors"
    place.write_bytes(b"mine")
    read, names = RunWeights.read, []

    def dies(self, name):
        names.append(name)
        if len(names) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, name)

    monkeypatch.setattr(RunWeights, "read", dies)
    killed(lambda: wdyn.export(mixed[0], to=place, overwrite=True))
    assert place.read_bytes() == b"mine"
    assert list(tmp_path.glob("*.safetensors")) == [place]


def test_export__that_fails_leaves_nothing(mixed, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        wdyn.export(mixed[0], to=tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_export__of_a_part_needs_a_word(tmp_path, same):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    run, states = record(model, tmp_path / "r", loss=lambda one: one(torch.ones(2)).sum(), select="0.*")
    place = tmp_path / "model.safetensors"
    with pytest.raises(InvalidArgument, match=r"2 weights were not recorded.*1\.weight, 1\.bias\..*partial=True"):
        wdyn.export(run, to=place)
    assert not place.exists()
    done = wdyn.export(run, to=place, partial=True)
    equal(load_file(place), {name: states[4][name] for name in ("0.weight", "0.bias")}, same)
    assert "1.weight, 1.bias" in done.notes[0]


def test_export__knows_for_each_step_whether_all_was_recorded(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    for resume, select in ((False, "0.*"), (True, None)):
        with wdyn.watch(model, to=tmp_path / "r", every=1, snapshots=1, select=select, resume=resume) as w:
            w.step()
            w.step()
    run = wdyn.open_run(tmp_path / "r")
    with pytest.raises(InvalidArgument, match="2 weights were not recorded"):
        wdyn.export(run, step=1, to=tmp_path / "model.pt")
    wdyn.export(run, step=3, to=tmp_path / "model.pt")


GPT2 = {"vocab_size": 31, "n_embd": 8, "n_head": 2, "n_layer": 2, "n_positions": 8, "bos_token_id": 0,
        "eos_token_id": 0}  # fmt: skip
BERT = {"vocab_size": 31, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 16}  # fmt: skip
TOKENS = torch.arange(12).reshape(2, 6)


def language_model(kind, **settings):
    import transformers

    torch.manual_seed(0)
    if kind == "gpt2":
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2 | settings)).eval()
    return transformers.BertForMaskedLM(transformers.BertConfig(**BERT | settings)).eval()


def loss_of(model):
    return model(TOKENS, labels=TOKENS).loss


@pytest.fixture
def trained_model(tmp_path, quiet):
    """Record a transformers model for a few steps; give it, the run, and its states."""

    def train(kind, *, dtype=torch.float32, wrap=lambda model: model, change=lambda model: None, **settings):
        model = language_model(kind, **settings).to(dtype)
        change(model)
        with quiet():
            run, states = record(wrap(model), tmp_path / "run.zarr", loss=loss_of)
        return model, run, {step: {name.removeprefix("module."): one for name, one in state.items()}
                            for step, state in states.items()}  # fmt: skip

    return train


def loaded(folder, model, quiet):
    with quiet():
        found, info = type(model).from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return found.eval()


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_export__writes_a_folder_that_from_pretrained_loads(trained_model, tmp_path, quiet, same, kind, dtype):
    model, run, states = trained_model(kind, dtype=dtype)
    done = wdyn.export(run, to=tmp_path / "model-v1.5")
    found = loaded(done.path, model, quiet)
    equal(found.state_dict(), states[4], same)
    assert torch.equal(found(TOKENS).logits, model(TOKENS).logits)
    embedding, head = found.get_input_embeddings(), found.get_output_embeddings()
    assert head.weight is embedding.weight
    assert len(load_file(done.path / "model.safetensors")) == len(states[4]) - len(done.tied)
    settings = json.loads((done.path / "config.json").read_text())
    assert settings["architectures"] == [type(model).__name__]
    assert json.loads((done.path / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")


def test_export__unties_what_was_not_tied_at_the_step(trained_model, tmp_path, quiet, same):
    def untie(model):
        model.lm_head.weight = nn.Parameter(torch.randn(31, 8))

    model, run, states = trained_model("gpt2", change=untie)
    found = loaded(wdyn.export(run, to=tmp_path / "model").path, model, quiet)
    equal(found.state_dict(), states[4], same)


def test_export__ties_by_value_what_the_config_does_not_tie(trained_model, tmp_path, quiet, same):
    def tie(model):
        model.lm_head.weight = model.transformer.wte.weight

    model, run, states = trained_model("gpt2", tie_word_embeddings=False, change=tie)
    found = loaded(wdyn.export(run, to=tmp_path / "model").path, model, quiet)
    equal(found.state_dict(), states[4], same)


def test_export__finds_the_config_below_wrappers(trained_model, tmp_path, quiet, same):
    class Wrapped(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, *args, **kwargs):
            return self.module(*args, **kwargs)

    model, run, states = trained_model("gpt2", wrap=Wrapped)
    equal(loaded(wdyn.export(run, to=tmp_path / "m").path, model, quiet).state_dict(), states[4], same)


def test_export__cuts_a_large_model_into_shards(trained_model, tmp_path, monkeypatch, quiet, same):
    model, run, states = trained_model("gpt2")
    monkeypatch.setattr(pretrained, "SHARD_BYTES", 2000)
    folder = wdyn.export(run, to=tmp_path / "model").path
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    assert shards == [f"model-{at:05d}-of-{len(shards):05d}.safetensors" for at in range(1, len(shards) + 1)]
    assert sorted(file.name for file in folder.glob("*.safetensors")) == shards
    assert len(shards) > 2
    for name, file in index["weight_map"].items():
        assert name in load_file(folder / file)
    equal(loaded(folder, model, quiet).state_dict(), states[4], same)


def test_export__takes_the_config_of_another_folder(trained_model, hf_folder, tmp_path, quiet, same):
    model, run, states = trained_model("gpt2")
    for place in (hf_folder, hf_folder / "config.json"):
        folder = wdyn.export(run, to=tmp_path / "model", config=place, overwrite=True).path
        equal(loaded(folder, model, quiet).state_dict(), states[4], same)
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_export__refuses_a_config_that_does_not_fit(trained_model, tmp_path):
    _, run, _ = trained_model("gpt2")
    config = {"model_type": "gpt2", **GPT2, "n_layer": 3, "n_positions": 9}
    match = (
        r"transformer\.h\.2\.ln_1\.weight.* and 9 more not recorded; transformer\.wpe\.weight of another shape there"
    )
    with pytest.raises(InvalidArgument, match=match):
        wdyn.export(run, to=tmp_path / "model", config=config)
    with pytest.raises(InvalidArgument, match="transformers makes no model of the config"):
        wdyn.export(run, to=tmp_path / "model", config={"model_type": "nothing"})
    assert not (tmp_path / "model").exists()


def test_export__tells_what_the_model_of_the_config_has_no_place_for(trained_model, tmp_path, same):
    _, run, states = trained_model("gpt2", change=lambda model: model.register_buffer("mask", torch.ones(2)))
    done = wdyn.export(run, to=tmp_path / "model")
    assert done.notes == ("That model has no place for mask; from_pretrained leaves that out.",)
    assert same(load_file(done.path / "model.safetensors")["mask"], states[4]["mask"])


def test_export__of_a_run_without_config_says_what_to_give(mixed, tmp_path):
    with pytest.raises(InvalidArgument, match=r"keeps no config .*--config.*export to model\.safetensors or state\.pt"):
        wdyn.export(mixed[0], to=tmp_path / "model")
    with pytest.raises(InvalidArgument, match=r"No config is at .*nothing/here/config\.json"):
        wdyn.export(mixed[0], to=tmp_path / "model", config=tmp_path / "nothing/here/config.json")


def test_export__gives_imported_files_back(small, save, tmp_path, same):
    model, _ = small
    run = wdyn.import_checkpoints(save(model.state_dict(), "step_5.pt"), to=tmp_path / "run.zarr")
    found = torch.load(wdyn.export(run, to=tmp_path / "again.pt").path, weights_only=True)
    equal(found, kept(model.state_dict()), same)
    assert found["head.weight"].data_ptr() == found["first.weight"].data_ptr()


def test_export__gives_an_imported_folder_back(hf_folder, tmp_path, quiet, same):
    place = shutil.copytree(hf_folder, tmp_path / "step_5")
    with quiet():
        run = wdyn.import_checkpoints(place, to=tmp_path / "run.zarr")
        done = wdyn.export(run, to=tmp_path / "again")
    equal(load_file(done.path / "model.safetensors"), load_file(hf_folder / "model.safetensors"), same)
