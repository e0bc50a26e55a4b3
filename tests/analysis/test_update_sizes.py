"""Are updates measured as float64 geometry has it, and does each check fire on what was planted, and only then?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose
from torch import nn

import wdyn
from loops import Tiny, loss_of
from wdyn.findings import Finding, Severity

pytestmark = pytest.mark.filterwarnings("ignore:what=:wdyn.errors.WdynWarning")

Gradient = Callable[[int, torch.Tensor], torch.Tensor | None]
WAYS = ("weights", "updates", "displacement", "update_cosine")
DEEP = tuple(f"blocks.{layer}.weight" for layer in range(5))


class Plain(nn.Module):
    """Five layers of 16 x 16, and a norm, in float64; they learn nothing but what is planted as their gradient."""

    def __init__(self, size: float = 1.0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(99)
        self.blocks = nn.ModuleList(nn.Linear(16, 16, bias=False, dtype=torch.float64) for _ in DEEP)
        self.norm = nn.LayerNorm(16, dtype=torch.float64)
        with torch.no_grad():
            for block in self.blocks:
                block.weight.copy_(size * torch.randn(16, 16, generator=random, dtype=torch.float64))


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1.0)


def record(
    to: Path,
    planted: Mapping[str, Gradient],
    *,
    steps: int = 12,
    optimizer: Callable[[Any], torch.optim.Optimizer] = sgd,
    model: nn.Module | None = None,
    every: int = 1,
    what: Any = WAYS,
    snapshots: Any = None,
) -> xr.DataTree:
    """Step with planted gradients: with SGD and a rate of 1 they are the updates, but for their sign.

    What has no gradient planted is frozen.
    """
    model = model or Plain()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in planted)
    steps_with = optimizer(model.parameters())
    with wdyn.watch(model, steps_with, to=to, every=every, what=what, snapshots=snapshots):
        for step in range(1, steps + 1):
            for name, parameter in model.named_parameters():
                parameter.grad = planted[name](step, parameter.detach()) if name in planted else None
            steps_with.step()
    return wdyn.open_run(to)


def noise(size: float, seed: int = 0) -> Gradient:
    """Give random updates of a given norm over that of the weights."""
    random = torch.Generator().manual_seed(seed)

    def gradient(_: int, weight: torch.Tensor) -> torch.Tensor:
        drawn = torch.randn(weight.shape, generator=random, dtype=weight.dtype)
        return drawn * size * weight.norm() / drawn.norm()

    return gradient


def everywhere(gradient: Callable[[int], Gradient]) -> dict[str, Gradient]:
    return {name: gradient(seed) for seed, name in enumerate(DEEP)}


def found(run: xr.DataTree, **limits: Any) -> dict[str, Finding]:
    return {one.code: one for one in wdyn.update_sizes.judge(wdyn.update_sizes(run), **limits)}


def test_update_sizes__equal_float64_geometry(tmp_path: Path) -> None:
    run = record(tmp_path / "run.zarr", everywhere(lambda seed: noise(0.3, seed)), steps=5, snapshots=wdyn.every(1))
    result = wdyn.update_sizes(run)
    assert result["step"].values.tolist() == [1, 2, 3, 4, 5]
    for name in DEEP[:2]:
        weights = wdyn.select(run, path="blocks.weight", layer=int(name[7])).values.reshape(6, -1)
        one, update = result.sel(parameter=name), np.diff(weights, axis=0)
        before, after = weights[:-1], weights[1:]
        length, size = np.linalg.norm(before, axis=1), np.linalg.norm(update, axis=1)
        along = (update * before).sum(1) / length**2
        assert_allclose(one["update_ratio"], size / length, rtol=1e-9)
        assert_allclose(one["radial"], along, rtol=1e-7, atol=1e-12)
        assert_allclose(one["tangential"], np.linalg.norm(update - along[:, None] * before, axis=1) / length, rtol=1e-9)
        cosine = (before * after).sum(1) / length / np.linalg.norm(after, axis=1)
        assert_allclose(one["rotation"], np.arccos(cosine), rtol=1e-7)
        inner = (update[1:] * update[:-1]).sum(1)
        assert_allclose(one["update_cosine"][1:], inner / size[1:] / size[:-1], rtol=1e-6, atol=1e-9)
        assert_allclose(one["undone"][1:], -inner / size[:-1] ** 2, rtol=1e-6, atol=1e-9)
        assert_allclose(one["path_length"], size.cumsum(), rtol=1e-9)
        assert_allclose(one["displacement"], np.linalg.norm(after - weights[0], axis=1), rtol=1e-9)
        assert_allclose(one["efficiency"], one["displacement"] / size.cumsum(), rtol=1e-9)
    assert np.isnan(result["update_cosine"].isel(step=0)).all()
    assert result["matrix"].values.tolist() == [True] * 5 + [False] * 2


def test_efficiency__is_1_on_a_straight_way_and_falls_with_the_root_of_random_steps(tmp_path: Path) -> None:
    planted = {
        DEEP[0]: lambda _, weight: torch.ones_like(weight) / 100,
        DEEP[1]: lambda _, weight: torch.randn(weight.shape, dtype=weight.dtype, generator=random),
    }
    random = torch.Generator().manual_seed(3)
    result = wdyn.update_sizes(record(tmp_path / "run.zarr", planted, steps=25))
    last = result["efficiency"].isel(step=-1)
    assert_allclose(last.sel(parameter=DEEP[0]), 1, rtol=1e-9)
    assert_allclose(last.sel(parameter=DEEP[1]), 1 / 5, rtol=0.15)


def test_gaps__leave_the_chord_and_tell_why_the_path_is_not_there(tmp_path: Path) -> None:
    run = record(tmp_path / "run.zarr", everywhere(lambda seed: noise(1e-3, seed)), every=3)
    result = wdyn.update_sizes(run)
    assert result["efficiency"].isnull().all()
    assert result["efficiency"].attrs["skipped"] == "the path has gaps: the step before 6 has no row"
    assert "every=1" in result["efficiency"].attrs["remedy"]
    assert (result["displacement"].sel(parameter=list(DEEP)) > 0).all()
    assert result["update_cosine"].isnull().all()  # of updates three steps apart
    assert result["update_cosine"].attrs["skipped"] == "no two recorded steps follow each other"


def test_what_was_not_recorded__is_skipped_with_a_remedy(tmp_path: Path) -> None:
    planted = everywhere(lambda seed: noise(1e-3, seed))
    bare = wdyn.update_sizes(record(tmp_path / "bare.zarr", planted, what=("weights",)))
    assert bare.attrs["skipped"] == "updates, and how they stand to the weights, were not recorded"
    assert "updates" in bare.attrs["remedy"]
    still = wdyn.update_sizes(record(tmp_path / "still.zarr", planted, steps=0))
    assert still.attrs["skipped"] == "no step with an update was recorded"
    part = wdyn.update_sizes(record(tmp_path / "part.zarr", planted, what=("weights", "updates")))
    assert part["update_cosine"].attrs["skipped"] == "the cosine of successive updates was not recorded"
    assert part["efficiency"].attrs["skipped"] == "the displacement was not recorded"
    assert "SGD" in part["rotation_ratio"].attrs["skipped"]
    assert "skipped" not in part["update_ratio"].attrs
    plain = record(tmp_path / "plain.zarr", planted, optimizer=lambda p: torch.optim.AdamW(p, weight_decay=0))
    assert wdyn.update_sizes(plain)["rotation_ratio"].attrs["skipped"] == "there is no weight decay"


def test_sound_updates__have_no_finding(tmp_path: Path) -> None:
    assert found(record(tmp_path / "run.zarr", everywhere(lambda seed: noise(1e-3, seed)))) == {}


@pytest.mark.parametrize(
    ("size", "code", "severity"),
    [
        (0.3, "UPD001", Severity.WARNING),
        (0.05, "UPD001", Severity.INFO),
        (0.02, None, None),
        (1e-4, None, None),
        (1e-6, "UPD002", Severity.INFO),
    ],
)
def test_ratio__far_from_the_guide_is_one_finding_for_all_layers(
    size: float, code: str | None, severity: Severity | None, tmp_path: Path
) -> None:
    run = record(tmp_path / "run.zarr", everywhere(lambda seed: noise(size, seed)))
    known = found(run)
    assert set(known) == ({code} if code else set())
    if code:
        one = known[code]
        assert one.severity is severity
        assert set(one.evidence["parameter"].values) == set(DEEP)
        assert one.message.startswith("5 matrices")
        again = eval(one.reproduce, {"wdyn": wdyn, "run": run})
        assert set(again["parameter"].values) == set(DEEP)


def test_ratio__is_judged_of_matrices_and_of_the_later_half(tmp_path: Path) -> None:
    planted = everywhere(lambda seed: lambda step, weight: noise(0.5 if step < 6 else 1e-3, seed)(step, weight))
    planted["norm.weight"] = lambda _, weight: weight / 2
    run = record(tmp_path / "run.zarr", planted)
    assert float(wdyn.update_sizes(run)["update_ratio"].sel(parameter="norm.weight", step=12)) == 0.5
    assert found(run) == {}


@pytest.mark.parametrize(("curvature", "severity"), [(1.95, Severity.WARNING), (1.5, Severity.INFO), (0.5, None)])
def test_oscillation__is_told_where_steps_are_too_long_for_the_curvature(
    curvature: float, severity: Severity | None, tmp_path: Path
) -> None:
    run = record(tmp_path / "run.zarr", {DEEP[2]: lambda _, weight: curvature * weight})
    known = found(run, above=10.0)
    if severity is None:
        assert known == {}
        return
    (one,) = known.values()
    assert (one.code, one.severity) == ("UPD003", severity)
    assert (
        f"{DEEP[2]}; in it each update takes back {curvature - 1:.0%} of the one before (cosine -1.00)" in one.message
    )
    assert one.evidence["parameter"].values.tolist() == [DEEP[2]]


def test_oscillation__under_noise_has_minus_half_of_rate_times_curvature_as_its_cosine(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    drawn = lambda weight: torch.randn(weight.shape, generator=random, dtype=weight.dtype)  # noqa: E731
    planted = {
        DEEP[0]: lambda _, weight: 0.9 * weight + drawn(weight),
        DEEP[1]: lambda _, weight: 0.2 * weight + drawn(weight),
    }
    run = record(tmp_path / "run.zarr", planted, steps=40, what=("updates", "update_cosine"))
    late = wdyn.update_sizes(run)["late_cosine"]
    assert_allclose(late.sel(parameter=list(DEEP[:2])), [-0.45, -0.1], atol=0.03)
    told = found(run, above=10.0, reckless=10.0)
    assert told["UPD003"].evidence["parameter"].values.tolist() == [DEEP[0]]


def test_oscillation__by_chance_is_not_told_of_single_values(tmp_path: Path) -> None:
    signs = iter([1.0, 1, -1, 1, -1, -1, 1, 1, -1, 1, -1, 1, -1, 1] * 5)
    one = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    run = record(tmp_path / "run.zarr", {"weight": lambda _, w: torch.full_like(w, 1e-3 * next(signs))}, model=one)
    assert float(wdyn.update_sizes(run)["late_cosine"][0]) < -0.3
    assert "UPD003" not in found(run)


def test_decay_share__is_all_of_it_without_gradients(tmp_path: Path) -> None:
    def adamw(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)

    planted = dict.fromkeys(DEEP[:2], lambda _, weight: torch.zeros_like(weight)) | {DEEP[2]: noise(1.0)}
    run = record(tmp_path / "run.zarr", planted, optimizer=adamw)
    result = wdyn.update_sizes(run)
    assert_allclose(result["decay_share"].sel(parameter=list(DEEP[:2])), 1, rtol=1e-9)
    assert_allclose(result["radial"].sel(parameter=list(DEEP[:2])), -1e-3, rtol=1e-9)
    one = result.sel(parameter=DEEP[2])
    before = wdyn.statistics(run)["l2"].sel(parameter=DEEP[2]).values[:-1]
    updates = wdyn.statistics(run, "updates")["l2"].sel(parameter=DEEP[2]).values[1:]
    assert_allclose(one["decay_share"], 1e-3 * before / updates, rtol=1e-9)
    assert found(run)["UPD004"].evidence["parameter"].values.tolist() == list(DEEP[:2])


@pytest.mark.parametrize(
    ("optimizer", "share"),
    [
        (lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=0.1), None),
        (lambda p: torch.optim.Adam(p, lr=1e-3), 0.0),
        (lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=0.1, decoupled_weight_decay=True), 1e-4),
        (lambda p: torch.optim.SGD(p, lr=1e-3, weight_decay=0.1), None),
    ],
)
def test_decay_share__is_told_where_the_decay_is_known_to_be_decoupled(
    optimizer: Any, share: float | None, tmp_path: Path
) -> None:
    result = wdyn.update_sizes(record(tmp_path / "run.zarr", {DEEP[0]: noise(1.0)}, optimizer=optimizer))
    told = result["decay_share"].sel(parameter=DEEP[0])
    if share is None:
        assert told.isnull().all()
        assert "is not known to decouple weight decay" in result["decay_share"].attrs["skipped"]
    else:
        assert_allclose(told, share / result["update_ratio"].sel(parameter=DEEP[0]), rtol=1e-9)
    assert "UPD004" not in found(wdyn.open_run(tmp_path / "run.zarr"))


def test_balance_of_adamw__is_reached_by_random_gradients_and_missed_by_agreeing_ones(tmp_path: Path) -> None:
    def adamw(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=1e-2, weight_decay=1.0, betas=(0.9, 0.99))

    random = torch.Generator().manual_seed(0)
    planted: dict[str, Gradient] = {
        DEEP[0]: lambda _, weight: torch.randn(weight.shape, generator=random, dtype=weight.dtype),
        DEEP[1]: lambda _, weight: torch.ones_like(weight),
    }
    how = {"steps": 400, "every": 5, "what": ("weights", "updates"), "model": Plain(size=0.1)}
    run = record(tmp_path / "run.zarr", planted, optimizer=adamw, **how)
    result = wdyn.update_sizes(run)
    walk = result.sel(parameter=DEEP[0])
    assert_allclose(walk["late_rotation_ratio"], 1, rtol=0.15)
    assert_allclose(walk["late_norm_ratio"], 1, rtol=0.15)
    assert_allclose(walk["approach"], 1 - np.exp(-0.02 * walk["step"]), rtol=1e-9)
    (one,) = [one for one in wdyn.update_sizes.judge(result) if one.code == "UPD007"]
    assert one.evidence["parameter"].values.tolist() == [DEEP[1]]
    assert "1 matrix turns slower" in one.message
    assert "UPD007" not in {one.code for one in wdyn.update_sizes.judge(result, settled=0.9999)}
    fast = result.sel(parameter=[DEEP[0]]).assign(late_rotation_ratio=("parameter", [4.0]))
    assert "turns faster" in {one.code: one for one in wdyn.update_sizes.judge(fast)}["UPD007"].message


def test_amsgrad__has_no_balance(tmp_path: Path) -> None:
    run = record(tmp_path / "run.zarr", {DEEP[0]: noise(1.0)}, optimizer=lambda p: torch.optim.AdamW(p, amsgrad=True))
    assert wdyn.update_sizes(run)["rotation_ratio"].isnull().all()


def test_no_update__of_a_trainable_weight_is_a_warning(tmp_path: Path) -> None:
    sound = everywhere(lambda seed: noise(1e-3, seed))
    stops = sound | {DEEP[3]: lambda step, weight: sound[DEEP[4]](step, weight) if step < 4 else None}
    run = record(tmp_path / "run.zarr", stops)
    (one,) = found(run).values()
    assert (one.code, one.severity) == ("UPD005", Severity.WARNING)
    assert one.evidence["parameter"].values.tolist() == [DEEP[3]]
    assert "at 100% of the later rows, first at step 4" in one.message
    idle = record(tmp_path / "idle.zarr", sound, optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
    assert found(idle) == {}
    assert not wdyn.update_sizes(idle)["still"].any()


def test_nan__is_an_error_at_its_first_step_and_ends_the_path(tmp_path: Path) -> None:
    sound = everywhere(lambda seed: noise(1e-3, seed))
    struck = {DEEP[1]: lambda step, weight: sound[DEEP[1]](step, weight) * (np.nan if step == 8 else 1)}
    run = record(tmp_path / "run.zarr", sound | struck)
    known = found(run)
    assert set(known) == {"UPD006"}
    assert known["UPD006"].severity is Severity.ERROR
    assert f"first seen at step 8 in {DEEP[1]}" in known["UPD006"].message
    one = wdyn.update_sizes(run).sel(parameter=DEEP[1])
    assert one["efficiency"].isnull().values.tolist() == [False] * 7 + [True] * 5
    assert not one["still"].any()


def test_few_rows__are_not_judged(tmp_path: Path) -> None:
    assert found(record(tmp_path / "run.zarr", everywhere(lambda seed: noise(0.5, seed)), steps=8)) == {}


def test_runs__pass_through_and_are_judged_one_by_one(tmp_path: Path) -> None:
    loud = record(tmp_path / "loud.zarr", everywhere(lambda seed: noise(0.3, seed)), what=WAYS[:2])
    calm = record(tmp_path / "calm.zarr", everywhere(lambda seed: noise(1e-3, seed)), what=WAYS[:2])
    both = wdyn.join_runs(loud=loud, calm=calm)
    result = wdyn.update_sizes(both)
    for label, run in (("loud", loud), ("calm", calm)):
        alone = wdyn.update_sizes(run)["update_ratio"]
        assert_allclose(result["update_ratio"].sel(run=label, parameter=alone["parameter"]), alone)
    told = wdyn.analyze(both, ["update_sizes"]).findings
    assert [one.message.split(":")[0] for one in told] == ["loud"]


def test_tied_names__are_measured_once(tmp_path: Path) -> None:
    model = Tiny()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with wdyn.watch(model, optimizer, to=tmp_path / "run.zarr", every=1):
        loss_of(model, 0).backward()
        optimizer.step()
    names = wdyn.update_sizes(wdyn.open_run(tmp_path / "run.zarr"))["parameter"].values.tolist()
    assert "tok.weight" in names
    assert "head.weight" not in names
