"""Is what people do to models read through: wrappers, parametrisations, shared and replaced tensors, other devices?"""

import copy
import time

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations

import wdyn
from loops import Tiny, adamw, train
from wdyn.capture.anatomy import addresses
from wdyn.errors import WdynWarning
from wdyn.schema import Role


def told(found):
    return [(a.name, a.path, a.role, a.stack, a.layer, a.tied_to, a.parts, a.heads) for a in found]


def record(model, place, **options):
    with wdyn.watch(model, to=place, **options):
        pass
    return wdyn.open_run(place)


# Wrappers.


@pytest.mark.parametrize("layout", ["gpt2", "t5", "vision_blocks"])
def test_addresses__do_not_see_activation_checkpointing(layout, build):
    model = build(layout, fresh=True)
    plain = told(addresses(model))
    blocks = max((m for m in model.modules() if isinstance(m, nn.ModuleList)), key=len)
    for at, block in enumerate(blocks):
        blocks[at] = checkpoint_wrapper(block)
    assert any("_checkpoint_wrapped_module" in name for name, _ in model.named_parameters())
    assert told(addresses(model)) == plain


def test_addresses__do_not_see_compilation_of_the_whole_or_of_each_block(build):
    model = build("llama", fresh=True)
    plain = told(addresses(model))
    assert told(addresses(torch.compile(model, backend="eager"))) == plain
    for at, block in enumerate(model.model.layers):
        model.model.layers[at] = torch.compile(block, backend="eager")
    assert any("_orig_mod" in name for name, _ in model.named_parameters())
    assert told(addresses(model)) == plain


def test_watch__of_wrapped_blocks_counts_keeps_and_restores_under_plain_names(place):
    torch.manual_seed(0)
    model = Tiny()
    model.blocks[1] = checkpoint_wrapper(model.blocks[1])
    wrapped = nn.DataParallel(torch.compile(model, backend="eager"))
    run = record(wrapped, place)
    plain = {name.replace("_checkpoint_wrapped_module.", ""): p for name, p in model.state_dict().items()}
    kept = wdyn.state_dict(run, step=0)
    assert list(kept) == list(plain)
    assert all(torch.equal(kept[name], plain[name]) for name in plain)


# Parametrisations: the raw parameters are read, the weight that is computed from them never.


def normalised(normalise):
    torch.manual_seed(0)
    return nn.Sequential(normalise(nn.Linear(6, 6)), nn.Tanh(), nn.Linear(6, 2))


@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.(weight|spectral)_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("normalise", "raw"),
    [
        (parametrizations.weight_norm, ["parametrizations.weight.original0", "parametrizations.weight.original1"]),
        (parametrizations.spectral_norm, ["parametrizations.weight.original"]),
        (nn.utils.weight_norm, ["weight_g", "weight_v"]),
        (nn.utils.spectral_norm, ["weight_orig"]),
    ],
)
def test_watch__records_raw_parameters_and_trains_to_the_same_bits(normalise, raw, tmp_path):
    def after_training(*, watched):
        model = normalised(normalise).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def loop():
            for step in range(4):
                optimizer.zero_grad()
                x = torch.randn(3, 6, generator=torch.Generator().manual_seed(step))
                model(x).square().sum().backward()
                optimizer.step()

        if not watched:
            loop()
        else:
            with wdyn.watch(model, optimizer, to=tmp_path / "run.zarr", every=1, snapshots=1):
                loop()
        return model.state_dict()

    alone, watched = after_training(watched=False), after_training(watched=True)
    assert all(torch.equal(alone[name], watched[name]) for name in alone)  # u and v of the power iteration, too
    run = wdyn.open_run(tmp_path / "run.zarr")
    kept = wdyn.state_dict(run, step=4)
    assert set(kept) == set(alone)
    assert all(torch.equal(kept[name], alone[name]) for name in alone)
    table = wdyn.parameters(run).to_dataframe()
    weights = table[(table["kind"] == "weight") & (table["layer"] == 0)]
    assert [name.removeprefix("0.") for name in weights.index] == raw
    assert (set(weights["role"]), set(weights["module"])) == ({"linear"}, {"Linear"})


