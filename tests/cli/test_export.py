"""Does `wdyn export` write what was asked for, and say what it wrote?"""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import wdyn as library


def test_export__writes_the_step_that_is_asked_for(wdyn, saved, tmp_path):
    result = wdyn("export", saved, "--step", 0, "--to", "model.safetensors")
    assert result.exit_code == 0, result.output
    expected = library.state_dict(library.open_run(saved), step=0)
    found = load_file(tmp_path / "model.safetensors")
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
    assert result.output.startswith(f"Wrote model.safetensors: {len(expected)} weights of step 0 in ")
    tied = expected.keys() - found.keys()
    assert [name for name in tied if f"{name} with " not in result.output] == []
    assert tied


def test_export__tells_which_step_is_the_last(wdyn, saved):
    steps = library.open_run(saved)["weights"].children
    last = max(int(node["step"].max()) for node in steps.values())
    result = wdyn("export", saved, "--to", "state.pt")
    assert f"weights of step {last}, the last snapshot, in" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--to", "there.pt"), "there.pt exists. Replace it with overwrite=True (--force), or export elsewhere"),
        (("--to", "a.pt", "--step", "7"), "No snapshot at step 7; the nearest are at"),
        (("--to", "folder"), "--config"),
        (("--to", "a.gguf"), "a.gguf ends in .gguf. Needed is .safetensors, .pt, .pth, .bin, or the name of a folder"),
    ],
)
def test_export__that_cannot_be_leaves_with_2(wdyn, saved, tmp_path, arguments, says):
    (tmp_path / "there.pt").write_text("mine")
    result = wdyn("export", saved, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "there.pt").read_text() == "mine"


def test_export__shows_names_that_would_steer_the_terminal(wdyn, tmp_path):
    model = nn.Linear(2, 2)
    model._parameters["\x1b[31mred"] = model.weight
    with library.watch(model, to=tmp_path / "run.zarr") as w:
        w.step()
    result = wdyn("export", "run.zarr", "--to", "m.pt")
    assert "red with weight" in result.output
    assert "\x1b" not in result.output


def test_export__replaces_when_forced(wdyn, saved, tmp_path):
    (tmp_path / "there.pt").write_text("mine")
    assert wdyn("export", saved, "--to", "there.pt", "--force").exit_code == 0
    assert torch.load(tmp_path / "there.pt", weights_only=True)
