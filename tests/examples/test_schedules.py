"""Does the example about schedules run, and does what formulas promise hold?"""

from __future__ import annotations

import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "schedules.py"


@pytest.fixture(scope="module")
def example() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(EXAMPLE), run_name="example"))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:what='displacement'")
def test_example__holds_what_formulas_promise(example: SimpleNamespace, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        claims = example.main(["--short", str(tmp_path)])
    finally:
        torch.set_num_threads(threads)
    promised = [claim for claim in claims if not claim.text.startswith("Said")]
    assert len(promised) == 11
    assert all(claim.held for claim in promised)
    assert len(claims) > len(promised)


def test_cosine__is_the_formula(example: SimpleNamespace) -> None:
    assert [example.cosine(t, 100) for t in (0, 50, 100)] == pytest.approx([1, 0.5, 0])
    assert example.cosine(25, 100, cycles=2, floor=0.2) == pytest.approx(0.2 + 0.4 * (1 + math.cos(math.pi)))


def test_flow__is_what_small_steps_converge_to(example: SimpleNamespace) -> None:
    for total in (0.5, 3.0, 20.0):
        d, count = 0.0, 200_000
        for _ in range(count):
            d += math.sqrt(2) * min(example.LIMIT, math.sqrt(2) / (1 + math.exp(d))) * total / count
        assert example.flow(total) == pytest.approx(d / math.sqrt(2), rel=1e-4)


def test_figures__of_known_losses(example: SimpleNamespace) -> None:
    falling = example.Figures.of(np.array([[4.0, 3.0, 2.0], [4.0, 3.0, 1.0]]))
    assert (falling.convergence, falling.roughness, falling.instability, falling.spread) == (1.5, 1.0, 0.0, 0.5)
    rough = example.Figures.of(np.array([[4.0, 2.0, 3.0]]))
    assert (rough.roughness, rough.instability) == (3.0, 1.0)
