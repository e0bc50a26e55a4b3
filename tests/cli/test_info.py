"""Does `wdyn info` tell what a run, a checkpoint, or a model of which only the config is there, is made of?"""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import wdyn as library


def test_info__tells_steps_size_and_the_model(wdyn, saved):
    result = wdyn("info", saved)
    assert result.exit_code == 0
    lines = dict(line.split(None, 1) for line in result.stdout.splitlines() if "  " in line)
    assert {"Model", "Steps", "Rows", "Snapshots", "Attempts"} <= set(lines)
    assert " layers 0–" in result.stdout


def test_info__escapes_what_the_encoding_of_the_terminal_lacks(shell, saved):
    result = shell("info", saved, PYTHONIOENCODING="latin-1")
    assert result.returncode == 0
    assert r"Steps      0\u2013100" in result.stdout


def test_info__asks_no_analyzer(wdyn, saved, monkeypatch):
    monkeypatch.setattr("wdyn.analysis.catalogue.analyzers", pytest.fail)
    assert wdyn("info", saved).exit_code == 0


def blocks():
    """A stack of 24 equal blocks: 98 tensors, six things to say."""
    torch.manual_seed(0)
    model = nn.Module()
    model.embed = nn.Embedding(40, 16)
    model.layers = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 32) for _ in range(24))
    model.head = nn.Linear(16, 40, bias=False)
    return model


@pytest.fixture
def state():
    return blocks().state_dict()


def saved_as(kind, state, folder):
    folder.mkdir()
    if kind == "safetensors":
        save_file(state, folder / "any.safetensors")
        return folder / "any.safetensors"
    if kind == "folder":
        save_file(state, folder / "model.safetensors")
        return folder
    if kind in ("index", "shards"):
        halves = [dict(list(state.items())[::2]), dict(list(state.items())[1::2])]
        for number, half in enumerate(halves):
            save_file(half, folder / f"part{number}.safetensors")
        weight_map = {name: f"part{number}.safetensors" for number, half in enumerate(halves) for name in half}
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": weight_map}))
        return index if kind == "index" else folder
    torch.save({"model": state, "step": 3}, folder / f"any.{kind}")
    return folder / f"any.{kind}"


@pytest.mark.parametrize("kind", ["safetensors", "folder", "index", "shards", "pt", "pth", "bin"])
def test_info__tells_what_a_checkpoint_is_made_of(wdyn, state, tmp_path, kind):
    result = wdyn("info", saved_as(kind, state, tmp_path / "saved"))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert f"Model   a state dict, {len(state)} parameters, {sum(t.numel() for t in state.values()):,} values" in lines
    assert "Layers  encoder 0–23" in lines or "Layers  decoder 0–23" in lines
    assert sum("(24 ×)" in line for line in lines) == 1
    assert sum("qkv" in line for line in lines) == 1
    assert len(lines) < 30


def test_info__tells_what_a_config_would_make(wdyn, tmp_path):
    settings = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 97, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 5, "num_attention_heads": 4, "num_key_value_heads": 2,
        "tie_word_embeddings": True, "dtype": "bfloat16",
    }  # fmt: skip
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(settings))
    lines = wdyn("info", tmp_path / "model").stdout.splitlines()
    assert any(line.startswith("Model   LlamaForCausalLM, 48 parameters, ") for line in lines)
    assert any(line.startswith("Size ") and line.endswith(" bfloat16") for line in lines)
    assert any("(5 ×)" in line and line.startswith("decoder, layers 0–4 of model.layers") for line in lines)
    (k,) = [line for line in lines if "self_attn.k_proj" in line]
    assert k.split() == ["k", "self_attn.k_proj", "weight", "16", "×", "32", "512", "2", "heads", "of", "8"]
    assert any(line.endswith("→ shares the storage of model.embed_tokens.weight") for line in lines)


def test_info__writes_the_whole_table_as_json(wdyn, state, saved, tmp_path):
    place = saved_as("safetensors", state, tmp_path / "saved")
    said = json.loads(wdyn("info", place, "--format", "json").stdout)
    assert (said["source"], said["run"], len(said["parameters"])) == (str(place), None, len(state))
    said = json.loads(wdyn("info", saved, "--format", "json").stdout)
    names = library.parameters(library.open_run(saved))["parameter"].values.tolist()
    assert [row["name"] for row in said["parameters"]] == names
    assert said["run"]["steps"] == [0, 100]


@pytest.mark.parametrize("name", [pytest.param("gtp2", marks=pytest.mark.long), "nobody/nothing-of-that-name"])
def test_info__says_that_the_hub_could_not_be_asked(shell, name):
    result = shell("info", name, HF_HUB_OFFLINE="1")
    assert (result.returncode, result.stdout) == (2, "")
    assert f"Nothing is at {name}, and the Hugging Face hub gave no config under that name" in result.stderr
    assert "Give a path, or ask once while online" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["run.zarr", "model.safetensors", "./gpt2", "a/b/c"])
def test_info__asks_the_hub_for_nothing_that_is_a_path(wdyn, monkeypatch, name):
    monkeypatch.setattr("wdyn.checkpoints.describing.model_from_config", pytest.fail)
    result = wdyn("info", name)
    assert result.exit_code == 2
    assert "is no run, and no model could be read: Nothing is at" in result.stderr


def test_info__of_a_run_needs_no_torch(saved):
    code = f"""
import sys
from wdyn.cli import main
try:
    main(["info", {str(saved)!r}])
finally:
    assert not {{"torch", "transformers"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_info__tells_what_takes_the_room(wdyn, state, saved, tmp_path):
    lines = wdyn("info", saved).stdout.splitlines()
    at = lines.index("Storage")
    assert lines[at + 1].split() == ["Group", "On", "disk", "Share"]
    assert {"weights", "statistics", "metadata"} <= {line.split()[0] for line in lines[at + 2 :] if line}
    assert any(line.startswith("float32 ") and line.endswith("B") for line in lines[lines.index("Snapshots") :])
    place = saved_as("safetensors", state, tmp_path / "any")
    count = sum(one.numel() for one in state.values())
    found = [line.split() for line in wdyn("info", place).stdout.splitlines()]
    assert found[-2][:2] + found[-2][-1:] == ["float32", f"{count:,}", "4"]
    assert float(found[-1][-1]) == pytest.approx(place.stat().st_size / count, rel=1e-3)


def test_info__writes_what_takes_the_room_as_json(wdyn, state, saved, tmp_path):
    said = json.loads(wdyn("info", saved, "--format", "json").stdout)["storage"]
    assert said["disk_bytes"] == sum(said["groups"].values())
    assert said["dtypes"][0]["dtype"] == "float32"
    place = saved_as("shards", state, tmp_path / "any")
    said = json.loads(wdyn("info", place, "--format", "json").stdout)["storage"]
    assert said["disk_bytes"] == sum(file.stat().st_size for file in place.glob("*.safetensors"))
