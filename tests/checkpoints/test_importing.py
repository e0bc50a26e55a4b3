"""Does a series of saved models become the run that would have been recorded, whole or not at all?"""

import os
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import wdyn
from loops import Tiny, adamw, steps_of, train
from wdyn import import_checkpoints
from wdyn.errors import InvalidArgument, RunExists, WdynWarning

EVERYTHING = ("weights", "displacement", "moments")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A run recorded live, and the folder of the checkpoints that its loop saved at the same steps."""
    tmp_path = tmp_path_factory.mktemp("both")
    torch.manual_seed(0)
    model = Tiny()
    optimizer = adamw(model)
    folder = tmp_path / "saved"
    folder.mkdir()

    def save(step):
        if step % 2 == 0:
            content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "loss": step / 8}
            torch.save(content, folder / f"at_{step}.pt")

    save(0)
    with wdyn.watch(model, optimizer, to=tmp_path / "live.zarr", every=2, snapshots=2, what=EVERYTHING):
        train(model, optimizer, 12, each=save)
    return wdyn.open_run(tmp_path / "live.zarr"), folder


@pytest.fixture(scope="module")
def imported(both, tmp_path_factory):
    """What is made of those checkpoints."""
    return import_checkpoints(both[1], to=tmp_path_factory.mktemp("imported") / "run.zarr", what=EVERYTHING)


@pytest.fixture(scope="module")
def of_trainer(trained, tmp_path_factory):
    """What is made of the folder of a Trainer."""
    return import_checkpoints(trained[0], to=tmp_path_factory.mktemp("imported") / "run.zarr")


def numbers(run):
    """Every array of numbers that is measured of weights and moments, by its path."""
    kinds = ("statistics", "histograms", "parts/statistics", "parts/histograms", "weights")
    return {
        f"{node.path}/{name}": values
        for node in run.subtree
        if node.path.lstrip("/").startswith(kinds) and node.has_data
        for name, values in node.to_dataset(inherit=False).data_vars.items()
    }


def test_import__of_a_runs_own_checkpoints_gives_every_number_that_it_recorded(both, imported):
    expected, found = numbers(both[0]), numbers(imported)
    assert {"/statistics/exp_avg/std", "/statistics/displacement/l2", "/histograms/weights/count"} <= set(found)
    assert set(found) == set(expected)
    for path, values in expected.items():
        assert values["step"].values.tolist()[-1] == 12, path
        # The live optimizer has no moments at step 0, which is then a row without numbers.
        mine = found[path].reindex(step=values["step"]).values
        np.testing.assert_array_equal(mine, values.values, err_msg=path)


def test_import__describes_each_parameter_as_the_model_does(both, imported):
    table, expected = wdyn.parameters(imported), wdyn.parameters(both[0])
    for column in ("path", "role", "kind", "stack", "layer", "shape", "dims", "dtype", "tied_to", "weights", "parts"):
        assert table[column].values.tolist() == expected[column].values.tolist(), column


def test_import__keeps_ties_groups_and_rates(both, imported):
    live, run = both[0], imported
    for state in ("shares_with", "same_tensor", "trainable"):
        np.testing.assert_array_equal(run["states"][state], live["states"][state].sel(step=run["states"]["step"]))
    assert run["states"]["group"].sel(step=12).values.tolist() == [0] * run.sizes.get("parameter", 14)
    assert run["scalars"]["lr"].sel(step=12).values.tolist() == [1e-2]
    assert run["scalars"]["beta2"].sel(step=12).values.tolist() == [0.999]
    assert run["scalars"]["loss"].sel(step=12) == 1.5


def test_import__names_its_sources_and_what_told_their_steps(both, imported):
    (attempt,) = imported.attrs["wdyn"]["attempts"]
    assert [one["step"] for one in attempt["imported"]] == [0, 2, 4, 6, 8, 10, 12]  # at_2 before at_10
    assert attempt["imported"][1]["from"] == str(both[1] / "at_2.pt")
    # At step 0 the optimizer has counted nothing: the field is what all have.
    assert {one["step_from"] for one in attempt["imported"]} == {"the field 'step'"}


def test_import__of_a_trainers_folder_has_its_weights_moments_and_log(trained, of_trainer, same):
    live, run = trained[1], of_trainer
    assert steps_of(run, "statistics/weights") == [2, 4, 6]
    for step, (weights, moments) in live.items():
        state = wdyn.state_dict(run, step=step)
        assert set(state) == set(weights)
        assert all(same(state[name], weights[name]) for name in weights)
        assert state["lm_head.weight"] is state["transformer.wte.weight"]
        for key, held in moments.items():
            norms = run[f"statistics/{key}"]["l2"].sel(step=step)
            for name, value in held.items():
                assert float(norms.sel(parameter=name)) == pytest.approx(float(value.double().norm()), rel=1e-12)
    scalars = run["scalars"].to_dataset()
    assert scalars["step"].values.tolist() == [1, 2, 3, 4, 5, 6]
    assert np.isfinite(scalars["loss"]).all()
    # Two steps of warmup, then a line to zero: the rate that was used, not the one to come.
    np.testing.assert_allclose(scalars["lr"][:, 0], [0, 5e-3, 1e-2, 7.5e-3, 5e-3, 2.5e-3])
    np.testing.assert_array_equal(scalars["weight_decay"].sel(step=6), [0.1, 0])
    decays = dict(zip(run["states"]["parameter"].values, run["states"]["group"].sel(step=6).values == 0, strict=True))
    assert decays["transformer.h.0.attn.c_attn.weight"]
    assert not decays["transformer.h.0.ln_1.weight"]
    assert not decays["transformer.h.0.attn.c_attn.bias"]


def test_import__answers_to_the_analyzers(of_trainer):
    report = wdyn.analyze(of_trainer)
    assert "TIE004" in {finding.code for finding in report.findings}
    assert "lm_head.weight" in report.to_text()


def save_series(folder, steps, *, change=lambda step, state: state):
    folder.mkdir(exist_ok=True)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    for step in steps:
        state = {name: torch.full_like(value, step + 0.5) for name, value in model.state_dict().items()}
        save_file(change(step, state), folder / f"step_{step}.safetensors")
    return folder


def test_import__again_appends_what_has_come_since(tmp_path, place):
    folder = save_series(tmp_path / "saved", [1, 2])
    import_checkpoints(folder, to=place)
    before = (place / "zarr.json").read_bytes()
    import_checkpoints(folder, to=place)
    assert (place / "zarr.json").read_bytes() == before  # nothing is new
    save_series(folder, [10])
    run = import_checkpoints(folder, to=place)
    assert steps_of(run, "statistics/weights") == [1, 2, 10]
    assert [len(attempt["imported"]) for attempt in run.attrs["wdyn"]["attempts"]] == [2, 1]
    assert wdyn.state_dict(run, step=10)["0.weight"].unique().tolist() == [10.5]


def test_import__of_one_that_comes_between_reads_the_later_ones_again(tmp_path, place):
    folder = save_series(tmp_path / "saved", [1, 5])
    import_checkpoints(folder, to=place)
    save_series(folder, [3])
    run = import_checkpoints(folder, to=place)
    assert steps_of(run, "statistics/weights") == [1, 3, 5]
    assert float(run["statistics/weights"]["mean"].sel(step=5, parameter="0.weight")) == 5.5
    save_series(folder, [2])
    (folder / "step_5.safetensors").unlink()
    with pytest.raises(InvalidArgument, match=r"Step 2 comes before step 5, which .* would have to be read again"):
        import_checkpoints(folder, to=place)


def test_import__refuses_a_run_of_another_series_or_of_a_live_training(tmp_path, both):
    save_series(tmp_path / "one", [1])
    import_checkpoints(tmp_path / "one", to=tmp_path / "one.zarr")
    save_series(tmp_path / "two", [1])
    with pytest.raises(InvalidArgument, match=r"has step 1 from .*one.*, and not from .*two"):
        import_checkpoints(tmp_path / "two", to=tmp_path / "one.zarr")
    with pytest.raises(RunExists, match="recorded while it trained"):
        import_checkpoints(tmp_path / "one", to=both[0].attrs["path"])
    (tmp_path / "something").mkdir()
    with pytest.raises(InvalidArgument, match="something exists and is no run"):
        import_checkpoints(tmp_path / "one", to=tmp_path / "something")


def test_import__appends_no_other_model(tmp_path, place):
    import_checkpoints(save_series(tmp_path / "one", [1, 2]), to=place)
    before = (place / "zarr.json").read_bytes()
    other = save_series(tmp_path / "two", [3], change=lambda step, state: {"other": torch.ones(2, 2)})
    with pytest.raises(
        InvalidArgument, match=r"step_3\.safetensors is another model than .*run\.zarr: of its 1 tensors"
    ):
        import_checkpoints(other, to=place)
    wide = save_series(tmp_path / "wide", [3], change=lambda step, state: {**state, "1.bias": torch.ones(7)})
    with pytest.raises(
        InvalidArgument, match=r"architecture changes .*: 1\.bias is \(7,\) and was \(2,\) in .*run\.zarr"
    ):
        import_checkpoints(wide, to=place)
    assert (place / "zarr.json").read_bytes() == before


def test_import__that_fails_midway_leaves_nothing_behind(tmp_path, place):
    folder = save_series(tmp_path / "saved", [1, 2, 3])
    last = folder / "step_3.safetensors"
    there = set(tmp_path.iterdir())

    def cut(words, done, total):
        assert not place.exists()
        if "step 2" in words:
            last.write_bytes(last.read_bytes()[:-8])

    with pytest.raises(InvalidArgument, match=r"step_3\.safetensors"):
        import_checkpoints(folder, to=place, progress=cut)
    assert set(tmp_path.iterdir()) == there


def test_import__that_is_interrupted_goes_on_where_it_was(tmp_path, place):
    folder = save_series(tmp_path / "saved", [1, 2, 3])
    read = []

    def interrupt(words, done, total):
        if words.startswith("step 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_checkpoints(folder, to=place, progress=interrupt)
    assert not place.exists()
    run = import_checkpoints(folder, to=place, progress=lambda words, done, total: read.append((words, done, total)))
    assert [words for words, _, _ in read] == [f"step 3: {name}" for name in "0.bias 0.weight 1.bias 1.weight".split()]
    assert read[-1][1:] == (4, 4)
    assert steps_of(run, "statistics/weights") == [1, 2, 3]
    np.testing.assert_array_equal(run["statistics/weights"]["mean"].sel(parameter="0.weight"), [1.5, 2.5, 3.5])


@pytest.mark.kill
def test_import__that_is_killed_goes_on_where_it_was(tmp_path, place, killed):
    folder = save_series(tmp_path / "saved", [1, 2, 3])

    def kill(words, done, total):
        if words.startswith("step 3"):
            os.kill(os.getpid(), signal.SIGKILL)

    killed(lambda: import_checkpoints(folder, to=place, progress=kill))
    assert not place.exists()
    run = import_checkpoints(folder, to=place)
    assert len(run.attrs["wdyn"]["attempts"]) == 2
    np.testing.assert_array_equal(run["statistics/weights"]["mean"].sel(parameter="0.weight"), [1.5, 2.5, 3.5])


def test_import__keeps_tensors_that_come_go_and_change_their_dtype(tmp_path, place):
    def change(step, state):
        if step == 2:
            state["late"] = torch.ones(2, 2)
            state["1.bias"] = state["1.bias"].bfloat16()
        if step == 3:
            del state["0.bias"]
        return state

    folder = save_series(tmp_path / "saved", [1, 2, 3], change=change)
    with pytest.warns(WdynWarning) as told:
        run = import_checkpoints(folder, to=place)
    said = " ".join(str(one.message) for one in told)
    assert "step_2.safetensors has tensors that were not there before: late" in said
    assert "step_3.safetensors lacks tensors that were there before: late, 0.bias" in said or "0.bias" in said
    assert "1.bias" in said
    assert "float32 before, bfloat16 now" in said
    mean = run["statistics/weights"]["mean"]
    np.testing.assert_array_equal(mean.sel(parameter="late"), [np.nan, 1, np.nan])
    np.testing.assert_array_equal(mean.sel(parameter="0.bias"), [1.5, 2.5, np.nan])
    assert wdyn.state_dict(run, step=2)["1.bias"].dtype == torch.bfloat16
    assert "0.bias" not in wdyn.state_dict(run, step=3)


def test_import__counts_counters_and_masks_as_buffers(tmp_path, place):
    state = {**nn.BatchNorm1d(3).state_dict(), "mask": torch.ones(4, dtype=torch.bool)}
    torch.save(state, tmp_path / "step_5.pt")
    run = import_checkpoints(tmp_path / "step_5.pt", to=place)
    kinds = wdyn.parameters(run)["kind"].to_series()
    assert kinds[["mask", "num_batches_tracked", "running_mean"]].tolist() == ["buffer"] * 3
    assert wdyn.state_dict(run, step=5)["num_batches_tracked"].dtype == torch.int64


def test_import__writes_large_stacks_as_small_ones(tmp_path, place, same, monkeypatch):
    # One layer at a time is written where a stack is large; the bits must be those of the files.
    state = {f"h.{layer}.attn.q.weight": torch.randn(8, 8) for layer in range(3)}
    state["h.1.attn.q.weight"][0, 0] = float("nan")
    monkeypatch.setattr("wdyn.checkpoints.streaming._SMALL_BYTES", 0)
    monkeypatch.setattr("wdyn.store.weights._INNER_BYTES", 64)
    save_file(state, tmp_path / "step_1.safetensors")
    half = {name: value for name, value in state.items() if "h.2" not in name}
    save_file(half, tmp_path / "step_2.safetensors")
    with pytest.warns(WdynWarning, match=r"lacks tensors that were there before: h\.2"):
        run = import_checkpoints([tmp_path / "step_1.safetensors", tmp_path / "step_2.safetensors"], to=place)
    for step, expected in ((1, state), (2, half)):
        found = wdyn.state_dict(run, step=step)
        assert set(found) == set(expected)
        assert all(same(found[name], expected[name]) for name in expected)


def test_import__of_a_single_file_without_a_step_is_step_0(tmp_path, place):
    file = tmp_path / "net" / "model.safetensors"
    file.parent.mkdir()
    save_file({"w": torch.ones(2, 3)}, file)
    with pytest.warns(WdynWarning, match="nothing tells its step: it is taken for 0"):
        run = import_checkpoints(file, to=place)
    assert steps_of(run, "states") == [0]


def test_import__takes_a_step_pattern(tmp_path, place):
    folder = save_series(tmp_path / "saved", [1, 2])
    (folder / "step_1.safetensors").rename(folder / "a7-9.safetensors")
    (folder / "step_2.safetensors").rename(folder / "a8-9.safetensors")
    run = import_checkpoints(folder, to=place, step_pattern=r"a(\d+)-")
    assert steps_of(run, "states") == [7, 8]


@pytest.mark.parametrize("what", ["updates", ["weights", "gradients"]])
def test_import__refuses_what_saved_models_do_not_tell(tmp_path, place, what):
    with pytest.raises(InvalidArgument, match="is not known of saved models, between which many steps lie"):
        import_checkpoints(tmp_path, to=place, what=what)


def test_import__of_a_merged_adapter_is_a_run_of_the_whole_model(gpt2, hf_folder, quiet, tmp_path, place):
    peft = pytest.importorskip("peft")
    import transformers

    with quiet():
        model = peft.get_peft_model(
            transformers.GPT2LMHeadModel.from_pretrained(hf_folder),
            peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False),
        )
        for step in (5, 10):
            model.save_pretrained(tmp_path / "out" / f"checkpoint-{step}")
    run = import_checkpoints(tmp_path / "out", to=place, base=hf_folder)
    assert steps_of(run, "states") == [5, 10]
    assert set(wdyn.state_dict(run, step=5)) == set(gpt2.state_dict())
