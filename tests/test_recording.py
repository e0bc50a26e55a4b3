"""Is what happened recorded, exactly, whatever the model does?"""

import copy
import gc
import re
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import wdyn
from loops import Tiny, adamw, loss_of, steps_of, train
from wdyn.errors import (
    InvalidArgument,
    WdynWarning,
)
from wdyn.store import files


@pytest.fixture
def model() -> Tiny:
    torch.manual_seed(0)
    return Tiny()


# What is recorded.


def test_watch__records_rows_and_snapshots_at_their_steps_and_both_ends(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=3, snapshots=wdyn.at(5)):
        train(model, optimizer, 7)
    run = wdyn.open_run(place)
    assert steps_of(run, "statistics/weights") == [0, 3, 6, 7]
    assert steps_of(run, "weights/tok-weight-0000") == [0, 5, 7]
    assert steps_of(run, "scalars") == list(range(8))


def test_watch__snapshots_are_the_weights_bit_for_bit(model: Tiny, place: Path) -> None:
    optimizer, seen = adamw(model), {0: copy.deepcopy(model.state_dict())}
    with wdyn.watch(model, optimizer, to=place, every=100, snapshots=1):
        train(model, optimizer, 3, each=lambda step: seen.update({step: copy.deepcopy(model.state_dict())}))
    run = wdyn.open_run(place)
    for step, state in seen.items():
        kept = wdyn.state_dict(run, step=step)
        assert list(kept) == list(state)
        assert all(torch.equal(kept[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_watch__snapshots_keep_every_dtype_exactly(dtype: torch.dtype, place: Path) -> None:
    model = nn.Linear(300, 7).to(dtype)
    with wdyn.watch(model, to=place):
        pass
    kept = wdyn.state_dict(wdyn.open_run(place), step=0)
    for name, tensor in model.state_dict().items():
        assert kept[name].dtype == dtype
        assert torch.equal(kept[name], tensor)


def test_watch__statistics_equal_float64_numpy_at_each_step(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=1, snapshots=1):
        train(model, optimizer, 3)
    run = wdyn.open_run(place)
    table = wdyn.statistics(run)
    for step in range(4):
        for name, tensor in wdyn.state_dict(run, step=step).items():
            values = tensor.double().numpy()
            row = table.sel(step=step, parameter=name)
            np.testing.assert_allclose(row["std"], values.std(), rtol=1e-12, atol=1e-15)
            np.testing.assert_allclose(row["l2"], np.linalg.norm(values), rtol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda p: torch.optim.SGD(p, lr=0.1), id="sgd"),
        pytest.param(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), id="nesterov"),
        pytest.param(lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.3), id="adamw, decay included"),
        pytest.param(lambda p: torch.optim.Adafactor(p, lr=1e-2), id="adafactor"),
    ],
)
def test_watch__updates_are_the_true_change(
    make: Callable[..., torch.optim.Optimizer], model: Tiny, place: Path
) -> None:
    optimizer = make(model.parameters())
    with wdyn.watch(model, optimizer, to=place, every=1, snapshots=1):
        train(model, optimizer, 3)
    run = wdyn.open_run(place)
    updates = wdyn.statistics(run, "updates")["l2"]
    assert np.isnan(updates.sel(step=0)).all()
    for step in (1, 2, 3):
        before, after = (wdyn.state_dict(run, step=at) for at in (step - 1, step))
        for name in after:
            change = np.linalg.norm(after[name].double().numpy() - before[name].double().numpy())
            np.testing.assert_allclose(updates.sel(step=step, parameter=name), change, rtol=1e-12)


def test_watch__updates_off_cadence_are_of_one_step_only(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=3, snapshots=1):
        train(model, optimizer, 3)
    run = wdyn.open_run(place)
    before, after = (wdyn.state_dict(run, step=at)["tok.weight"].double() for at in (2, 3))
    got = wdyn.statistics(run, "updates")["l2"].sel(step=3, parameter="tok.weight")
    np.testing.assert_allclose(got, (after - before).norm(), rtol=1e-12)


