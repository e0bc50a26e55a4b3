"""Is the step of a saved model found, and told when two sources disagree?"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wdyn.checkpoints.saved import Evidence
from wdyn.checkpoints.steps import FROM_FIELD, FROM_NAME, by_pattern, disagreements, from_fields, from_name
from wdyn.errors import InvalidArgument


@pytest.mark.parametrize(
    ("name", "number", "unit"),
    [
        ("checkpoint-500", 500, ""),
        ("step1000", 1000, "step"),
        ("global_step_0070.pt", 70, "step"),
        ("iter-12-ckpt.pth", 12, "step"),
        ("epoch_10.pt", 10, "epoch"),
        ("epoch=3-step=400.ckpt", 400, "step"),
        ("epoch=07-val_loss=0.25.ckpt", 7, "epoch"),
        ("100.pt", 100, ""),
        ("gpt_v2_0300.safetensors", 300, ""),
        ("ckpt.12.bin", 12, ""),
        ("model-00001-of-00003.safetensors", None, ""),
        ("llama-7b.safetensors", None, ""),
        ("gpt2", None, ""),
        ("model.pt", None, ""),
    ],
)
def test_from_name__finds_the_number_that_counts(name, number, unit):
    found = [(one.number, one.unit) for one in from_name(name)]
    assert found == ([] if number is None else [(number, unit)])


@given(st.integers(0, 10**12), st.sampled_from(["step_{}.pt", "checkpoint-{}", "{}.safetensors", "epoch{:05d}.ckpt"]))
def test_from_name__reads_any_number_in_full(number, name):
    assert [one.number for one in from_name(name.format(number))] == [number]


def test_from_fields__takes_steps_before_epochs_and_counts_only():
    told = from_fields({"epoch": 3, "global_step": torch.tensor(70), "lr": 0.1, "step": True, "iter": 2.5, "seed": 1})
    assert [(one.number, one.source, one.unit) for one in told] == [
        (70, "the field 'global_step'", "step"),
        (3, "the field 'epoch'", "epoch"),
    ]
    assert from_fields({"step": "1200"})[0].number == 1200  # as safetensors keeps it
    assert from_fields({"step": torch.zeros(2), "epoch": -1, "iter": float("nan")}) == []


def test_by_pattern__finds_its_group_or_says_what_it_found():
    assert by_pattern("a7-9.pt", r"a(\d+)").number == 7
    assert by_pattern("a7-9.pt", r"\d+").number == 7
    with pytest.raises(InvalidArgument, match=r"finds nothing in model\.pt"):
        by_pattern("model.pt", r"step_(\d+)")
    with pytest.raises(InvalidArgument, match=r"finds 'model', which is no number, in model\.pt"):
        by_pattern("model.pt", r"(\w+)\.")
    with pytest.raises(InvalidArgument, match="is no regular expression"):
        by_pattern("model.pt", "(")


def test_disagreements__are_between_numbers_of_one_kind():
    epoch, name = Evidence(99, "the field 'epoch'", FROM_FIELD, "epoch"), Evidence(100, "its name", FROM_NAME, "")
    (said,) = disagreements("100.pt", [epoch, name])
    assert said == "100.pt: the field 'epoch' says epoch 99, but its name says 100. The first was used"
    steps = Evidence(5000, "the optimizer's state", 0)
    assert (
        list(
            disagreements("2.pt", [steps, Evidence(2, "the field 'epoch'", 1, "epoch"), Evidence(2, "its name", 2, "")])
        )
        == []
    )
    assert list(disagreements("epoch_2.pt", [steps, Evidence(2, "its name", 2, "epoch")])) == []
    assert len(list(disagreements("step_2.pt", [steps, Evidence(2, "its name", 2, "step")]))) == 1
    assert list(disagreements("x.pt", [])) == []
