"""Does the figure of the first values say what a tie replaced, and what the parts of a fused weight follow?"""

from __future__ import annotations

import numpy as np
import pytest

import wdyn
from wdyn.plots.initialization import answer, plot
from wdyn.testing import make_run


@pytest.mark.parametrize("tied", [True, False])
def test_figure__names_an_embedding_that_a_tie_replaced(tied: bool) -> None:
    run = make_run(std={"pos.weight": 0.15, "*": 0.02}, width=64, tied=tied)
    result = wdyn.init_audit(run)
    assert (result["verdict"].sel(parameter="tok.weight").item() == "overridden by tying") is tied
    assert ("tok.weight by the head that it is tied to" in answer(result)) is tied
    texts = [text.get_text() for text in plot(result).axes[0].texts]
    assert ("normal(0.02), of its head" in texts) is tied


def test_figure__writes_the_rule_of_each_part_on_a_line_of_its_own() -> None:
    result = wdyn.init_audit(make_run(width=64))
    of_qkv = result["role"].values == "qkv"
    result["rule"] = result["rule"].copy(data=np.where(of_qkv, "q, k: normal(0.02); v: zeros", result["rule"].values))
    texts = [text.get_text() for text in plot(result).axes[0].texts]
    assert "q, k: normal(0.02)\nv: zeros" in texts