def test_watch__gradients_are_those_the_optimizer_used(model: Tiny, place: Path) -> None:
    optimizer, norms = adamw(model), []
    with wdyn.watch(model, optimizer, to=place, every=1):
        for step in (1, 2):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            norms.append(model.tok.weight.grad.double().norm().item())
            optimizer.step()
            optimizer.zero_grad()
    got = wdyn.statistics(wdyn.open_run(place), "gradients")["l2"].sel(parameter="tok.weight")
    np.testing.assert_allclose(got.sel(step=[1, 2]), norms, rtol=1e-12)


def test_watch__gradients_of_a_closure_are_those_of_its_own_step(model: Tiny, place: Path) -> None:
    optimizer, norms = adamw(model), []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, len(norms))
        loss.backward()
        norms.append(model.tok.weight.grad.double().norm().item())
        return loss

    with wdyn.watch(model, optimizer, to=place, every=1):
        optimizer.step(closure)
        optimizer.step(closure=closure)
    got = wdyn.statistics(wdyn.open_run(place), "gradients")["l2"].sel(parameter="tok.weight")
    np.testing.assert_allclose(got.sel(step=[1, 2]), norms, rtol=1e-12)


def test_watch__only_records_what_was_asked(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=1, what="weights", select=["blocks.*.weight"], snapshots=None):
        train(model, optimizer, 2)
    run = wdyn.open_run(place)
    assert list(run["statistics"].children) == ["weights"]
    assert "weights" not in run.children or not run["weights"].children
    names = wdyn.parameters(run)["parameter"].values
    assert len(names) == 6
    assert all(str(name).startswith("blocks.") and str(name).endswith("weight") for name in names)


def test_watch__select_takes_a_function_of_the_address(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place, select=lambda address: address.role == "qkv"):
        pass
    assert set(wdyn.parameters(wdyn.open_run(place))["role"].values) == {"qkv"}


def test_watch__learning_rate_of_a_row_is_the_one_that_led_to_it(model: Tiny, place: Path) -> None:
    optimizer = torch.optim.SGD(
        [{"params": model.tok.parameters()}, {"params": model.blocks.parameters(), "lr": 5.0}], lr=1.0
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    used = []
    with wdyn.watch(model, optimizer, to=place, every=10):
        for step in range(1, 5):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            used.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            schedule.step()
    lr = wdyn.open_run(place)["scalars/lr"]
    assert np.isnan(lr.sel(step=0)).all()
    np.testing.assert_array_equal(lr.sel(step=slice(1, 4)), used)


def test_log__keeps_values_at_the_step_of_the_weights_they_belong_to(model: Tiny, place: Path) -> None:
    optimizer, losses = adamw(model), []
    with wdyn.watch(model, optimizer, to=place, every=100) as w:
        for step in range(1, 4):
            optimizer.zero_grad()
            loss = loss_of(model, step)
            losses.append(loss.item())
            w.log(loss=loss, **{"train/tokens": 7 * step})
            loss.backward()
            optimizer.step()
    scalars = wdyn.open_run(place)["scalars"]
    np.testing.assert_array_equal(scalars["loss"].sel(step=slice(0, 2)), losses)
    assert np.isnan(scalars["loss"].sel(step=3))
    assert scalars["train_tokens"].attrs["long_name"] == "train/tokens"
    np.testing.assert_array_equal(scalars["train_tokens"].sel(step=[0, 1, 2]), [7, 14, 21])


def test_log__of_no_number_is_nan_and_told_once(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place) as w:
        with pytest.warns(WdynWarning, match=r"w\.log\(note=\.\.\.\) was given no number"):
            w.log(note="hello")
        w.log(note="again")
    assert np.isnan(wdyn.open_run(place)["scalars/note"]).all()


def test_log__names_that_wdyn_uses_itself_do_not_collide(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place) as w:
        w.log(lr=3.0, step=4.0, **{"../../evil": 1.0, "zarr.json": 2.0, "<script>": 5.0, "K": 6.0, "k": 7.0})
    scalars = wdyn.open_run(place)["scalars"].to_dataset()
    by_name = {
        array.attrs.get("long_name", name): float(array[0])
        for name, array in scalars.data_vars.items()
        if array.ndim == 1
    }
    expected = {"lr": 3, "step": 4, "../../evil": 1, "zarr.json": 2, "<script>": 5, "K": 6, "k": 7}
    assert {name: by_name[name] for name in expected} == expected
    assert not list(place.parent.parent.glob("evil*"))


def test_snapshot__keeps_the_weights_now(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, snapshots=wdyn.at(0)) as w:
        train(model, optimizer, 2)
        w.snapshot()
        kept = model.tok.weight.detach().clone()
        train(model, optimizer, 2)
    assert torch.equal(wdyn.state_dict(wdyn.open_run(place), step=2)["tok.weight"], kept)


def test_flush__makes_rows_visible_while_training_goes_on(model: Tiny, place: Path) -> None:
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=place, every=1) as w:
        assert w.committed == 0
        train(model, optimizer, 5)
        assert w.flush() == w.committed == 5
        assert steps_of(wdyn.open_run(place), "statistics/weights") == [0, 1, 2, 3, 4, 5]


