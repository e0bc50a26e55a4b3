"""Does `wdyn import` make a run, say what told the steps, and fail clearly?"""

import pytest
import torch
from safetensors.torch import save_file

from wdyn import open_run


@pytest.fixture
def series(tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    for step in (2, 10):
        save_file({"h.0.w": torch.full((2, 2), float(step))}, folder / f"step_{step}.safetensors")
    return folder


def test_import__makes_a_run_and_says_what_told_its_steps(wdyn, series):
    done = wdyn("import", series, "--to", "run.zarr", "--what", "displacement")
    assert done.exit_code == 0, done.output
    assert done.output == (
        "run.zarr holds 2 checkpoints, steps 2 to 10, as told by its name.\nNext: wdyn report run.zarr\n"
    )
    run = open_run("run.zarr")
    assert run["statistics/displacement"]["mean"].values.ravel().tolist() == [0.0, 8.0]
    assert wdyn("report", "run.zarr").exit_code == 0


def test_import__again_says_that_nothing_was_new(wdyn, series):
    assert wdyn("import", series / "step_2.safetensors", "--to", "run.zarr").output.startswith(
        "run.zarr holds 1 checkpoint, step 2, as told by its name.\nNext"
    )
    assert "Nothing was new" not in wdyn("import", series, "--to", "run.zarr").output
    done = wdyn("import", series, "--to", "run.zarr")
    assert done.output == (
        "run.zarr holds 2 checkpoints, steps 2 to 10, as told by its name.\nNothing was new.\n"
        "Next: wdyn report run.zarr\n"
    )


def test_import__takes_files_and_a_pattern(wdyn, series):
    files = sorted(series.iterdir())
    done = wdyn("import", *files, "--to", "run.zarr", "--step-pattern", r"(\d)\d*\.")
    assert done.exit_code == 0, done.output
    assert "steps 1 to 2, as told by its name, by" in done.output


def test_import__of_several_models_asks_for_a_key(wdyn, tmp_path):
    torch.save({"model": {"w": torch.zeros(2)}, "ema": {"w": torch.ones(2)}}, tmp_path / "step_1.pt")
    done = wdyn("import", "step_1.pt", "--to", "run.zarr")
    assert done.exit_code == 2
    assert "holds 2 models: 'model' (1 tensors), 'ema' (1 tensors). Say which" in done.output
    assert not (tmp_path / "run.zarr").exists()
    assert wdyn("import", "step_1.pt", "--to", "run.zarr", "--key", "ema").exit_code == 0
    assert float(open_run("run.zarr")["statistics/weights"]["mean"][0, 0]) == 1


def test_import__warns_of_what_is_odd(wdyn, tmp_path):
    torch.save({"model": {"w": torch.zeros(2)}, "epoch": 99}, tmp_path / "100.pt")
    done = wdyn("import", "100.pt", "--to", "run.zarr")
    assert done.exit_code == 0
    assert "Warning: " in done.output
    assert "the field 'epoch' says epoch 99, but its name says 100" in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.pt"], "Nothing is at none.pt"),
        (["."], "No saved model lies in"),
        (["no/model", "--revision", "a"], "hub"),
    ],
)
def test_import__that_finds_nothing_says_so(wdyn, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setattr("wdyn.checkpoints.hub.online", lambda: False)
    done = wdyn("import", *arguments, "--to", "run.zarr")
    assert done.exit_code == 2
    assert words in done.output
    assert list(tmp_path.iterdir()) == []
