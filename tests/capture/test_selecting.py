"""Does `select` give, of real models, the very elements that do the work of a query, a key, a value, a head?

Which elements were selected is read off a model whose weights are their own numbers, recorded by `watch`; what they do
is asked of a second one with random weights, by switching exactly those elements off.
"""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import wdyn
from wdyn.errors import AmbiguousSelection, NoMatch

# Layout -> heads of queries and of keys. All have 32 wide streams and heads of 8.
LAYOUTS = {
    "gpt2": (4, 4),  # fused, stored (fan_in, fan_out)
    "gpt_neox": (4, 4),  # interleaved by head
    "bloom": (4, 4),
    "llama": (4, 2),  # separate, keys shared by groups of queries
    "phi3": (4, 2),  # fused, unequal
    "falcon": (4, 1),  # fused, one head of keys
    "falcon_grouped": (4, 2),  # interleaved by group
    "gpt_bigcode": (4, 1),
}


class Numbered:
    """A recorded model whose elements are numbered, and a random one on which to try what they do."""

    def __init__(self, model, place):
        numbered = copy.deepcopy(model)
        start = 0
        with torch.no_grad():
            for parameter in numbered.parameters():
                stop = start + parameter.numel()
                parameter.copy_(torch.arange(start, stop).view_as(parameter))
                start = stop
        assert start < 2**24  # float32 counts so far
        with wdyn.watch(numbered, to=place, what=("weights",)):
            pass
        self.run = wdyn.open_run(place)
        self.model = model.eval().double()
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(0.3 * torch.randn_like(parameter) if parameter.dim() > 1 else torch.zeros(()))
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1 and name.endswith("weight"):
                nn.init.ones_(parameter)  # the scale of a norm

    def numbers(self, role):
        """Numbers of the elements of a role in the first layer, by head: (head, head_dim, fan_in), or as o has it."""
        return wdyn.select(self.run, role=role, layer=0, step=0, heads=True).values.astype(int)

    @torch.no_grad()
    def output(self, *switched_off):
        """What a fresh copy computes without some elements."""
        model = copy.deepcopy(self.model)
        flat = nn.utils.parameters_to_vector(model.parameters())
        for numbers in switched_off:
            flat[torch.as_tensor(np.ravel(numbers))] = 0
        nn.utils.vector_to_parameters(flat, model.parameters())
        return model(input_ids=torch.arange(1, 9)[None]).logits


@pytest.fixture(scope="module", params=LAYOUTS)
def numbered(request, build, tmp_path_factory):
    place = tmp_path_factory.mktemp(request.param) / "run.zarr"
    return request.param, Numbered(build(request.param, fresh=True), place)


def test_select__values_of_a_head_do_what_its_columns_of_o_do(numbered):
    layout, model = numbered
    (heads, groups), values, outputs = LAYOUTS[layout], model.numbers("v"), model.numbers("o")
    assert (values.shape, outputs.shape) == ((groups, 8, 32), (32, heads, 8))
    plain, shared = model.output(), heads // groups
    for group in (0, groups - 1):
        head = slice(group * shared, (group + 1) * shared)
        without = model.output(values[group])
        torch.testing.assert_close(without, model.output(outputs[:, head]))
        assert not torch.allclose(without, plain)
    # Within a head as well: one of its eight places.
    torch.testing.assert_close(model.output(values[0, 3]), model.output(outputs[:, :shared, 3]))


def test_select__queries_of_a_head_do_what_its_keys_do(numbered):
    layout, model = numbered
    (heads, groups), queries, keys = LAYOUTS[layout], model.numbers("q"), model.numbers("k")
    assert (queries.shape, keys.shape) == ((heads, 8, 32), (groups, 8, 32))
    shared = heads // groups
    for group in (0, groups - 1):
        without = model.output(queries[group * shared : (group + 1) * shared])
        torch.testing.assert_close(without, model.output(keys[group]))
        assert not torch.allclose(without, model.output())


def test_select__inputs_are_the_last_axis(numbered):
    _, model = numbered
    inputs = wdyn.select(model.run, role="q", layer=0, step=0)
    by_head = wdyn.select(model.run, role="q", layer=0, step=0, heads=True)
    assert inputs.dims == ("fan_out", "fan_in")
    np.testing.assert_array_equal(inputs.values, by_head.values.reshape(32, 32))
    owner = model.model.get_parameter(str(inputs["parameter"].item()))
    transposed = owner.shape[0] == 32 and owner.shape != (32, 32)
    # Elements that read the same input lie along one column of what nn.Linear stores.
    steps = set(np.diff(inputs.values, axis=1).ravel().astype(int))
    assert steps == ({owner.shape[1]} if transposed else {1})


def test_select__gives_step_layer_head_and_fan_in(numbered):
    _, model = numbered
    q = wdyn.select(model.run, role="q", heads=True)
    assert q.dims == ("step", "layer", "head", "head_dim", "fan_in")
    assert q["layer"].values.tolist() == list(range(q.sizes["layer"]))


