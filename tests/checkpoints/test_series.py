"""Are saved models found and put in order, and what does not belong together refused by name?"""

import pytest
import torch
from safetensors.torch import save_file

import wdyn
from wdyn.checkpoints.fitting import Origin
from wdyn.checkpoints.listing import saved_models
from wdyn.checkpoints.series import origins, series
from wdyn.errors import InvalidArgument

STATE = {"h.0.w": torch.zeros(4, 4), "h.1.w": torch.zeros(4, 4), "wte": torch.zeros(9, 4)}


@pytest.fixture
def folder(tmp_path):
    """A folder into which states are saved by name."""

    def save(name, state=STATE, **fields):
        path = tmp_path / name
        if path.suffix == ".safetensors":
            save_file(state, path)
        else:
            torch.save({"model": state, **fields} if fields else state, path)

    save.path = tmp_path
    return save


@pytest.fixture
def members(folder):
    """Open the folder as a series; give its members and what was told."""

    def find(path=folder.path, **options):
        told = []
        found, scanned = origins(path)
        return series(found, scanned=scanned, tell=told.append, **options), told

    return find


def test_series__is_in_natural_order_with_its_gaps(folder, members):
    for epoch in (1, 10, 2):
        folder(f"epoch_{epoch}.pt")
    found, told = members()
    assert [(one.step, one.step_source) for one in found] == [(1, "its name"), (2, "its name"), (10, "its name")]
    assert told == []


def test_series__believes_the_first_source_that_all_have(folder, members):
    state = {
        "state": {0: {"step": torch.tensor(70.0), "exp_avg": torch.zeros(4, 4)}},
        "param_groups": [{"params": [0]}],
    }
    folder("1.pt", optimizer=state, global_step=70)
    folder("2.pt", global_step=90)
    found, told = members()
    assert [one.step for one in found] == [70, 90]
    assert {one.step_source for one in found} == {"the field 'global_step'"}
    assert [message.split(": ", 1)[1] for message in told if "says" in message] == [
        "the field 'global_step' says step 70, but its name says 1. The first was used",
        "the field 'global_step' says step 90, but its name says 2. The first was used",
    ]


def test_series__tells_of_a_file_that_contradicts_its_name(folder, members):
    folder("100.pt", epoch=99)
    folder("200.pt", epoch=200)
    found, (said,) = members()
    assert [one.step for one in found] == [99, 200]
    assert said.endswith("100.pt: the field 'epoch' says epoch 99, but its name says 100. The first was used")


def test_series__refuses_two_of_one_step_and_names_both(folder, members):
    folder("a_5.pt")
    folder("b_5.pt")
    with pytest.raises(InvalidArgument, match=r"Two are of step 5, as its name says: .*a_5\.pt and .*b_5\.pt"):
        members()


def test_series__leaves_out_the_copy_of_the_last(folder, members):
    folder("epoch=1.ckpt", epoch=1)
    folder("epoch=2.ckpt", epoch=2)
    folder("last.ckpt", epoch=2)
    (folder.path / "best.ckpt").symlink_to(folder.path / "epoch=1.ckpt")
    found, told = members()
    assert [one.step for one in found] == [1, 2]
    assert [message.split("/")[-1].split(",")[0] for message in told] == ["best.ckpt", "last.ckpt"]


def test_series__leaves_out_what_holds_no_weights_unless_it_was_named(folder, members):
    folder("step_1.pt")
    torch.save([1, 2], folder.path / "losses_2.pt")
    found, (said,) = members()
    assert [one.step for one in found] == [1]
    assert "Left out: No weights are in" in said
    assert "a list of 2 numbers" in said
    with pytest.raises(InvalidArgument, match=r"losses_2\.pt: it holds a list of 2 numbers"):
        members(path=[folder.path / "step_1.pt", folder.path / "losses_2.pt"])
    (folder.path / "step_1.pt").unlink()
    with pytest.raises(InvalidArgument, match=r"losses_2\.pt: it holds a list of 2 numbers"):
        members()


def test_series__asks_for_a_pattern_where_a_step_is_not_told(folder, members):
    folder("step_1.pt")
    folder("other.pt")
    with pytest.raises(
        InvalidArgument, match=r"of .*step_1\.pt its name says step 1, of .*other\.pt nothing says it.*--step-pattern"
    ):
        members()


def test_series__says_what_names_tell_that_count_differently(folder, members):
    folder("epoch_3.pt")
    folder("step_10.pt")
    with pytest.raises(
        InvalidArgument, match=r"epoch_3\.pt its name says epoch 3, of .*step_10\.pt its name says step 10"
    ):
        members()


def test_series__refuses_a_run(tmp_path, place):
    save_file(STATE, tmp_path / "step_1.safetensors")
    wdyn.import_checkpoints(tmp_path / "step_1.safetensors", to=place)
    with pytest.raises(InvalidArgument, match=r"run\.zarr is a run already.*wdyn report .*run\.zarr"):
        origins(place)


def test_series__refuses_another_architecture_and_names_the_tensors(folder, members):
    folder("step_1.pt")
    folder("step_2.pt", {**STATE, "wte": torch.zeros(12, 4)})
    with pytest.raises(
        InvalidArgument, match=r"changes at .*step_2\.pt: wte is \(12, 4\) and was \(9, 4\) in .*step_1\.pt"
    ):
        members()


def test_series__refuses_another_model(folder, members):
    folder("step_1.pt")
    folder("step_2.pt", {"conv.weight": torch.zeros(3, 3), "wte": torch.zeros(9, 4), "head": torch.zeros(4, 9)})
    with pytest.raises(
        InvalidArgument, match=r"step_2\.pt is another model than .*step_1\.pt: of its 3 tensors 1 have"
    ):
        members()


def test_series__tells_of_one_that_is_half_the_size(folder, members):
    for step in (1, 2, 3):
        folder(f"step_{step}.pt", {name: value.half() for name, value in STATE.items()} if step == 3 else STATE)
    _, told = members()
    assert any("step_3.pt has 3 tensors of another dtype, float32 before, float16 now" in message for message in told)
    assert any(message.endswith("50% of what the others usually hold") for message in told)


def test_saved_models__of_a_trainers_folder_are_its_checkpoints(trained):
    assert [one.name for one in saved_models(trained[0])] == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert saved_models(trained[0] / "checkpoint-4") == [trained[0] / "checkpoint-4"]


def test_saved_models__says_what_is_needed_where_there_is_none(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    torch.save({"state": {}}, tmp_path / "optimizer.pt")
    with pytest.raises(InvalidArgument, match=r"No saved model lies in .*: needed are files \.safetensors"):
        saved_models(tmp_path)


def test_origins__refuses_revisions_of_several_and_nothing():
    assert origins("org/name", revisions=["a", "b"])[0] == [Origin("org/name", None, r, None) for r in ("a", "b")]
    with pytest.raises(InvalidArgument, match="revisions= are of one model on the hub, and 2 were given"):
        origins(["a", "b"], revisions=["x"])
    with pytest.raises(InvalidArgument, match="No checkpoint was given"):
        origins([])
