"""Does init_audit tell adapters that begin as they should from those that do not?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from wdyn.analysis.initialization import init_audit


def adapted(plant: Any, a: str, b: str) -> list[Any]:
    """A normal model of two layers whose q is adapted, each factor "zero" or "drawn"."""
    torch.manual_seed(0)
    fill = {"zero": nn.init.zeros_, "drawn": lambda w: nn.init.kaiming_uniform_(w, a=5**0.5)}
    parameters = []
    for layer in range(2):
        path = f"h.{layer}.q_proj"
        parameters += [
            plant(f"{path}.base_layer.weight", "q", nn.init.normal_(torch.empty(96, 96), std=0.02).numpy()[None]),
            plant(f"h.{layer}.k_proj.weight", "k", nn.init.normal_(torch.empty(96, 96), std=0.02).numpy()[None]),
            plant(f"{path}.lora_A.default.weight", "q", fill[a](torch.empty(8, 96)).numpy()[None]),
            plant(f"{path}.lora_B.default.weight", "q", fill[b](torch.empty(96, 8)).numpy()[None]),
        ]
    return parameters


@pytest.mark.parametrize(
    ("a", "b", "codes"),
    [("drawn", "zero", []), ("zero", "drawn", []), ("zero", "zero", ["INI009"]), ("drawn", "drawn", ["INI010"])],
)
def test_adapter__needs_one_factor_at_zero(a: str, b: str, codes: list[str], plant: Any, tree: Any) -> None:
    result = init_audit(tree(adapted(plant, a, b)))
    findings = init_audit.judge(result)
    assert [one.code for one in findings] == codes
    for one in findings:
        assert one.evidence.sizes["parameter"] == 4
        assert all("lora_" in name for name in one.evidence["parameter"].values)
    rules = result["rule"].to_series()
    assert rules["h.1.q_proj.lora_A.default.weight"] == ("torch default" if a == "drawn" else "zeros")


def test_adapter__without_its_second_factor_is_not_judged(plant: Any, tree: Any) -> None:
    halves = [one for one in adapted(plant, "zero", "zero") if "lora_B" not in one.name]
    assert init_audit.judge(init_audit(tree(halves))) == ()
