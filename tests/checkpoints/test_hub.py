"""Are revisions of a model on the hub found in the cache, and their absence said?"""

import shutil

import pytest

import wdyn
from wdyn.checkpoints.opening import open_saved
from wdyn.errors import InvalidArgument


@pytest.fixture
def cache(hf_folder, tmp_path, monkeypatch):
    """A cache as the hub's client lays it out, with two revisions of one model, and no connection."""
    import huggingface_hub.constants as constants

    place = tmp_path / "hub" / "models--org--tiny"
    for number, revision in enumerate(("step1000", "step2000")):
        commit = f"{number:040d}"
        (place / "refs").mkdir(parents=True, exist_ok=True)
        (place / "refs" / revision).write_text(commit)
        shutil.copytree(hf_folder, place / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("wdyn.checkpoints.hub.online", lambda: False)
    return place


def test_import__of_revisions_takes_their_steps_from_their_names(cache, place, gpt2):
    run = wdyn.import_checkpoints("org/tiny", revisions=["step2000", "step1000"], to=place)
    (attempt,) = run.attrs["wdyn"]["attempts"]
    assert [(one["step"], one["from"]) for one in attempt["imported"]] == [
        (1000, "org/tiny@step1000"),
        (2000, "org/tiny@step2000"),
    ]
    assert set(wdyn.state_dict(run, step=2000)) == set(gpt2.state_dict())


def test_open_saved__says_that_neither_hub_nor_cache_has_it(cache):
    with pytest.raises(
        InvalidArgument, match="gave no org/tiny at revision step3: it cannot be reached, and the local"
    ):
        open_saved("org/tiny", revision="step3")
    with pytest.raises(
        InvalidArgument, match="Nothing is at org/other, and the Hugging Face hub gave no org/other: it"
    ):
        open_saved("org/other")
