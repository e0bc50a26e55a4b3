"""Is an adapter merged into its base as PEFT itself merges it?"""

import json

import pytest
import torch

from wdyn.checkpoints.opening import open_saved
from wdyn.errors import InvalidArgument

peft = pytest.importorskip("peft")

VARIANTS = {
    "plain": {"target_modules": ["c_attn", "c_proj"]},
    "embedding": {"target_modules": ["wte", "c_fc"]},
    "rslora": {"target_modules": ["c_attn"], "use_rslora": True},
    "patterns": {
        "target_modules": ["c_attn", "c_fc"],
        "rank_pattern": {"c_fc": 3},
        "alpha_pattern": {"h.1.attn.c_attn": 5},
    },
}


@pytest.fixture
def adapter(hf_folder, quiet, tmp_path):
    """Save an adapter with random factors; give its folder, and what PEFT says of base and adapter together."""
    import transformers

    def make(**settings):
        with quiet():
            base = transformers.GPT2LMHeadModel.from_pretrained(hf_folder)
            config = peft.LoraConfig(r=2, lora_alpha=6, fan_in_fan_out=True, init_lora_weights=False, **settings)
            model = peft.get_peft_model(base, config)
            model.save_pretrained(tmp_path / "adapter")
            merged = {name: value.clone() for name, value in model.merge_and_unload().state_dict().items()}
        return tmp_path / "adapter", merged

    return make


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_open_saved__merges_an_adapter_bit_for_bit_as_peft_does(adapter, hf_folder, same, settings):
    folder, merged = adapter(**settings)
    saved = open_saved(folder, base=hf_folder)
    assert set(saved.names) == set(merged)
    changed = [name for name in merged if not same(saved.read(name), open_saved(hf_folder).read(name))]
    assert changed
    for name, value in merged.items():
        assert same(saved.read(name), value), name


def test_open_saved__of_an_adapter_alone_has_its_factors(adapter):
    folder, _ = adapter(target_modules=["c_attn"])
    saved = open_saved(folder)
    assert len(saved.names) == 4
    assert all("lora_" in name for name in saved.names)


def test_open_saved__refuses_a_base_that_does_not_fit(adapter, hf_folder, save):
    folder, _ = adapter(target_modules=["c_attn"])
    with pytest.raises(InvalidArgument, match=r"has no transformer\.h\.0\.attn\.c_attn\.weight, which the adapter"):
        open_saved(folder, base=save({"w": torch.zeros(2, 2)}))
    other = {
        "transformer.h.0.attn.c_attn.weight": torch.zeros(8, 8),
        "transformer.h.1.attn.c_attn.weight": torch.zeros(1, 1),
    }
    with pytest.raises(InvalidArgument, match=r"does not fit .*: it adds \(8, 24\) to .*, which is \(8, 8\)"):
        open_saved(folder, base=save(other, "other.pt"))
    with pytest.raises(InvalidArgument, match="is no PEFT adapter"):
        open_saved(hf_folder, base=hf_folder)


def test_open_saved__says_which_adapters_it_does_not_merge(adapter, hf_folder):
    folder, _ = adapter(target_modules=["c_attn"])
    config = json.loads((folder / "adapter_config.json").read_text())
    for settings, kind in (({"use_dora": True}, "DoRA"), ({"peft_type": "IA3"}, "IA3")):
        (folder / "adapter_config.json").write_text(json.dumps(config | settings))
        with pytest.raises(InvalidArgument, match=f"is a {kind} adapter, and only LoRA is merged"):
            open_saved(folder, base=hf_folder)
