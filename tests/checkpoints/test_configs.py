"""Is a model told from its config alone, and a missing one said so without running anybody's code?"""

import json

import pytest
import torch
import transformers

from wdyn import describe
from wdyn.checkpoints.configs import is_hub_name, model_from_config
from wdyn.errors import InvalidArgument

SMALL = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
PATHS = "./gpt2 /gpt2 ../gpt2 a/b/c a//b run.zarr x/model.safetensors model.pt ~/x".split()


@pytest.fixture
def folder(tmp_path):
    def write(**settings):
        (tmp_path / "config.json").write_text(json.dumps(settings))
        return tmp_path

    return write


def test_describe__of_a_config_tells_what_the_model_would_tell(folder):
    settings = {"vocab_size": 97, "n_embd": 32, "n_head": 4, "n_layer": 3}
    place = folder(model_type="gpt2", architectures=["GPT2LMHeadModel"], **settings)
    built = transformers.GPT2LMHeadModel(transformers.GPT2Config(**settings))
    for source in (place, str(place)):
        assert describe(source).identical(describe(built))


def test_model_from_config__has_the_dtype_of_the_config_and_no_memory(folder):
    place = folder(model_type="gpt_neox", architectures=["GPTNeoXForCausalLM"], dtype="bfloat16", **SMALL)
    assert {(p.dtype, p.is_meta) for p in model_from_config(place).parameters()} == {(torch.bfloat16, True)}


def test_model_from_config__without_an_architecture_is_the_bare_body(folder):
    assert type(model_from_config(folder(model_type="bert", **SMALL))).__name__ == "BertModel"


def test_describe__prefers_the_weights_to_the_config(folder):
    place = folder(model_type="gpt2", n_head=4)
    torch.save({"h.0.attn.c_attn.weight": torch.zeros(8, 24)}, place / "pytorch_model.bin")
    assert describe(place)["parameter"].values.tolist() == ["h.0.attn.c_attn.weight"]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"model_type": "no_such_kind"}, r"has a config\.json of which no model can be made: .*no_such_kind"),
        ({}, r"has a config\.json of which no model can be made"),
        ({"model_type": "bert", "hidden_size": 30, "num_attention_heads": 4}, "no model can be made: .*multiple"),
    ],
)
def test_describe__says_why_a_config_makes_no_model(folder, settings, match):
    with pytest.raises(InvalidArgument, match=match):
        describe(folder(**settings))


def test_describe__runs_no_code_that_comes_with_a_config(folder):
    place = folder(model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"})
    (place / "own.py").write_text("raise SystemExit('code of the author was run')")
    with pytest.raises(InvalidArgument, match="no model can be made"):
        describe(place)


@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2", "google/gemma-3-1b-it", "01-ai/Yi_6B.v2"])
def test_is_hub_name__of_what_may_be_one(name):
    assert is_hub_name(name)


@pytest.mark.parametrize("path", [*PATHS, "", "a b"])
def test_is_hub_name__of_what_is_a_path(path):
    assert not is_hub_name(path)


def test_describe__of_a_name_that_the_hub_does_not_give_says_what_to_do(monkeypatch):
    monkeypatch.setattr("wdyn.checkpoints.configs.online", lambda: False)
    with pytest.raises(InvalidArgument, match=r"Nothing is at nobody/nothing, and the Hugging Face hub .* Give a path"):
        describe("nobody/nothing")
