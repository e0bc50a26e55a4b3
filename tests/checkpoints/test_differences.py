"""Does the table of differences say what became of each name, with each pair of tensors measured once?"""

import copy
import json
import math

import numpy as np
import torch
from torch import nn

import wdyn
from wdyn.checkpoints import differences as module
from wdyn.checkpoints.differences import differences
from wdyn.checkpoints.sides import side

HOSTILE = ["../../evil", "<img src=x>.weight", "a/b", "", "x" * 300, "K", "k", "naïve\n[red]"]


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def compared(a, b, **options):
    return differences(side(a), side(b), **options)


def states(result):
    return dict(zip(result["parameter"].values.tolist(), result["state"].values.tolist(), strict=True))


def model():
    torch.manual_seed(0)
    made = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 10, bias=False))
    made[3].weight = made[0].weight
    return made


def test_differences__say_what_became_of_each():
    a = {"same": drawn(3), "cast": drawn(3), "moved": drawn(3), "bent": drawn(2, 3), "gone": drawn(3, seed=1)}
    b = {"same": a["same"], "cast": a["cast"].half(), "moved": a["moved"] + 1, "bent": drawn(3, 3), "new": drawn(9)}
    result = compared(a, b)
    assert states(result) == {
        "same": "equal", "cast": "cast", "moved": "changed", "bent": "reshaped", "gone": "missing", "new": "extra"
    }  # fmt: skip
    row = result.sel(parameter="bent")
    assert (row["shape_a"].item(), row["shape_b"].item(), row["change"].isnull().item()) == ("[2, 3]", "[3, 3]", True)
    assert result.sel(parameter="gone")["dtype_b"].item() == ""
    assert result["counted"].values.tolist() == [True, True, True, False, False, False]


def test_differences__are_the_numbers_of_numpy():
    a, b = drawn(6, 9), drawn(6, 9, seed=1)
    row = compared({"w": a}, {"w": b}).sel(parameter="w")
    change = b.double().numpy() - a.double().numpy()
    sigma = np.linalg.svd(change, compute_uv=False)
    np.testing.assert_allclose(row["change"], np.linalg.norm(change), rtol=1e-13)
    np.testing.assert_allclose(row["relative"], np.linalg.norm(change) / np.linalg.norm(a.double().numpy()), rtol=1e-13)
    np.testing.assert_allclose(row["spectral_norm"], sigma[0], rtol=1e-10)
    np.testing.assert_allclose(row["stable_rank"], (sigma**2).sum() / sigma[0] ** 2, rtol=1e-10)
    assert row["rank"] == 6
    assert row["changed_share"] == 1


def test_differences__measure_shared_tensors_once(monkeypatch):
    read = []
    monkeypatch.setattr(module, "compare", lambda a, b, real=module.compare: read.append(a.shape) or real(a, b))
    a, b = model(), model()
    with torch.no_grad():
        b[0].weight.add_(1)
    result = compared(a, b)
    assert len(read) == 5
    assert result.sel(parameter="3.weight")["change"] == result.sel(parameter="0.weight")["change"] > 0
    assert not result.sel(parameter="3.weight")["counted"]
    assert result.sel(parameter="3.weight")["tied_a"] == "0.weight"


def test_differences__see_a_tie_that_broke_and_one_that_is_new():
    a, b = model(), model()
    b[3].weight = nn.Parameter(b[3].weight.detach().clone())
    for one, other, ties in ((a, b, ("0.weight", "")), (b, a, ("", "0.weight"))):
        row = compared(one, other).sel(parameter="3.weight")
        assert (row["state"].item(), row["tied_a"].item(), row["tied_b"].item()) == ("equal", *ties)
        assert row["counted"]


def test_differences__do_not_depend_on_the_order_of_names():
    a = model().state_dict()
    backwards = dict(reversed(a.items()))
    result = compared(a, backwards)
    assert set(states(result).values()) == {"equal"}
    assert (result["tied_a"] == result["tied_b"]).all()