def test_step_zero__is_visible_as_soon_as_the_block_is_entered(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place):
        tree = xr.open_datatree(place, engine="zarr")
        assert tree["statistics/weights/step"].values.tolist() == [0]


def test_watch__of_a_run_that_starts_loads_nothing_that_only_readers_need(place: Path) -> None:
    script = """
        import sys, torch, wdyn
        model = torch.nn.Linear(2, 2)
        with wdyn.watch(model, to=sys.argv[1], every=1) as w:
            w.step()
        print(sorted({"xarray", "zarr", "pandas"} & sys.modules.keys()))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), place], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# Names, ties, replaced parameters.


def test_watch__hostile_names_come_back_and_stay_inside_the_run(tmp_path: Path) -> None:
    names = ["../../evil", "a/b", "K", "k", "zarr.json", "<script>alert(1)</script>", "x" * 300, "ä ö", "c"]
    model = nn.Module()
    for number, name in enumerate(names):
        model._parameters[name] = nn.Parameter(torch.full((2,), float(number)))
    place = tmp_path / "deep" / "er" / "run.zarr"
    with wdyn.watch(model, to=place):
        pass
    run = wdyn.open_run(place)
    kept = wdyn.state_dict(run, step=0)
    assert list(kept) == names
    assert [tensor[0].item() for tensor in kept.values()] == list(range(len(names)))
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep" / "er").iterdir()] == ["run.zarr"]


def test_watch__wrappers_do_not_show_in_names(model: Tiny, place: Path) -> None:
    with wdyn.watch(nn.DataParallel(model), to=place):
        pass
    assert wdyn.parameters(wdyn.open_run(place))["parameter"].values[0] == "tok.weight"


def test_watch__a_tied_weight_is_kept_once_and_both_names_come_back(model: Tiny, place: Path) -> None:
    with wdyn.watch(model, to=place):
        pass
    run = wdyn.open_run(place)
    kept = wdyn.state_dict(run, step=0)
    assert kept["head.weight"] is kept["tok.weight"]
    table = wdyn.parameters(run).sel(parameter="head.weight")
    assert (table["tied_to"], table["weights"]) == ("tok.weight", "")
    std = wdyn.statistics(run)["std"].sel(step=0)
    assert std.sel(parameter="head.weight") == std.sel(parameter="tok.weight")


def test_watch__a_tie_that_breaks_is_seen_and_both_weights_are_kept(model: Tiny, place: Path) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with wdyn.watch(model, optimizer, to=place, every=1, snapshots=1):
        train(model, optimizer, 2)
        model.head.weight = nn.Parameter(model.head.weight.detach().clone() + 1)
        train(model, optimizer, 1)
    run = wdyn.open_run(place)
    kept = wdyn.state_dict(run, step=3)
    assert torch.equal(kept["head.weight"], model.head.weight)
    assert torch.equal(kept["tok.weight"], model.tok.weight)
    assert wdyn.state_dict(run, step=2)["head.weight"] is not kept["head.weight"]
    head = list(wdyn.parameters(run)["parameter"].values).index("head.weight")
    assert run["states/shares_with"].sel(step=[2, 3]).isel(parameter=head).values.tolist() == [0, head]


def test_watch__replaced_parameters_are_found_again(model: Tiny, place: Path) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with wdyn.watch(model, optimizer, to=place, every=1, snapshots=1):
        train(model, optimizer, 1)
        model.load_state_dict({name: tensor * 2 for name, tensor in model.state_dict().items()}, assign=True)
        optimizer.param_groups[0]["params"] = list(model.parameters())
        train(model, optimizer, 1)
    kept = wdyn.state_dict(wdyn.open_run(place), step=2)
    assert torch.equal(kept["blocks.0.ln.weight"], model.blocks[0].ln.weight)


def test_watch__keeps_no_tensor_of_the_model_alive(model: Tiny, place: Path) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with wdyn.watch(model, optimizer, to=place, every=1, snapshots=1):
        train(model, optimizer, 1)
        old = weakref.ref(model.blocks[0].ln.weight)
        model.blocks[0].ln.weight = nn.Parameter(torch.ones(8))
        optimizer.param_groups[0]["params"] = list(model.parameters())
        optimizer.zero_grad()
        gc.collect()
        assert old() is None


def test_watch__a_cast_in_mid_training_keeps_both_dtypes_exactly(place: Path) -> None:
    model = nn.Linear(3, 3)
    with wdyn.watch(model, to=place, every=1, snapshots=1) as w:
        w.step()
        full = model.weight.detach().clone()
        model.bfloat16()
        w.step()
    run = wdyn.open_run(place)
    assert torch.equal(wdyn.state_dict(run, step=1)["weight"], full)
    half = wdyn.state_dict(run, step=2)["weight"]
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, model.weight)


def test_watch__a_layer_added_in_mid_training_gets_rows_from_then_on(place: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    with wdyn.watch(model, to=place, every=1, snapshots=1) as w:
        w.step()
        model.append(nn.Linear(3, 2))
        w.step()
    run = wdyn.open_run(place)
    std = wdyn.statistics(run)["std"].sel(parameter="1.weight")
    assert np.isnan(std.sel(step=[0, 1])).all()
    np.testing.assert_allclose(std.sel(step=2), model[1].weight.detach().double().std(correction=0), rtol=1e-12)
    assert torch.equal(wdyn.state_dict(run, step=2)["1.weight"], model[1].weight)
    assert "1.weight" not in wdyn.state_dict(run, step=1)


def test_watch__buffers_are_kept_too(place: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    with wdyn.watch(model, to=place):
        pass
    kept = wdyn.state_dict(wdyn.open_run(place), step=0)
    assert list(kept) == [*(name for name, _ in model.named_parameters()), *(name for name, _ in model.named_buffers())]
    nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).load_state_dict(kept)


# Odd parameters.


def bits(tensor: torch.Tensor) -> list[int]:
    return tensor.contiguous().reshape(-1, 1).view(torch.uint8).flatten().tolist() if tensor.numel() else []


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param(torch.empty(0, 5), id="zero-size"),
        pytest.param(torch.tensor(2.5), id="0-d"),
        pytest.param(torch.tensor([2.5]), id="one element"),
        pytest.param(torch.randn(3, 2).bfloat16(), id="bf16"),
        pytest.param(torch.arange(-3, 3, dtype=torch.int8), id="int8"),
        pytest.param(torch.randn(3, dtype=torch.complex64), id="complex"),
        pytest.param(torch.tensor([1.0, torch.nan, torch.inf]), id="NaN and Inf"),
        pytest.param(torch.randn(3, 4).to(torch.float8_e4m3fn), id="float8"),
        pytest.param(torch.randn(6, 4).t(), id="transposed"),
    ],
)
def test_watch__odd_parameters_are_recorded_exactly(tensor: torch.Tensor, place: Path) -> None:
    model = nn.Module()
    model.register_parameter("p", nn.Parameter(tensor, requires_grad=False))
    with wdyn.watch(model, to=place, every=1) as w:
        w.step()
    run = wdyn.open_run(place)
    kept = wdyn.state_dict(run, step=1)["p"]
    assert (kept.dtype, kept.shape) == (tensor.dtype, tensor.shape)
    assert bits(kept) == bits(tensor)
    row = wdyn.statistics(run).sel(step=1, parameter="p")
    assert row["count"] == tensor.numel()
    assert row["nonfinite"] == (~tensor.to(torch.complex128).isfinite()).sum()


def test_watch__a_dtype_that_cannot_be_kept_is_told_and_training_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(wdyn.store.dtypes.STORED_TYPES, "int8")
    model = nn.Linear(2, 2)
    model.register_buffer("codes", torch.zeros(3, dtype=torch.int8))
    with pytest.warns(WdynWarning, match="No snapshots are kept of codes"), wdyn.watch(model, to=place):
        pass
    run = wdyn.open_run(place)
    assert list(wdyn.state_dict(run, step=0)) == ["weight", "bias"]
    assert wdyn.statistics(run)["zeros"].sel(step=0, parameter="codes") == 3


# Errors of recording itself never reach training.


def test_watch__a_disk_that_stays_full_is_told_when_it_fills_and_at_the_end_and_training_goes_on(
    model: Tiny, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = adamw(model)
    message = r"cannot write at the moment|stopped recording.*No space left.*up to step 2 are safe"
    with pytest.warns(WdynWarning, match=message) as told:
        with wdyn.watch(model, optimizer, to=place, every=1) as w:
            train(model, optimizer, 2)
            w.flush()

            def full(*args: object, **kwargs: object) -> int:
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(files, "write", full)
            train(model, optimizer, 40)
            w.flush()
            train(model, optimizer, 5)
    assert ["stopped recording" in str(one.message) for one in told] == [False, True]
    run = wdyn.open_run(place)
    assert steps_of(run, "statistics/weights") == [0, 1, 2]
    assert np.isfinite(wdyn.statistics(run)["std"].values).all()


def test_watch__an_error_of_its_own_is_told_once_and_training_goes_on(
    model: Tiny, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer, plain = adamw(model), copy.deepcopy(model)

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a bug of wdyn")

    torch.manual_seed(5)
    with pytest.warns(WdynWarning, match="stopped recording after step 2.*a bug of wdyn") as told:
        with wdyn.watch(model, optimizer, to=place, every=1):
            train(model, optimizer, 2)
            monkeypatch.setattr("wdyn.capture.measuring.measure", broken)
            train(model, optimizer, 4)
    assert len(told) == 1
    torch.manual_seed(5)
    second = adamw(plain)
    train(plain, second, 2)
    train(plain, second, 4)
    assert torch.equal(plain.tok.weight, model.tok.weight)
    assert steps_of(wdyn.open_run(place), "statistics/weights") == [0, 1, 2]


def test_watch__where_warnings_are_errors_training_still_goes_on(
    model: Tiny, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with wdyn.watch(model, to=place, every=1) as w:
        monkeypatch.setattr("wdyn.capture.measuring.measure", lambda *_, **__: 1 / 0)
        w.step()
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_watch__a_slow_disk_drops_snapshots_keeps_rows_and_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Linear(300, 300)
    write = files.write

    def slow(path: str, *args: object, **kwargs: object) -> int:
        time.sleep(0.05 if "/value/" in path else 0)
        return write(path, *args, **kwargs)

    monkeypatch.setattr(files, "write", slow)
    with pytest.warns(WdynWarning, match="snapshots never reached the disk|A snapshot was dropped"):
        with wdyn.watch(model, to=place, every=1, snapshots=1, queue_bytes=800_000) as w:
            for _ in range(30):
                w.step()
    run = wdyn.open_run(place)
    assert steps_of(run, "statistics/weights") == list(range(31))
    kept = len(steps_of(run, "weights/weight-0000"))
    assert kept < 31
    lost = run.attrs["wdyn"]["lost"]
    assert lost["rows"] == 0
    assert lost["snapshots"] in (31 - kept, 32 - kept)  # the last step's, if dropped, is taken again at the end


def test_watch__waits_for_a_slow_disk_rather_than_drop_a_snapshot_if_told_to(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Linear(300, 300)
    write = files.write

    def slow(path: str, *args: object, **kwargs: object) -> int:
        time.sleep(0.02 if "/value/" in path else 0)
        return write(path, *args, **kwargs)

    monkeypatch.setattr(files, "write", slow)
    with wdyn.watch(model, to=place, every=1, snapshots=1, queue_bytes=800_000, when_full="block") as w:
        for _ in range(20):
            w.step()
    run = wdyn.open_run(place)
    assert steps_of(run, "weights/weight-0000") == list(range(21))
    assert run.attrs["wdyn"]["lost"] == {"rows": 0, "snapshots": 0}


def test_watch__refuses_what_it_cannot_do_when_the_queue_is_full(place: Path) -> None:
    with pytest.raises(InvalidArgument, match="when_full='wait': needed is 'drop' or 'block'"):
        wdyn.watch(nn.Linear(2, 2), to=place, when_full="wait")


def test_watch__records_on_when_a_full_disk_has_room_again_and_tells_both_once(
    model: Tiny, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wdyn.store.trouble._FIRST_PAUSE", 0.01)
    monkeypatch.setattr("wdyn.store.trouble._LONGEST_PAUSE", 0.02)
    optimizer = adamw(model)

    def full(*args: object, **kwargs: object) -> int:
        raise OSError(28, "No space left on device")

    with pytest.warns(WdynWarning, match=r"at the moment: No space left on device. Training|records again") as told:
        with wdyn.watch(model, optimizer, to=place, every=1) as w:
            train(model, optimizer, 2)
            w.flush()
            with monkeypatch.context() as patch:
                patch.setattr(files, "write", full)
                train(model, optimizer, 20)
                assert w.flush() == 2
            while w.flush() < 22:
                time.sleep(0.01)
            train(model, optimizer, 5)
    assert [str(one.message).partition(":")[0].partition(";")[0] for one in told] == [
        "wdyn cannot write at the moment",
        "wdyn records again",
    ]
    run = wdyn.open_run(place)
    assert steps_of(run, "statistics/weights") == list(range(28))
    assert run.attrs["wdyn"]["lost"]["rows"] == 0


# A first snapshot that is large.


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every snapshot counts as large."""
    monkeypatch.setattr("wdyn.capture.batches._AT_ONCE_BYTES", 0)


