"""Is the depth found from the tree of names, whatever the containers are called?"""

import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdyn.capture.blocks import places

BLOCK = ("attn.q.weight", "attn.k.weight", "norm.weight", "mlp.0.weight", "mlp.2.weight")
words = st.from_regex(r"[a-zA-Z_]{1,12}", fullmatch=True).filter(lambda word: not keyword.iskeyword(word))


def layers(names):
    return {name: place.layer for name, place in places(names).items()}


@given(st.lists(words, min_size=1, max_size=4), st.integers(2, 5))
def test_places__need_no_word_for_the_container(container, count):
    prefix = ".".join(container)
    names = [f"{prefix}.{layer}.{name}" for layer in range(count) for name in BLOCK]
    assert layers(names) == {name: int(name[len(prefix) + 1 :].split(".")[0]) for name in names}


@given(words)
def test_places__a_single_block_has_layer_zero(container):
    names = [f"{container}.0.{name}" for name in BLOCK] + ["out.weight"]
    assert layers(names) == {**dict.fromkeys(names[:-1], 0), "out.weight": -1}


def test_places__the_path_lacks_the_index_and_nothing_else():
    names = [f"model.h.{layer}.mlp.{layer}.weight" for layer in range(3)]
    assert {place.path for place in places(names).values()} == {f"model.h.mlp.{layer}.weight" for layer in range(3)}


def test_places__sub_layers_and_experts_are_no_depth():
    sub_layers = [f"block.{b}.layer.{s}.{n}.weight" for b in range(2) for s, n in enumerate(("q", "k", "w"))]
    assert set(layers(sub_layers).values()) == {0, 1}
    experts = [f"layers.0.experts.{e}.{n}.weight" for e in range(4) for n in ("w1", "w2")]
    names = [*experts, "layers.0.attn.q.weight", "layers.0.norm.weight"]
    assert set(layers(names).values()) == {0}


def test_places__stages_are_the_depth_but_models_side_by_side_are_not():
    stages = [f"stages.{s}.blocks.{b}.{n}.weight" for s in range(3) for b in range(2) for n in ("conv", "norm")]
    assert [layers(stages)[name] for name in stages] == [s for s in range(3) for _ in range(4)]
    blocks = [f"towers.{t}.h.{b}.{n}" for t in range(2) for b in range(4) for n in BLOCK]
    ends = [f"towers.{t}.{n}.weight" for t in range(2) for n in ("embed", "norm")]
    found = layers([*blocks, *ends])
    assert {found[f"towers.1.h.{b}.norm.weight"] for b in range(4)} == {0, 1, 2, 3}
    assert found["towers.1.embed.weight"] == -1


def test_places__a_model_in_a_row_of_parts_keeps_its_own_depth():
    names = [f"0.encoder.layer.{b}.{n}" for b in range(3) for n in BLOCK] + ["0.embed.weight", "2.weight", "2.bias"]
    found = layers(names)
    assert {found[f"0.encoder.layer.{b}.norm.weight"] for b in range(3)} == {0, 1, 2}
    assert (found["0.embed.weight"], found["2.weight"]) == (-1, -1)


def test_places__layers_of_different_kinds_are_one_stack():
    mixer = [f"layers.{layer}.mamba.{n}" for layer in (0, 2, 3) for n in ("A_log", "D", "in_proj.weight")]
    attention = [f"layers.1.attn.{n}.weight" for n in "qkvo"]
    names = [*mixer, *attention, *(f"layers.{layer}.norm.weight" for layer in range(4))]
    found = layers(names)
    assert {found[name] for name in attention} == {1}
    assert {found[name] for name in mixer} == {0, 2, 3}


@pytest.mark.parametrize(
    ("name", "layer", "path"),
    [
        ("weight_ih_l1", 1, "weight_ih"),
        ("bias_hh_l0_reverse", 0, "bias_hh_reverse"),
        ("rnn.weight_hr_l2", 2, "rnn.weight_hr"),
    ],
)
def test_places__recurrent_layers_are_suffixes(name, layer, path):
    place = places([name, "rnn_out.weight"])[name]
    assert (place.layer, place.path) == (layer, path)


def test_places__lists_beside_the_blocks_share_their_depth_and_others_do_not():
    names = [f"convs.{i}.{n}" for i in range(3) for n in ("lin.weight", "bias")]
    names += [f"bns.{i}.weight" for i in range(3)] + [f"heads.{i}.weight" for i in range(3)]
    names += [f"classifier.{i}.weight" for i in (0, 2)]
    found = layers(names)
    assert [found[f"bns.{i}.weight"] for i in range(3)] == [0, 1, 2]
    assert {found[f"heads.{i}.weight"] for i in range(3)} | {found["classifier.2.weight"]} == {-1}


def test_places__blocks_may_stand_in_a_container_that_is_called_heads_but_heads_are_no_blocks():
    blocks = [f"body.heads.{i}.{n}.weight" for i in range(3) for n in ("attn.q", "attn.k", "norm")]
    assert layers([*blocks, "body.norm.weight", "embed.weight"])["body.heads.2.norm.weight"] == 2
    several = [f"body.heads.{i}.{n}.weight" for i in range(3) for n in ("fc1", "fc2", "norm")]
    found = layers([*several, "body.norm.weight", "embed.weight"])
    assert {found[name] for name in several} == {-1}


def test_places__adapters_stand_where_their_weight_stands():
    names = [f"m.h.{b}.q.{n}.weight" for b in range(2) for n in ("base_layer", "lora_A.default", "lora_B.default")]
    names += [f"m.h.{b}.k.weight" for b in range(2)]
    assert layers(names) == {name: int(name.split(".")[2]) for name in names}