class Counted(nn.Module):
    """A parametrisation that counts how often its weight is computed."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def forward(self, weight):
        self.count += 1
        return weight.tanh()


def test_watch__never_computes_a_parametrised_weight(place):
    net, counted = nn.Linear(4, 4), Counted()
    nn.utils.parametrize.register_parametrization(net, "weight", counted)
    counted.count = 0
    wdyn.describe(net)
    with wdyn.watch(net, to=place, every=1, snapshots=1) as w:
        w.step()
    assert counted.count == 0
    assert "parametrizations.weight.original" in wdyn.state_dict(wdyn.open_run(place), step=1)
    assert counted.count == 0
    net(torch.zeros(1, 4))
    assert counted.count == 1


# Containers of bare parameters.


class Lists(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = nn.ParameterList([nn.Parameter(torch.full((4, 4), float(at))) for at in range(3)])
        self.scales = nn.ParameterDict({"left": nn.Parameter(torch.ones(4)), "right": nn.Parameter(torch.ones(2))})


def test_addresses__of_lists_of_parameters_stack_and_of_dicts_do_not():
    found = {a.name: (a.path, a.layer) for a in addresses(Lists())}
    steps = {f"steps.{at}": ("steps", at) for at in range(3)}
    assert found == steps | {"scales.left": ("scales.left", -1), "scales.right": ("scales.right", -1)}


def test_addresses__of_a_dict_of_parameters_tell_roles_by_its_keys():
    def block():
        made = nn.Module()
        made.norm, made.attn = nn.LayerNorm(4), nn.ParameterDict({key: torch.zeros(4, 4) for key in "qkvo"})
        made.extra = nn.ParameterList([torch.zeros(4, 4), torch.zeros(4, 4)])
        return made

    model = nn.Module()
    model.blocks = nn.ModuleList([block(), block()])
    found = {a.name: (str(a.role), a.path, a.layer) for a in addresses(model)}
    for layer in range(2):
        for key in "qkvo":
            assert found[f"blocks.{layer}.attn.{key}"] == (key, f"blocks.attn.{key}", layer)
        assert found[f"blocks.{layer}.extra.1"] == ("other", "blocks.extra.1", layer)


def test_watch__lists_of_parameters_come_back(place):
    run = record(Lists(), place)
    assert wdyn.select(run, path="steps", step=0).shape == (3, 4, 4)
    assert torch.equal(wdyn.state_dict(run, step=0)["steps.2"], torch.full((4, 4), 2.0))


# Shared memory.


def test_watch__a_block_that_is_used_three_times_is_kept_once(place):
    torch.manual_seed(0)
    model = Tiny(layers=1)
    model.blocks.extend([model.blocks[0]] * 2)
    run = record(model, place)
    table = wdyn.parameters(run).to_dataframe()
    for name in ("ln.weight", "attn.qkv.weight", "attn.proj.bias"):
        rows = table.loc[[f"blocks.{layer}.{name}" for layer in range(3)]]
        assert rows["tied_to"].tolist() == ["", f"blocks.0.{name}", f"blocks.0.{name}"]
        assert rows["layer"].tolist() == [0, 1, 2]
        assert rows["weights"].astype(bool).tolist() == [True, False, False]
    kept = wdyn.state_dict(run, step=0)
    assert kept["blocks.2.ln.weight"] is kept["blocks.0.ln.weight"]
    assert list(kept) == list(model.state_dict())


def views(kind):
    """A model whose second weight is a view of the first: transposed, a part of it, or an overlapping one."""
    memory = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    seconds = {"transposed": memory.t(), "rows": memory[2:5], "columns": memory[:, 1:4], "all": memory}
    model = nn.Module()
    model.first = nn.Parameter(memory[:6] if kind == "overlapping" else memory)
    model.second = nn.Parameter(memory[3:] if kind == "overlapping" else seconds[kind])
    return model


@pytest.mark.parametrize("kind", ["transposed", "rows", "columns", "overlapping", "all"])
def test_watch__views_of_one_memory_are_tied_and_both_come_back(kind, place):
    model = views(kind)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = {}
    with wdyn.watch(model, optimizer, to=place, every=1, snapshots=1):
        for step in range(1, 3):
            optimizer.zero_grad()
            (model.first.square().sum() + model.second.sum()).backward()
            optimizer.step()
            truth[step] = copy.deepcopy({name: p.detach().clone() for name, p in model.named_parameters()})
    run = wdyn.open_run(place)
    assert wdyn.parameters(run)["tied_to"].values.tolist() == ["", "first"]
    assert run["states/shares_with"].values.tolist() == [[0, 0]] * 3
    for step, state in truth.items():
        kept = wdyn.state_dict(run, step=step)
        assert all(torch.equal(kept[name], state[name]) for name in state), kind
    std = wdyn.statistics(run)["std"].sel(step=2)
    for name, tensor in truth[2].items():
        np.testing.assert_allclose(std.sel(parameter=name), tensor.double().numpy().std(), rtol=1e-12)


def test_watch__equal_values_are_no_tie(place):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].load_state_dict(model[0].state_dict())
    run = record(model, place)
    assert set(wdyn.parameters(run)["tied_to"].values) == {""}
    kept = wdyn.state_dict(run, step=0)
    assert torch.equal(kept["0.weight"], kept["1.weight"])
    assert kept["0.weight"].data_ptr() != kept["1.weight"].data_ptr()


# Other devices, dtypes and sizes.


@pytest.mark.parametrize("layout", ["gpt2", "albert", "phi3", "lstm"])
def test_describe__on_the_meta_device_tells_the_same(layout, layouts, build):
    with torch.device("meta"):
        meta = layouts.BUILDERS[layout]()
    assert all(parameter.is_meta for parameter in meta.parameters())
    assert wdyn.describe(meta).identical(wdyn.describe(build(layout)))


def test_describe__follows_a_model_from_meta_to_memory():
    with torch.device("meta"):
        model = Tiny()
    on_meta = wdyn.describe(model)
    assert on_meta["tied_to"].sel(parameter="head.weight") == "tok.weight"
    model.to_empty(device="cpu")  # torch makes new tensors, one for each name
    assert wdyn.describe(model).drop_vars("tied_to").identical(on_meta.drop_vars("tied_to"))
    shared = model.head.weight is model.tok.weight
    assert (wdyn.describe(model)["tied_to"].sel(parameter="head.weight") == "tok.weight") == shared


class Int8Linear(nn.Module):
    """A linear as people quantise it: the matrix in bytes, and a scale for each output."""

    def __init__(self, fan_in, fan_out):
        super().__init__()
        self.register_buffer("weight", torch.randint(-127, 127, (fan_out, fan_in), dtype=torch.int8))
        self.register_buffer("scales", torch.ones(fan_out, dtype=torch.bfloat16))


def test_watch__of_quantised_buffers_keeps_every_byte(place):
    model = nn.Sequential(Int8Linear(6, 4), nn.Linear(4, 2))
    found = {a.name: (a.role, str(a.kind), a.dtype, a.layer) for a in addresses(model)}
    assert found["0.weight"] == (Role.BUFFER, "buffer", "int8", 0)
    assert found["0.scales"] == (Role.BUFFER, "buffer", "bfloat16", 0)
    kept = wdyn.state_dict(record(model, place), step=0)
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())


def test_addresses__quantised_parameters_keep_their_role(build):
    model = build("llama", fresh=True)
    attention = model.model.layers[0].self_attn
    attention.q_proj.weight = nn.Parameter(attention.q_proj.weight.to(torch.int8), requires_grad=False)
    q = next(a for a in addresses(model) if a.name.endswith("layers.0.self_attn.q_proj.weight"))
    assert (q.role, q.dtype, q.trainable, q.heads) == (Role.Q, "int8", False, 4)


@pytest.fixture
def mesh(tmp_path):
    """A mesh of one process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        yield torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    finally:
        dist.destroy_process_group()


