"""Is the record of several processes what one process would have recorded of the whole tensors?

Trained are models whose shards are uneven, empty, misaligned, in bfloat16, tied, and stacked by layer. The whole
tensors are gathered beside the recording.
"""

import numpy as np
import pytest
import xarray as xr

import wdyn

CASES = {
    "fsdp on 2": {"layout": "fsdp", "ranks": 2, "by_torchrun": True},
    "fsdp on 4": {"layout": "fsdp", "ranks": 4},
    "tensor parallel": {"layout": "tensor parallel", "ranks": 2},
    "2-D": {"layout": "2-D", "ranks": 4, "compression": "fast"},
    "hybrid": {"layout": "hybrid", "ranks": 4},
    "by hand": {"layout": "by hand", "ranks": 4},
    "in sequence": {"layout": "in sequence", "ranks": 2},
}
OF_THE_CLOCK = {"wall_time", "capture_seconds", "write_seconds", "bytes_written"}
EXACT = {"min", "max", "abs_max"}
STEPS = [0, 1, 2, 3]
SHARE_OF_A_SUM = ("1.weight", "1.bias")
"""What of the case "in sequence" has gradients that no process knows."""


LONG = {"hybrid"}
"""Copies of a shard are compared in another test too."""


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.long) if name in LONG else name for name in CASES]
)
def case(request, once):
    """The folder of a training that several processes recorded together, and how each of these ended."""
    return (request.param, *once(request.param, "recorded", **CASES[request.param]))


@pytest.fixture
def held(case):
    """The whole tensors at each step, by kind, step and name."""
    with np.load(case[1] / "held.npz") as arrays:
        return dict(arrays)


def of_all_ranks(told):
    """Put together what each rank told of each name."""
    return {name: [one[name] for one in told] for name in told[0]}


def test_pieces__are_what_each_case_is_about(case):
    name, _, ends = case
    pieces = of_all_ranks([end.value["pieces"] for end in ends])
    sizes = {of: [len(one) for one in held] for of, held in pieces.items()}
    some = {
        "fsdp on 2": ("gain", [1, 0]),
        "fsdp on 4": ("blocks.0.ln.weight", [2, 2, 2, 0]),
        "tensor parallel": ("tok.weight", [36, 30]),
        "2-D": ("tok.weight", [18, 18, 18, 12]),
        "hybrid": ("low.weight", [12, 6, 12, 6]),
        "by hand": ("few", [2, 2, 2, 0]),
        "in sequence": ("0.weight", [36, 30]),
    }
    of, expected = some[name]
    assert sizes[of] == expected
    if name == "2-D":  # what fully_shard cut lies between what tensor parallel cut
        assert [one[0] // 6 for one in pieces["tok.weight"]] == [0, 6, 3, 9]


def test_snapshots__are_the_whole_tensors_bit_for_bit(case, held):
    _, folder, _ = case
    seen = set()
    with xr.open_datatree(folder / "run.zarr", engine="zarr", consolidated=True) as run:
        for array in run["weights"].children.values():
            assert array["step"].values.tolist() == STEPS
            for at, name in enumerate(array.attrs["wdyn"]["names"]):
                values = (array["value"].isel(layer=at) if "layer" in array.dims else array["value"]).values
                for step in STEPS:
                    bits = np.ascontiguousarray(values[step]).reshape(-1).view(np.uint8)
                    np.testing.assert_array_equal(bits, held[f"bits/{step}/{name}"], err_msg=f"{name} at step {step}")
                seen.add(name)
    names = {key.split("/", 2)[2] for key in held if key.startswith("bits/")}
    tied = {"head.weight"} & names
    assert seen == names - tied


def test_run__is_whole_and_closed(case):
    _, folder, _ = case
    about = wdyn.open_run(folder / "run.zarr").attrs["wdyn"]
    assert about["closed"]
    assert about["lost"] == {"snapshots": 0, "rows": 0}
    verified = wdyn.verify(folder / "run.zarr")
    assert verified.is_whole, verified.lines()


def test_everything__is_what_one_process_records(case):
    name, folder, _ = case
    several, one = (wdyn.open_run(folder / run) for run in ("run.zarr", "one.zarr"))
    assert list(several.groups) == list(one.groups)
    for group in one.groups[1:]:  # the root has attributes only
        assert_same(several[group].to_dataset(), one[group].to_dataset(), group, leaving_out=name == "in sequence")
    about = [run.attrs["wdyn"] for run in (several, one)]
    for key in ("model", "config", "optimizers", "rows"):
        assert about[0][key] == about[1][key], key


def assert_same(several, one, group, *, leaving_out):
    """Compare two groups; `leaving_out` what no process knows."""
    assert several.sizes == one.sizes, group
    assert set(several.variables) == set(one.variables), group
    assert several.attrs == one.attrs, group
    for name in set(one.variables) - OF_THE_CLOCK:
        got, expected = several[name], one[name]
        assert got.dtype == expected.dtype, f"{group}/{name}"
        assert got.dims == expected.dims, f"{group}/{name}"
        if leaving_out and group.endswith("/gradients") and {"step", "parameter"} <= set(got.dims):
            got, expected = (each.drop_sel(parameter=list(SHARE_OF_A_SUM)) for each in (got, expected))
        if got.dtype.kind != "f" or name in EXACT or name == "value":
            np.testing.assert_array_equal(got.values, expected.values, err_msg=f"{group}/{name}")
        else:
            np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-13, err_msg=f"{group}/{name}")


