"""Is a model's config kept as transformers writes it, and never at the cost of training?"""

import pytest
import torch
from torch import nn

import wdyn
from wdyn.capture.model_config import as_config, left_out, model_config, model_name


class Config:
    def __init__(self, told):
        self.told = told

    def to_dict(self):
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


def model(told):
    made = nn.Linear(2, 2)
    made.config = Config(told)
    return made


def test_model_config__is_that_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_embd=8, n_head=2, n_layer=1, vocab_size=9, bos_token_id=0, eos_token_id=0)
    found = model_config(transformers.GPT2Model(config))
    assert found["architectures"] == ["GPT2Model"]
    again = transformers.GPT2Config.from_dict(found)
    assert again.to_diff_dict() | {"architectures": None} == config.to_diff_dict() | {"architectures": None}


def test_model_config__keeps_the_architecture_that_is_told():
    assert model_config(model({"model_type": "x", "architectures": ["Y"]}))["architectures"] == ["Y"]


def wrapped(name):
    def wrap(inner):
        outer = nn.Module()
        outer.add_module(name, inner)
        return outer

    return wrap


def showing(inner):
    """Wrap as torch.compile does: what the model has, the wrapper has too."""
    outer = wrapped("_orig_mod")(inner)
    object.__setattr__(outer, "config", inner.config)
    return outer


@pytest.mark.parametrize("wrap", [nn.DataParallel, showing, wrapped("_fsdp_wrapped_module")])
def test_model_config__looks_into_wrappers(wrap):
    outer = wrap(wrap(model({"model_type": "x"})))
    assert model_config(outer) == {"model_type": "x", "architectures": ["Linear"]}


@pytest.mark.parametrize(
    "told",
    [
        None, [], {}, {"hidden": 3}, {"model_type": 3}, {"model_type": "x", "fn": print},
        {"model_type": "x", "rate": float("nan")}, {"model_type": "x", "text": "x" * 2**18}, RuntimeError("mine"),
    ],
)  # fmt: skip
def test_model_config__keeps_nothing_else(told):
    assert model_config(model(told)) == {}


def test_model_config__of_a_config_that_holds_itself():
    told = {"model_type": "x"}
    told["me"] = told
    assert as_config(told) == {}


def test_left_out__counts_all_and_names_some():
    assert left_out(()) == {}
    told = left_out([str(at) for at in range(100)])["left_out"]
    assert (told["count"], told["examples"]) == (100, [str(at) for at in range(20)])


def test_watch__keeps_the_config_and_what_was_not_selected(tmp_path):
    with wdyn.watch(model({"model_type": "x"}), to=tmp_path / "r", select="weight") as w:
        w.step()
    about = wdyn.open_run(tmp_path / "r").attrs["wdyn"]
    assert about["config"] == {"model_type": "x", "architectures": ["Linear"]}
    assert about["attempts"][0]["left_out"] == {"count": 1, "examples": ["bias"]}


def test_model_name__is_that_of_the_model_within_its_wrappers():
    linear = nn.Linear(2, 2)
    assert model_name(linear) == "Linear"
    assert model_name(torch.compile(linear, backend="eager")) == "Linear"
    assert model_name(nn.DataParallel(linear)) == "Linear"
    assert model_name(nn.Sequential(linear)) == "Sequential"