def test_describe__of_dtensors_tells_the_whole_shape_and_the_ties(mesh):
    from torch.distributed.tensor import DTensor, Shard, distribute_module, distribute_tensor

    plain = wdyn.describe(Tiny())

    def shard(name, module, on):
        for key, parameter in list(module.named_parameters(recurse=False)):
            module.register_parameter(key, nn.Parameter(distribute_tensor(parameter, on, [Shard(0)])))

    model = distribute_module(Tiny(), mesh, partition_fn=shard)
    model.head.weight = model.tok.weight
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    assert wdyn.describe(model).identical(plain)


def test_describe__of_two_thousand_tensors_takes_less_than_a_second():
    with torch.device("meta"):
        model = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16) for _ in range(167))
    assert sum(1 for _ in model.parameters()) == 2004
    start = time.process_time()
    table = wdyn.describe(model)
    assert time.process_time() - start < 1
    assert table.sizes["parameter"] == 2004
    assert set(table["layer"].values.tolist()) == set(range(167))


# What changes while it is watched.


def test_watch__tells_once_of_layers_that_were_added_and_appends_their_rows(place):
    torch.manual_seed(0)
    model = Tiny()
    before = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=1, snapshots=1):
        train(model, optimizer, 2)
        model.blocks.append(copy.deepcopy(model.blocks[0]))
        optimizer.add_param_group({"params": list(model.blocks[2].parameters())})
        with pytest.warns(WdynWarning, match=r"had not before step 3: blocks\.2\.\S+, .* and 3 more\.") as warned:
            train(model, optimizer, 3)
    assert len(warned) == 1
    run = wdyn.open_run(place)
    table = wdyn.parameters(run)
    names = table["parameter"].values.tolist()
    assert names[: len(before)] == before
    assert names[len(before) :] == [f"blocks.2.{name}" for name, _ in model.blocks[2].named_parameters()]
    assert table["layer"].values[len(before) :].tolist() == [2] * 6
    std = wdyn.statistics(run)["std"].sel(parameter="blocks.2.attn.qkv.weight")
    assert np.isnan(std.values).tolist() == [True] * 3 + [False] * 3
    assert torch.equal(wdyn.state_dict(run, step=5)["blocks.2.ln.weight"], model.blocks[2].ln.weight)
    assert "blocks.2.ln.weight" not in wdyn.state_dict(run, step=2)


def test_watch__with_select_describes_the_model_once(place, monkeypatch):
    model, calls = Tiny(), []
    real = wdyn.capture.recorder.addresses
    monkeypatch.setattr(wdyn.capture.recorder, "addresses", lambda *a, **k: calls.append(1) or real(*a, **k))
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=1, snapshots=None, select="*qkv*"):
        begun = len(calls)
        train(model, optimizer, 3)
    assert len(calls) == begun