def trained(held):
    return sorted(key.split("/", 2)[2] for key in held if key.startswith("gradients/1/"))


QUANTITIES = {
    "weights": lambda held, name, step: held[f"weights/{step}/{name}"],
    "displacement": lambda held, name, step: held[f"weights/{step}/{name}"] - held[f"weights/0/{name}"],
    "updates": lambda held, name, step: held[f"weights/{step}/{name}"] - held[f"weights/{step - 1}/{name}"],
    "gradients": lambda held, name, step: held[f"gradients/{step}/{name}"],
}


def reference(values):
    """Statistics of a tensor, in float64."""
    values = values.ravel()
    return {
        "mean": values.mean(),
        "std": values.std(),
        "rms": np.sqrt((values**2).mean()),
        "min": values.min(),
        "max": values.max(),
        "l1": np.abs(values).sum(),
        "l2": np.sqrt((values**2).sum()),
        "zeros": (values == 0).sum(),
        "count": values.size,
    }


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_statistics__are_those_of_the_whole_tensors(quantity, case, held):
    kind, folder, _ = case
    rows = wdyn.open_run(folder / "run.zarr")[f"statistics/{quantity}"].to_dataset().load()
    columns = {name: at for at, name in enumerate(rows["parameter"].values)}
    for name in trained(held):
        if kind == "in sequence" and quantity == "gradients" and name in SHARE_OF_A_SUM:
            continue
        for step in STEPS if quantity in ("weights", "displacement") else STEPS[1:]:
            values = QUANTITIES[quantity](held, name, step)
            for statistic, expected in reference(values).items() if values.size else ():
                got = rows[statistic].values[step, columns[name]]
                np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12, err_msg=f"{statistic} of {name}")


def test_update_ratio__is_that_of_the_whole_tensors(case, held):
    _, folder, _ = case
    ratios = wdyn.open_run(folder / "run.zarr")["relations"]["update_ratio"]
    for step in STEPS[1:]:
        for name in trained(held):
            before = held[f"weights/{step - 1}/{name}"]
            moved = held[f"weights/{step}/{name}"] - before
            with np.errstate(invalid="ignore", divide="ignore"):
                expected = np.sqrt((moved**2).sum()) / np.sqrt((before**2).sum())
            np.testing.assert_allclose(ratios.sel(step=step, parameter=name), expected, rtol=1e-9, err_msg=name)


def test_gradients__that_are_shares_of_a_sum_are_told_or_right(once, held_in_sequence):
    folder, ends = once("in sequence", "recorded", **CASES["in sequence"])
    means = wdyn.open_run(folder / "run.zarr")["statistics/gradients"]["l2"].sel(step=STEPS[1:])
    for name in SHARE_OF_A_SUM:
        truth = [np.sqrt((held_in_sequence[f"gradients/{step}/{name}"] ** 2).sum()) for step in STEPS[1:]]
        got = means.sel(parameter=name).values
        if np.isnan(got).all():
            assert any(name in message for message in ends[0].told)
        else:
            np.testing.assert_allclose(got, truth, rtol=1e-6)


@pytest.fixture
def held_in_sequence(once):
    folder, _ = once("in sequence", "recorded", **CASES["in sequence"])
    with np.load(folder / "held.npz") as arrays:
        return dict(arrays)


def test_training__is_bit_for_bit_what_it_is_without(case):
    _, _, ends = case
    for end in ends:
        assert end.value["same"]


def test_recording__says_no_word_to_the_group_of_the_training(case):
    name, _, ends = case
    for end in ends:
        assert end.value["words"] or name == "by hand"
        assert end.value["watched words"] == end.value["words"]


@pytest.mark.long
@pytest.mark.parametrize("layout", ["fsdp", "2-D", "hybrid", "by hand"])
def test_torchrun__leaves_one_run_of_four(layout, launch, tmp_path):
    ends = launch("recorded", ranks=4, folder=tmp_path, by_torchrun=True, layout=layout)
    assert all(end.value["same"] for end in ends)
    several, one = (wdyn.open_run(tmp_path / run) for run in ("run.zarr", "one.zarr"))
    for group in one.groups[1:]:
        assert_same(several[group].to_dataset(), one[group].to_dataset(), group, leaving_out=False)
    assert wdyn.verify(tmp_path / "run.zarr").is_whole


def test_ranks__warn_of_nothing_but_memory(case):
    name, _, ends = case
    for end in ends:
        assert end.told == [] or name == "in sequence"


def test_evaluations__that_put_weights_together_change_nothing(launch, tmp_path):
    ends = launch("evaluated", ranks=2, folder=tmp_path)
    assert [end.told for end in ends] == [[], []]
    run = wdyn.open_run(tmp_path / "run.zarr")
    assert run["statistics/weights"]["step"].values.tolist() == STEPS
    with np.load(tmp_path / "held.npz") as held:
        for array in run["weights"].children.values():
            for at, name in enumerate(array.attrs["wdyn"]["names"]):
                last = array["value"].sel(step=STEPS[-1])
                np.testing.assert_array_equal(last.isel(layer=at) if "layer" in last.dims else last, held[name])
