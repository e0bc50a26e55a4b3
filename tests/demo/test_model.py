"""Is the model a GPT: causal, tied, and initialised by the rules that the report is to find again?"""

import math

import pytest
import torch

from wdyn.demo.model import GPT, Shape

SHAPE = Shape(alphabet=200, length=64, layers=4, width=96, heads=4)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return GPT(SHAPE).eval()


def near(std, count):
    """Five standard errors of the standard deviation of `count` normal numbers."""
    return pytest.approx(std, abs=5 * std / math.sqrt(2 * count))


def test_gpt__sees_nothing_of_what_follows(model):
    tokens = torch.arange(20).reshape(1, -1)
    changed = tokens.clone()
    changed[0, 12:] = 150
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


def test_gpt__sees_what_came_before_and_where(model):
    with torch.no_grad():
        one, other = model(torch.tensor([[1, 2, 3]])), model(torch.tensor([[2, 1, 3]]))
        repeated = model(torch.tensor([[3, 3]]))
    assert not torch.allclose(one[0, -1], other[0, -1])
    assert not torch.allclose(repeated[0, 0], repeated[0, 1])


def test_gpt__ties_embedding_and_head(model):
    assert model.wte.weight is model.lm_head.weight
    assert len(list(model.parameters())) == len(dict(model.named_parameters(remove_duplicate=False))) - 1


def test_gpt__starts_as_the_rules_say(model):
    residual = 0.02 / math.sqrt(2 * SHAPE.layers)
    xavier = math.sqrt(2 / (SHAPE.length + SHAPE.width))
    for name, weight in model.named_parameters():
        values = weight.detach().double()
        if name.endswith("bias"):
            assert not values.any(), name
        elif name.endswith("c_proj.weight"):
            assert values.std().item() == near(residual, values.numel()), name
        elif name.endswith(("c_attn.weight", "c_fc.weight")):
            assert values.std().item() == near(0.02, values.numel()), name
    assert model.wte.weight.std().item() == near(0.02, model.wte.weight.numel())
    assert model.wpe.weight.std().item() == near(xavier, model.wpe.weight.numel())


def test_gpt__drops_out_only_while_it_learns(model):
    tokens = torch.arange(10).reshape(1, -1)
    with torch.no_grad():
        assert torch.equal(model(tokens), model(tokens))
        try:
            assert not torch.equal(model.train()(tokens), model(tokens))
        finally:
            model.eval()
