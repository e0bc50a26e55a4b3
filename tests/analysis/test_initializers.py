"""Do the rules give the spread that scipy and torch give?"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats
from torch import nn

from wdyn.analysis.initializers import KURTOSIS, REACH, Facts, Rule, candidates, parse_rule
from wdyn.errors import InvalidArgument

DISTRIBUTIONS = {
    "normal": stats.norm(),
    "uniform": stats.uniform(-1, 2),
    "truncated at 2 sigma": stats.truncnorm(-2, 2),
    "truncated at 3 sigma": stats.truncnorm(-3, 3),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_shape_of_a_distribution__equals_scipy(name: str) -> None:
    exact = DISTRIBUTIONS[name]
    assert_allclose(KURTOSIS[name], 3 + exact.stats(moments="k"), rtol=1e-6)
    assert_allclose(REACH[name], exact.support()[1] / exact.std(), rtol=1e-9)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_standard_error__is_the_spread_of_the_std_of_many_draws(name: str) -> None:
    exact, count = DISTRIBUTIONS[name], 400
    draws = exact.rvs(size=(3000, count), random_state=np.random.default_rng(0))
    expected = Rule("", name, exact.std()).standard_error(count)
    assert_allclose(draws.std(axis=1).std(), expected, rtol=0.05)


@given(st.integers(2, 2000), st.integers(2, 2000))
def test_rules_by_fans__equal_torch(fan_in: int, fan_out: int) -> None:
    meta = torch.empty(fan_out, fan_in, device="meta")
    rules = {rule.name: rule.std for rule in candidates(Facts(fan_in=fan_in, fan_out=fan_out))}
    known_in, known_out = nn.init._calculate_fan_in_and_fan_out(meta)
    assert_allclose(rules["xavier_normal"], math.sqrt(2 / (known_in + known_out)))
    assert_allclose(rules["xavier_uniform"], rules["xavier_normal"])
    gain = nn.init.calculate_gain("leaky_relu", math.sqrt(5))
    assert_allclose(rules["torch default"], gain / math.sqrt(known_in))
    assert_allclose(rules["kaiming_normal"], nn.init.calculate_gain("relu") / math.sqrt(known_in))
    assert_allclose(rules["kaiming_uniform by fan_out"], nn.init.calculate_gain("relu") / math.sqrt(known_out))


def test_vectors_and_matrices_outside_blocks__get_no_rule_that_they_lack_the_facts_for() -> None:
    names = {rule.name for rule in candidates(Facts())}
    assert "zeros" in names
    assert "xavier_normal" not in names
    assert not any("depth" in name for name in names)


@pytest.mark.parametrize(
    ("text", "std", "mean"),
    [
        (0.03, 0.03, 0.0),
        ("normal(0.03)", 0.03, 0.0),
        ("uniform(0.3)", 0.3 / math.sqrt(3), 0.0),
        ("truncated_normal(1.5)", 1.5 * 0.8796256610342398, 0.0),
        ("depth_scaled(0.02)", 0.02 / math.sqrt(24), 0.0),
        ("constant(0.5)", 0.0, 0.5),
        ("mup", 1 / 8, 0.0),
        ("mup(0.4)", 0.4 / 8, 0.0),
        ("ones", 0.0, 1.0),
        ("torch_default", 1 / math.sqrt(3 * 64), 0.0),
    ],
)
def test_rule__is_read_as_a_person_writes_it(text: str | float, std: float, mean: float) -> None:
    rule = parse_rule(text, Facts(fan_in=64, fan_out=32, layers=12))
    assert_allclose([rule.std, rule.mean], [std, mean])


def test_mup__of_an_output_falls_with_its_width_and_of_a_vector_is_refused() -> None:
    assert parse_rule("mup(2)", Facts(fan_in=64, fan_out=1000, output=True)).std == 2 / 64
    with pytest.raises(InvalidArgument, match=r"mup\(1\) needs a matrix"):
        parse_rule("mup", Facts())


def test_fused_weight__has_both_spreads_of_every_rule_that_counts_outputs() -> None:
    rules = {rule.name: rule.std for rule in candidates(Facts(fan_in=64, fan_out=192, part_fan_out=64))}
    for draw, name in ((nn.init.xavier_uniform_, "xavier_uniform"), (nn.init.xavier_normal_, "xavier_normal")):
        torch.manual_seed(0)
        whole, part = draw(torch.empty(192, 64)), torch.cat([draw(torch.empty(64, 64)) for _ in range(3)])
        assert_allclose(rules[name], whole.std(), rtol=0.03)
        assert_allclose(rules[f"{name} by part"], part.std(), rtol=0.03)
    assert rules["kaiming_normal by fan_out by part"] == math.sqrt(2 / 64)
    assert "kaiming_normal by part" not in rules  # by fan_in, parts or not is the same


@pytest.mark.parametrize("text", ["normal(1e)", "uniform(-)"])
def test_rule__without_a_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="needs a number in its brackets"):
        parse_rule(text, Facts())
