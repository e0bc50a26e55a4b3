"""Does the example about first values and growth run, and does what its code promises of the first values hold?"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "init_and_growth.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    specification = importlib.util.spec_from_file_location("init_and_growth_example", EXAMPLE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def test_example__holds_what_its_code_promises(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "SHORT_EPOCHS", 5)
    threads = torch.get_num_threads()
    try:
        claims = example.main(tmp_path, figures=tmp_path / "figures", short=True)
    finally:
        torch.set_num_threads(threads)
    of_first_values = [one for one in claims if one.text.startswith("width 48, length 32")]
    assert [one.held for one in of_first_values] == [True] * 4
    assert "here 0.158" in of_first_values[2].text
    assert next(one for one in claims if one.text == "qkv is narrow around 0 at first").held
    assert {one.text.split(":")[0] for one in claims if one.text.endswith("move first")} == set(example.ROLES)
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"distribution.png", "growth.png", "std-by-layer.png", "qkv-000-epochs.png"} <= figures


def test_xavier__of_256_positions_of_width_768_is_0_044(example: ModuleType) -> None:
    torch.manual_seed(0)
    shape = example.Shape(alphabet=16, length=256, layers=1, width=768)
    model = example.GPT(shape)
    assert shape.xavier == pytest.approx(0.0442, abs=5e-5)
    assert float(model.pos.weight.detach().std()) == pytest.approx(shape.xavier, rel=0.01)
    assert model.tok.weight is model.head.weight
    assert float(model.tok.weight.detach().std()) == pytest.approx(0.02, rel=0.03)


def test_near__allows_four_standard_errors(example: ModuleType) -> None:
    assert example.near(0.02, 0.02 * 1.02, 10_000)
    assert not example.near(0.02, 0.02 * 1.04, 10_000)