def test_differences__let_a_file_leave_a_tied_name_out():
    whole = model().state_dict()
    less = {name: value for name, value in whole.items() if name != "3.weight"}
    assert states(compared(whole, less))["3.weight"] == "left out"
    assert states(compared(less, whole))["3.weight"] == "left out"
    lacking = {name: value for name, value in less.items() if name != "0.weight"}
    assert states(compared(whole, lacking))["3.weight"] == "missing"


def test_differences__find_a_renamed_model_again():
    a = model().state_dict()
    b = {f"wrapped.{name}": value for name, value in a.items()}
    result = compared(a, b)
    assert set(states(result).values()) == {"equal", "left out"}
    assert result["name_b"].values.tolist()[:2] == ["wrapped.0.weight", "wrapped.1.weight"]
    assert result["renamed_by"].values.tolist()[0] == "equal values"


def test_differences__count_nan_also_of_what_has_no_partner():
    bad = torch.tensor([[1.0, math.nan], [math.inf, 0.0]])
    result = compared({"w": torch.ones(2, 2), "gone": bad}, {"w": bad, "new": bad[:1]})
    counts = {name: [int(result[c].sel(parameter=name)) for c in ("nans_a", "infs_a", "nans_b", "infs_b")] for name in
              ("w", "gone", "new")}  # fmt: skip
    assert counts == {"w": [0, 0, 1, 1], "gone": [1, 1, -1, -1], "new": [-1, -1, 1, 0]}
    assert result.sel(parameter="w")["change"].isnull()


def test_differences__take_hostile_names_integers_bools_and_nothing():
    a = {name: drawn(3, 2, seed=at) for at, name in enumerate(HOSTILE)}
    a |= {"count": torch.tensor(3), "mask": torch.tensor([True, False]), "empty": torch.empty(0, 4)}
    b = copy.deepcopy(a) | {"count": torch.tensor(5), "mask": torch.tensor([True, True])}
    result = compared(a, b)
    assert set(result["parameter"].values.tolist()) == set(a)
    changed = {name for name, state in states(result).items() if state == "changed"}
    assert changed == {"count", "mask"}
    assert result.sel(parameter="count")["max_abs"] == 2
    assert result.sel(parameter="empty")["state"] == "equal"


def test_differences__of_nothing_in_common_and_without_spectra():
    result = compared({"w": drawn(3, 3)}, {"w": drawn(3, 3, seed=1)}, spectra=False)
    assert result["stable_rank"].isnull().all()
    assert result["change"] > 0


def test_differences__tell_how_far_they_are():
    told = []
    compared(model(), model(), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (6, 6)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_differences__of_a_run_and_the_model_that_it_recorded(tmp_path):
    made = model()
    with wdyn.watch(made, to=tmp_path / "r", every=1, snapshots=1) as w:
        torch.save(made.state_dict(), tmp_path / "0.pt")
        with torch.no_grad():
            made[1].weight.add_(0.5)
        w.step()
    assert set(states(compared(f"{tmp_path}/r@0", tmp_path / "0.pt")).values()) == {"equal"}
    moved = compared(tmp_path / "0.pt", tmp_path / "r")
    assert [name for name, state in states(moved).items() if state != "equal"] == ["1.weight"]
    np.testing.assert_allclose(moved.sel(parameter="1.weight")["change"], 0.5 * 8, rtol=1e-6)
    assert json.loads(moved.sel(parameter="1.weight")["shape_a"].item()) == [8, 8]


def test_differences__are_the_same_both_ways():
    one, other = {"w": drawn(5, 4)}, {"w": drawn(5, 4, seed=2)}
    there, back = compared(one, other).sel(parameter="w"), compared(other, one).sel(parameter="w")
    for name in ("change", "max_abs", "ulps", "cosine", "stable_rank", "dot"):
        np.testing.assert_allclose(there[name], back[name], rtol=1e-12)
