"""Does init_audit recognise what torch.nn.init wrote, and report what differs?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose
from torch import nn

import wdyn
from wdyn.analysis.initialization import init_audit
from wdyn.errors import InvalidArgument

LAYERS, WIDTH, VOCAB, LENGTH = 4, 768, 600, 256
SCALED = 0.02 / math.sqrt(2 * LAYERS)


def gpt(*, tied: bool = True, seed: int = 0, embedding: Any = nn.init.xavier_normal_) -> dict[str, torch.Tensor]:
    """Weights as a GPT's constructor leaves them, one layer's worth of widths kept small."""
    torch.manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    for layer in range(LAYERS):
        for path, rows, columns, std in (
            ("attn.c_attn", 3 * 96, 96, 0.02),
            ("attn.c_proj", 96, 96, SCALED),
            ("mlp.c_fc", 384, 96, 0.02),
            ("mlp.c_proj", 96, 384, SCALED),
        ):
            linear = nn.Linear(columns, rows)
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)
            weights |= {f"h.{layer}.{path}.weight": linear.weight, f"h.{layer}.{path}.bias": linear.bias}
        weights[f"h.{layer}.ln_1.weight"] = nn.LayerNorm(96).weight
    position, token = nn.Embedding(LENGTH, WIDTH), nn.Embedding(VOCAB, WIDTH)
    embedding(position.weight)
    embedding(token.weight)
    head = nn.Linear(WIDTH, VOCAB, bias=False)
    nn.init.normal_(head.weight, std=0.02)
    if tied:
        token.weight = head.weight
    weights |= {"wte.weight": token.weight, "wpe.weight": position.weight, "lm_head.weight": head.weight}
    return {name: weight.detach() for name, weight in weights.items()}


ROLES = {"c_attn": "qkv", "attn.c_proj": "o", "c_fc": "mlp_up", "mlp.c_proj": "mlp_down", "ln_1": "norm"}
ROLES |= {"wte": "embedding", "wpe": "pos_embedding", "lm_head": "unembedding"}


def planted(plant: Any, weights: dict[str, torch.Tensor], *, tied: bool = True) -> list[Any]:
    def one(name: str, weight: torch.Tensor) -> Any:
        return plant(
            name=name,
            role=next(role for word, role in ROLES.items() if word in name),
            values=weight.numpy()[None],
            kind="bias" if name.endswith("bias") else "weight",
            layer=int(name.split(".")[1]) if name.startswith("h.") else -1,
            tied_to="wte.weight" if tied and name == "lm_head.weight" else "",
            module="Embedding" if name.startswith("w") else "Linear",
        )

    return [one(name, weight) for name, weight in weights.items()]


def codes(result: xr.Dataset, **limits: Any) -> set[str]:
    return {finding.code for finding in init_audit.judge(result, **limits)}


def test_init_audit__reproduces_the_first_values_of_a_gpt_with_a_tied_head(plant: Any, tree: Any) -> None:
    weights = gpt()
    result = init_audit(tree(planted(plant, weights)))
    by_role = result.sel(parameter=result["kind"] == "weight").set_index(parameter="role")

    def of(role: str, column: str) -> list[Any]:
        return np.atleast_1d(by_role[column].sel(parameter=role).values).tolist()

    assert set(of("qkv", "rule")) == set(of("mlp_up", "rule")) == {"normal(0.02)"}
    assert set(of("o", "rule")) == set(of("mlp_down", "rule")) == {"depth-scaled(0.02)"}
    assert_allclose(of("o", "expected_std"), 0.02 / math.sqrt(2 * LAYERS))
    assert of("embedding", "rule") == of("unembedding", "rule") == ["normal(0.02)"]
    assert of("pos_embedding", "rule") == ["xavier_normal"]
    assert_allclose(of("pos_embedding", "expected_std"), math.sqrt(2 / (256 + 768)))
    assert round(of("pos_embedding", "std")[0], 3) == 0.044
    assert set(of("norm", "rule")) == {"ones"}
    assert set(result["rule"].values[result["kind"].values == "bias"]) == {"zeros"}
    verdicts = result["verdict"].to_series()
    assert verdicts.pop("wte.weight") == "overridden by tying"
    assert set(verdicts) == {"fits"}
    overridden = next(f for f in init_audit.judge(result) if f.code == "INI003")
    assert all(name in overridden.message for name in ("wte.weight", "lm_head.weight", "wpe.weight"))
    assert set(overridden.evidence["parameter"].values) == {"wte.weight", "lm_head.weight", "wpe.weight"}
    assert codes(result) == {"INI003"}


def test_init_audit__equals_float64_numpy(plant: Any, tree: Any) -> None:
    weights = gpt(seed=1)
    result = init_audit(tree(planted(plant, weights)))
    for name, weight in weights.items():
        exact = weight.double().numpy()
        one = result.sel(parameter=name)
        assert_allclose(one["std"], exact.std(), rtol=1e-12)
        if one["rule"].item().startswith(("normal", "xavier", "depth")):
            assert_allclose(one["standard_error"], one["expected_std"] / math.sqrt(2 * exact.size), rtol=1e-12)
            assert_allclose(one["z"], (exact.std() - one["expected_std"]) / one["standard_error"], rtol=1e-9)
            assert abs(one["z"]) < 4
            assert_allclose(one["logit_scale"], exact.std() * math.sqrt(exact.shape[1]), rtol=1e-12)


def scaled(w: torch.Tensor, std: float) -> torch.Tensor:
    return nn.init.normal_(w, std=std)


# By role, of a matrix of 170 inputs in each of 6 blocks.
PLACED_RULES = {
    "depth-scaled(0.02)": ("o", lambda w: scaled(w, 0.02 / math.sqrt(2 * 6))),
    "wang_init": ("mlp_down", lambda w: scaled(w, 2 / 6 / math.sqrt(300))),
    "small_init": ("q", lambda w: scaled(w, math.sqrt(2 / (5 * 170)))),
    "1/sqrt(fan_in)": ("mlp_up", lambda w: scaled(w, 170**-0.5)),
    "1/fan_in": ("unembedding", lambda w: scaled(w, 1 / 170)),
    "lecun_normal": ("mlp_up", lambda w: nn.init.trunc_normal_(w, 0, 0.0872, -2 * 0.0872, 2 * 0.0872)),
}


@pytest.mark.parametrize("rule", PLACED_RULES)
def test_rule_of_a_place__is_recognised_there_and_not_at_another_spread(rule: str, plant: Any, tree: Any) -> None:
    role, fill = PLACED_RULES[rule]
    torch.manual_seed(0)
    right = [fill(torch.empty(300, 170)).numpy()[None] for _ in range(6)]

    def audit(factor: float) -> set[str]:
        run = tree([plant(f"h.{at}.w", role, factor * one, layer=at) for at, one in enumerate(right)])
        return set(init_audit(run)["rule"].values.tolist())

    assert audit(1.0) == {rule}
    assert rule not in audit(1.05)


TORCH_RULES = {
    "torch default": lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)),
    "xavier_normal": nn.init.xavier_normal_,
    "xavier_uniform": nn.init.xavier_uniform_,
    "kaiming_normal": nn.init.kaiming_normal_,
    "kaiming_uniform": nn.init.kaiming_uniform_,
    "kaiming_normal by fan_out": lambda w: nn.init.kaiming_normal_(w, mode="fan_out"),
    "normal(0.02)": lambda w: nn.init.normal_(w, std=0.02),
    "truncated_normal(0.02)": lambda w: nn.init.trunc_normal_(w, std=0.02, a=-0.04, b=0.04),
    "truncated_normal(0.02, 3 sigma)": lambda w: nn.init.trunc_normal_(w, std=0.02, a=-0.06, b=0.06),
    "normal(1)": nn.init.normal_,
    "zeros": nn.init.zeros_,
    "ones": nn.init.ones_,
}


@pytest.mark.parametrize("rule", TORCH_RULES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rule__is_recognised_as_torch_wrote_it(rule: str, seed: int, plant: Any, tree: Any) -> None:
    torch.manual_seed(seed)
    weight = torch.empty(300, 170)
    TORCH_RULES[rule](weight)
    one = init_audit(tree([plant("fc.weight", "linear", weight.numpy()[None])])).isel(parameter=0)
    assert one["rule"].item() == rule
    assert one["verdict"].item() == "fits"


def test_cut_at_3_sigma__is_told_from_a_normal_by_its_reach_where_the_kurtosis_cannot(plant: Any, tree: Any) -> None:
    torch.manual_seed(0)
    cut = nn.init.trunc_normal_(torch.empty(100, 100), std=0.02, a=-0.06, b=0.06)
    run = tree([plant("fc.weight", "linear", cut.numpy()[None])])
    assert abs(wdyn.statistics(run)["kurtosis"].item() - 3) < 4 * math.sqrt(24 / 10_000)
    assert init_audit(run)["rule"].item() == "truncated_normal(0.02, 3 sigma)"


def test_rule__that_few_values_cannot_tell_from_a_rare_one_is_the_common_one(plant: Any, tree: Any) -> None:
    rules = []
    for seed in range(20):
        torch.manual_seed(seed)
        weight = nn.Linear(8, 16).weight.detach().numpy()
        rules.append(init_audit(tree([plant("fc.weight", "linear", weight[None])]))["rule"].item())
    assert rules.count("torch default") >= 17


def test_rule__of_a_convolution_counts_the_kernel(plant: Any, tree: Any) -> None:
    torch.manual_seed(0)
    weight = nn.init.kaiming_normal_(torch.empty(64, 32, 3, 3))
    dims = ("fan_out", "fan_in", "height", "width")
    result = init_audit(tree([plant("conv.weight", "conv", weight.numpy()[None], dims=dims)])).isel(parameter=0)
    assert (result["fan_in"], result["fan_out"]) == (32 * 9, 64 * 9)
    assert result["rule"].item() == "kaiming_normal"


def test_rule__of_a_fused_weight_is_tried_whole_and_by_part(plant: Any, tree: Any) -> None:
    from wdyn.schema import Parts

    torch.manual_seed(0)
    parts = Parts(axis=0, names=("q", "k", "v"), sizes=(128, 128, 128))
    fused = torch.cat([nn.init.xavier_uniform_(torch.empty(128, 128)) for _ in range(3)])
    whole = nn.init.xavier_uniform_(torch.empty(384, 128))
    run = tree(
        [
            plant("a.qkv.weight", "qkv", fused.numpy()[None], parts=parts),
            plant("b.qkv.weight", "qkv", whole.numpy()[None], parts=parts),
        ]
    )
    assert init_audit(run)["rule"].values.tolist() == ["xavier_uniform by part", "xavier_uniform"]


def test_bias__of_a_default_linear_is_recognised_by_its_matrix(plant: Any, tree: Any) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(300, 400)
    run = tree(
        [
            plant("fc.weight", "linear", linear.weight.detach().numpy()[None]),
            plant("fc.bias", "linear", linear.bias.detach().numpy()[None], kind="bias"),
        ]
    )
    assert init_audit(run)["rule"].values.tolist() == ["torch default", "torch default"]


def test_recurrent_weights__follow_the_hidden_width(plant: Any, tree: Any) -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(100, 64)
    run = tree(
        [
            plant("weight_ih_l0", "rnn_ih", lstm.weight_ih_l0.detach().numpy()[None], module="LSTM"),
            plant("weight_hh_l0", "rnn_hh", lstm.weight_hh_l0.detach().numpy()[None], module="LSTM"),
        ]
    )
    assert set(init_audit(run)["rule"].values) == {"torch default"}


def test_expected__confirms_or_denies_what_was_meant(plant: Any, tree: Any) -> None:
    run = tree(planted(plant, gpt(tied=False), tied=False))
    right = init_audit(run, expected={"h.*.c_fc.weight": 0.02, "wpe.*": "xavier_normal", "*.bias": "zeros"})
    assert "INI001" not in codes(right)
    assert right["verdict"].sel(parameter="wpe.weight") == "as meant"
    wrong = init_audit(run, expected={"h.*.c_fc.weight": "depth_scaled(0.02)"})
    found = [f for f in init_audit.judge(wrong) if f.code == "INI001"]
    assert len(found) == 1
    assert found[0].evidence.sizes["parameter"] == LAYERS
    assert "and 1 more" in found[0].message
    assert "expected={'h.*.c_fc.weight'" in found[0].reproduce


def test_expected__of_a_tied_embedding_is_explained_by_the_tie(plant: Any, tree: Any) -> None:
    result = init_audit(tree(planted(plant, gpt())), expected={"wte.weight": "xavier_normal"})
    assert codes(result) == {"INI003"}
    assert result["verdict"].sel(parameter="wte.weight") == "overridden by tying"
    meant = init_audit(tree(planted(plant, gpt())), expected={"wte.weight": 0.02})
    assert codes(meant) == set()
    assert meant["verdict"].sel(parameter="wte.weight") == "as meant"


def test_expected__that_matches_nothing_or_is_no_rule_is_refused(plant: Any, tree: Any) -> None:
    run = tree(planted(plant, gpt()))
    with pytest.raises(InvalidArgument, match=r"matches no parameter\. Closest: wte\.weight"):
        init_audit(run, expected={"wtf.weight": 0.02})
    with pytest.raises(InvalidArgument, match="'xavier' is not known for this parameter"):
        init_audit(run, expected={"wte.weight": "xavier"})
    with pytest.raises(InvalidArgument, match="needs a parameter that stands in a block"):
        init_audit(run, expected={"wte.weight": "depth_scaled(0.02)"})


def test_wide_head__is_found_through_its_tie_and_not_when_narrow(plant: Any, tree: Any) -> None:
    weights = gpt()
    weights["wte.weight"] = weights["lm_head.weight"] = torch.randn(VOCAB, WIDTH)
    result = init_audit(tree(planted(plant, weights)))
    found = [f for f in init_audit.judge(result) if f.code == "INI002"]
    assert len(found) == 1
    assert "lm_head.weight, tied to wte.weight" in found[0].message
    assert_allclose(result["logit_scale"].sel(parameter="lm_head.weight"), math.sqrt(WIDTH), rtol=0.01)
    assert "INI004" not in codes(result)
    assert "INI002" not in codes(init_audit(tree(planted(plant, gpt()))))


def test_default_embedding__is_told_only_when_untied(plant: Any, tree: Any) -> None:
    result = init_audit(tree(planted(plant, gpt(tied=False, embedding=nn.init.normal_), tied=False)))
    assert codes(result) == {"INI004"}


def test_override__is_not_claimed_where_embeddings_follow_the_linear_layers(plant: Any, tree: Any) -> None:
    weights = gpt(embedding=lambda w: nn.init.normal_(w, std=0.02))
    assert codes(init_audit(tree(planted(plant, weights)))) == set()


def test_override__is_not_claimed_where_nothing_tells_what_the_embedding_would_have_been(plant: Any, tree: Any) -> None:
    weights = {name: weight for name, weight in gpt().items() if name != "wpe.weight"}
    assert codes(init_audit(tree(planted(plant, weights)))) == set()
    told = init_audit(tree(planted(plant, weights)), expected={"wte.weight": "xavier_normal"})
    assert codes(told) == {"INI003"}


def test_depth_scale__that_all_follow_or_none_is_no_finding(plant: Any, tree: Any) -> None:
    weights = gpt(embedding=lambda w: nn.init.normal_(w, std=0.02))
    plain = {name: torch.randn_like(w) * 0.02 if "c_proj.weight" in name else w for name, w in weights.items()}
    for one in (weights, plain):
        assert "INI005" not in codes(init_audit(tree(planted(plant, one))))


def test_depth_scale__missed_by_some_layers_is_one_finding(plant: Any, tree: Any) -> None:
    weights = gpt()
    for layer in (1, 3):
        name = f"h.{layer}.mlp.c_proj.weight"
        weights[name] = torch.randn_like(weights[name]) * 0.02
    found = [f for f in init_audit.judge(init_audit(tree(planted(plant, weights)))) if f.code == "INI005"]
    assert len(found) == 1
    assert found[0].evidence["layer"].values.tolist() == [1, 3]


def test_module_left_at_default__is_found(plant: Any, tree: Any) -> None:
    weights = gpt()
    weights["h.2.mlp.c_fc.weight"] = nn.Linear(96, 384).weight.detach()
    found = [f for f in init_audit.judge(init_audit(tree(planted(plant, weights)))) if f.code == "INI007"]
    assert [f.evidence["parameter"].values.tolist() for f in found] == [["h.2.mlp.c_fc.weight"]]


def test_trained_weights__match_no_initializer(plant: Any, tree: Any) -> None:
    weights = {name: weight * 1.37 if weight.ndim == 2 else weight for name, weight in gpt().items()}
    assert "INI008" in codes(init_audit(tree(planted(plant, weights))))


def test_nan__is_an_error_and_hides_nothing_else(plant: Any, tree: Any) -> None:
    weights = gpt()
    weights["h.0.attn.c_attn.weight"] = weights["h.0.attn.c_attn.weight"].clone()
    weights["h.0.attn.c_attn.weight"][3, :5] = torch.nan
    result = init_audit(tree(planted(plant, weights)))
    assert codes(result) == {"INI003", "INI006"}
    assert result["nonfinite"].sel(parameter="h.0.attn.c_attn.weight") == 5
    assert result["verdict"].sel(parameter="h.0.attn.c_attn.weight") == "not finite"
    assert result["verdict"].sel(parameter="h.1.attn.c_attn.weight") == "fits"


def test_odd_parameters__get_a_verdict_each(plant: Any, tree: Any) -> None:
    run = tree(
        [
            plant("scalar", "other", np.float32(0.3)[None]),
            plant("one", "other", np.ones((1, 1), np.float32)),
            plant("seven", "other", np.full((1, 3), 7, np.float32)),
            plant("empty", "other", np.empty((1, 0, 4), np.float32)),
            plant("quantized", "linear", np.random.default_rng(0).integers(-8, 8, (1, 40, 40)).astype(np.int8)),
            plant("complex", "other", np.ones((1, 3), np.complex64)),
            plant("few", "other", np.array([[0.1, 0.2, 0.3]], np.float32)),
            plant("running_mean", "buffer", np.ones((1, 3), np.float32), kind="buffer"),
        ]
    )
    verdicts = init_audit(run)["verdict"].to_series().to_dict()
    assert verdicts == {
        "scalar": "too few values",
        "one": "fits",
        "seven": "fits",
        "empty": "empty",
        "quantized": "unknown",
        "complex": "not recorded",
        "few": "too few values",
    }


def test_init_audit__is_skipped_when_recording_began_later(plant: Any, tree: Any) -> None:
    late = tree([plant("fc.weight", "linear", np.ones((1, 3, 3)))], steps=[500])
    assert init_audit(late).attrs["skipped"] == "recording began at step 500, when the weights had been trained already"
    del late["statistics"]
    assert "no statistics" in init_audit(late).attrs["skipped"]
    assert init_audit.judge(init_audit(late)) == ()
