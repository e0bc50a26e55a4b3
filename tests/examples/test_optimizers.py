"""Does the example about optimizers run, and does what it claims of one weight hold?"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

EXAMPLE = Path(__file__).parents[2] / "examples" / "optimizers.py"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE), run_name="example")


@pytest.mark.long
def test_example__finds_what_it_is_known_to_find(example: dict[str, Any], tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        claims = example["main"](tmp_path, figures=tmp_path / "figures", short=True)
    finally:
        torch.set_num_threads(threads)
    of_one_weight = [one for one in claims if one.text.startswith("goal pi")]
    assert len(of_one_weight) == 6
    assert [one.held for one in of_one_weight] == [one.known for one in of_one_weight]
    exact = next(one for one in claims if one.text == "transformer: AdamW without decay is Adam")
    assert exact.held
    figures = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert figures == [
        "state-Adam-without-reset.png", "state-Adam.png", "transformer-without-reset.png", "transformer.png",
        "weight-pi-without-reset.png", "weight-pi.png",
    ]  # fmt: skip


def test_measures__of_known_paths(example: dict[str, Any]) -> None:
    steps = np.arange(100)
    wave = xr.DataArray(2 + np.sin(np.arccos(0.9) * steps + 1), {"step": steps}, dims="step")
    assert example["sine_fit"](wave, 2.0) > 1 - 1e-12
    assert example["sine_fit"](wave.copy(data=2 + np.sin(0.1 * steps)), 2.0) < 0.5
    assert example["crossings"](wave, 2.0) == int(np.floor((np.arccos(0.9) * 99 + 1) / np.pi))
    assert example["swing"](wave, 2.0) == pytest.approx(1, abs=0.01)
    ramp = wave.copy(data=np.minimum(steps / 10.0, 2.0))
    assert example["settled"](ramp, 2.0) == 20
    assert example["settled"](wave, 2.0) == np.inf
    assert example["roughness"](ramp) == pytest.approx(0.1)