@pytest.mark.usefixtures("large")
def test_first_snapshot__that_is_large_follows_the_first_row(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, go, write = nn.Linear(3, 2), threading.Event(), files.write

    def held(path: str, *args: object, **kwargs: object) -> int:
        assert "/value/" not in path or go.wait(60)
        return write(path, *args, **kwargs)

    monkeypatch.setattr(files, "write", held)
    with wdyn.watch(model, to=place, every=1, snapshots=wdyn.at(0)) as w:
        first = copy.deepcopy(model.state_dict())
        assert w.committed == 0
        run = wdyn.open_run(place)
        assert steps_of(run, "statistics/weights") == steps_of(run, "states") == [0]
        assert steps_of(run, "weights/weight-0000") == []
        with torch.no_grad():
            model.weight += 1
        w.step()
        go.set()
        w.flush()
        assert steps_of(wdyn.open_run(place), "weights/weight-0000") == [0]
    run = wdyn.open_run(place)
    assert steps_of(run, "weights/weight-0000") == [0, 1]
    kept = wdyn.state_dict(run, step=0)
    assert all(torch.equal(kept[name], tensor) for name, tensor in first.items())


@pytest.mark.usefixtures("large")
def test_first_snapshot__that_is_large_and_fails_is_told_as_any_later_one(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files.write

    def full(path: str, *args: object, **kwargs: object) -> int:
        if "/value/" in path:
            raise OSError(28, "No space left on device")
        return write(path, *args, **kwargs)

    monkeypatch.setattr(files, "write", full)
    with pytest.warns(WdynWarning) as told:
        with wdyn.watch(nn.Linear(3, 2), to=place, every=1) as w:
            w.flush()
            w.step()
            assert len(told) == 1  # nothing is given up yet: the disk is tried again
    pause, end = (str(warning.message) for warning in told)
    assert re.search(r"cannot write at the moment: No space left.* rows wait in memory", pause)
    assert re.search(r"stopped recording.*No space left.*up to step 0 are safe", end)
    run = wdyn.open_run(place)
    assert steps_of(run, "statistics/weights") == [0]
    assert steps_of(run, "weights/weight-0000") == []


@pytest.mark.usefixtures("large")
def test_first_snapshot__that_would_leave_rows_no_room_is_published_with_its_row(place: Path) -> None:
    with wdyn.watch(nn.Linear(300, 300), to=place, queue_bytes=400_000):
        assert steps_of(wdyn.open_run(place), "weights/weight-0000") == [0]


def test_capture_seconds__of_the_first_row_hold_what_entering_cost(
    model: Tiny, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, clock = files.make_durable, [0.0]

    def slow(*args: object) -> None:
        clock[0] += 2
        sync(*args)

    monkeypatch.setattr(files, "make_durable", slow)
    monkeypatch.setattr("wdyn.recording.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    with wdyn.watch(model, adamw(model), to=place):
        pass
    scalars = wdyn.open_run(place)["scalars"].sel(step=0)
    assert scalars["capture_seconds"] == 4  # the first commit flushes twice
    assert scalars["bytes_written"] > 0


# Default snapshots.


def test_default_snapshots__are_log_spaced(place: Path) -> None:
    model = nn.Linear(2, 2)
    with wdyn.watch(model, to=place) as w:
        for _ in range(20):
            w.step()
    assert steps_of(wdyn.open_run(place), "weights/weight-0000") == [0, 1, 2, 4, 8, 16, 20]


def test_default_snapshots__stay_within_the_disk_limit(place: Path) -> None:
    model = nn.Linear(100, 100, bias=False)
    with wdyn.watch(model, to=place, disk_limit=5 * 40_000) as w:
        for _ in range(2000):
            w.step()
    steps = steps_of(wdyn.open_run(place), "weights/weight-0000")
    assert steps == [0, 1, 1000, 2000]
    assert len(steps) * 40_000 <= 5 * 40_000


def test_default_snapshots__that_do_not_fit_at_all_are_told(place: Path) -> None:
    with (
        pytest.warns(WdynWarning, match="No snapshots are kept: one takes"),
        wdyn.watch(nn.Linear(9, 9), to=place, disk_limit=10),
    ):
        pass
    run = wdyn.open_run(place)
    assert steps_of(run, "statistics/weights") == [0]