@pytest.fixture
def recorded(tmp_path):
    def record(model, **options):
        place = tmp_path / f"{len(list(tmp_path.iterdir()))}.zarr"
        with wdyn.watch(model, to=place, what=("weights",), **options):
            pass
        return wdyn.open_run(place)

    return record


def test_select__weights_stored_by_head_come_in_the_same_order(build, recorded):
    model = build("heads_as_an_axis", fresh=True)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    run, attention = recorded(model), model.blocks[1].attn
    q, o = (wdyn.select(run, role=role, layer=1, step=0, heads=True) for role in "qo")
    assert (q.dims, o.dims) == (("head", "head_dim", "fan_in"), ("fan_out", "head", "head_dim"))
    np.testing.assert_array_equal(q, attention.W_Q.detach().transpose(1, 2))
    np.testing.assert_array_equal(o, attention.W_O.detach().permute(2, 0, 1))


def test_select__a_hybrid_lists_the_layers_that_attend(build, recorded):
    run = recorded(build("jamba"))
    q = wdyn.select(run, role="q", heads=True)
    assert q["layer"].values.tolist() == [1]
    assert wdyn.select(run, path="*mamba.in_proj.weight")["layer"].values.tolist() == [0, 2, 3]
    with pytest.raises(NoMatch, match=r"No layer 0 has 'q'; the layers that do: \[1\]"):
        wdyn.select(run, role="q", layer=0)


@pytest.mark.parametrize("layout", ["mixtral", "gpt_oss"])
def test_select__parts_of_fused_experts_keep_the_experts(layout, build, recorded):
    model = build(layout)
    gate, up = (wdyn.select(recorded(model), role=role, layer=0, step=0) for role in ("mlp_gate", "mlp_up"))
    assert gate.dims == up.dims == ("expert", "fan_out", "fan_in")
    assert gate.shape == up.shape == (4, 48, 32)
    fused = model.model.layers[0].mlp.experts.gate_up_proj.detach()
    halves = fused.chunk(2, dim=1) if layout == "mixtral" else (fused[..., ::2].mT, fused[..., 1::2].mT)
    np.testing.assert_array_equal(gate, halves[0])
    np.testing.assert_array_equal(up, halves[1])


@pytest.fixture
def adapted():
    """A GPT-2 with low-rank adapters on its fused q, k, v, made by PEFT itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the two libraries have to say to each other
        import peft
        import transformers

        config = transformers.GPT2Config(vocab_size=97, n_embd=32, n_head=4, n_layer=2, n_positions=40)
        settings = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
        return peft.get_peft_model(transformers.GPT2LMHeadModel(config), settings)


def test_select__of_an_adapted_matrix_gives_the_matrix_and_by_path_its_adapter(adapted, recorded):
    run, layer = recorded(adapted), adapted.base_model.model.transformer.h[1].attn.c_attn
    q = wdyn.select(run, role="q", layer=1, step=0)
    np.testing.assert_array_equal(q, layer.base_layer.weight[:, :32].T.detach())
    assert wdyn.select(run, role="q", heads=True).sizes["head"] == 4
    factor = wdyn.select(run, path="*c_attn.lora_A.*", layer=1, step=0)
    np.testing.assert_array_equal(factor, layer.lora_A["default"].weight.detach())


def test_describe__an_adapter_has_role_and_layer_of_what_it_adapts(adapted):
    table = wdyn.describe(adapted).to_dataframe()
    factors = table[table.index.str.contains("lora_")]
    assert (len(factors), set(factors["role"]), set(factors["layer"])) == (4, {"qkv"}, {0, 1})
    assert factors["trainable"].all()
    base = table[table.index.str.contains("base_layer")]
    assert (set(base["role"]), set(base["heads"])) == ({"qkv"}, {4})
    assert not base["trainable"].any()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
def test_describe__an_adapted_embedding_is_an_embedding_and_an_adapted_head_what_the_head_is():
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    told = {"word_embeddings": "embedding", "token_type_embeddings": "type_embedding", "classifier": "head"}
    model = transformers.BertForSequenceClassification(config)
    model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=[*told], use_dora=True))
    table = wdyn.describe(model).to_dataframe()
    for called, role in told.items():
        of_it = table[table.index.str.contains(called)]
        assert len(of_it[of_it.index.str.contains("lora_")]) == 3  # two factors and a magnitude
        assert set(of_it["role"]) == {role}
    alone = wdyn.describe(peft.get_peft_model_state_dict(model)).to_dataframe()
    assert set(alone[alone.index.str.contains("lora_embedding_")]["role"]) == {"embedding", "type_embedding"}


def test_select__of_an_adapter_alone_says_how_to_choose(recorded, build):
    run = recorded(build("adapted"), select="*lora_*")
    with pytest.raises(AmbiguousSelection, match=r"2 arrays fit: .*lora_A.*lora_B.*path="):
        wdyn.select(run, role="q")
    assert wdyn.select(run, path="*q_proj.lora_B*").sizes["fan_in"] == 2
