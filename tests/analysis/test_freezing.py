"""Is every stretch in which a weight was frozen judged, and nothing else?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

import wdyn
from wdyn.analysis.freezing import anchors
from wdyn.analysis.movement import movement
from wdyn.findings import Severity

STEPS = [0, 10, 20, 30, 40]


def path(*places: float, seed: int = 0) -> np.ndarray:
    """A weight that is shifted from its first place, step by step."""
    start = np.random.default_rng(seed).normal(size=(6, 5))
    return np.stack([start + place for place in places]).astype(np.float32)


def with_trainable(run: xr.DataTree, name: str, rows: list[float]) -> xr.DataTree:
    states = run["states"].to_dataset()
    trainable = states["trainable"].copy()
    trainable.loc[{"parameter": name}] = rows
    changed = run.copy()
    changed["states"] = xr.DataTree(states.assign(trainable=trainable))
    return changed


def found(run: xr.DataTree, code: str = "FRZ001") -> list[Any]:
    return [one for one in movement.judge(movement(run)) if one.code == code]


@pytest.mark.parametrize("snapshots", [[0, 40], [], None])
def test_frozen_weight__that_went_and_came_back_is_told_with_its_step(snapshots: Any, plant: Any, tree: Any) -> None:
    planted = [
        plant("held", "linear", path(0, 0, 1, 1, 0), trainable=False),
        plant("b", "linear", path(0, 1, 2, 3, 4, seed=1)),
    ]
    run = tree(planted, steps=STEPS, snapshots=snapshots)
    (one,) = found(run)
    assert one.severity is Severity.ERROR
    assert "1 frozen weight moved: held" in one.message
    assert "at step 20" in one.message
    assert ("by its statistics" in one.message) == (snapshots is not None)
    assert found(run, "FRZ005") == []


@pytest.mark.parametrize("snapshots", [[], None])
def test_freeze_in_mid_training__is_judged_from_the_first_row_that_shows_it(
    snapshots: Any, plant: Any, tree: Any
) -> None:
    rows = [1, 1, 0, 0, 0]
    for places, moved in (((0, 1, 2, 2, 2), False), ((0, 1, 2, 2, 2.5), True), ((0, 0, 0, 0, 0), False)):
        run = tree([plant("a", "linear", path(*places))], steps=STEPS, snapshots=snapshots)
        told = found(with_trainable(run, "a", rows))
        assert bool(told) == moved, places
    (one,) = found(with_trainable(tree([plant("a", "linear", path(0, 1, 2, 2, 2.5))], steps=STEPS), "a", rows))
    assert one.severity is Severity.WARNING
    assert "at step 40" in one.message
    assert "momentum" in one.message
    assert one.evidence["frozen_change"].sel(parameter="a", step=40) == pytest.approx(0.5 * np.sqrt(30))


def test_unfreezing_by_and_by__is_no_move_while_frozen(plant: Any, tree: Any) -> None:
    run = tree([plant("a", "linear", path(0, 0, 0, 1, 2), trainable=False)], steps=STEPS)
    assert found(with_trainable(run, "a", [0, 0, 1, 1, 1])) == []
    assert found(with_trainable(run, "a", [0, 0, 0, 0, 1]))
    back = tree([plant("a", "linear", path(0, 0, 1, 1, 1))], steps=STEPS)
    assert found(with_trainable(back, "a", [0, 1, 0, 0, 0])) == []


def test_update__of_a_frozen_weight_is_a_move_though_its_statistics_stay(plant: Any, tree: Any) -> None:
    values = path(0, 0, 0, 0, 0)
    values[2:] = values[2:, ::-1]  # a permutation: no statistic of the values can tell
    run = tree([plant("a", "linear", values, trainable=False)], steps=STEPS, snapshots=[])
    assert found(run) == []
    updates = run["statistics/weights"].to_dataset() * 0
    updates["l2"].loc[{"step": 20}] = 1e-3
    run["statistics/updates"] = xr.DataTree(updates)
    assert "a at step 20, by its statistics" in found(run)[0].message


@pytest.mark.parametrize("count", [2, 9])
def test_line_that_reproduces__is_short_and_selects_the_same(count: int, plant: Any, tree: Any) -> None:
    names = [f"a.rather.long.name.of.a.module.{at}.weight" for at in range(count)]
    planted = [plant(name, "linear", path(0, 1, 2, 3, 4), trainable=False) for name in names]
    run = tree([*planted, plant("b", "linear", path(0, 1, 2, 3, np.nan))], steps=STEPS)
    for one in movement.judge(movement(run)):
        assert len(one.reproduce) <= 160
        shown = eval(one.reproduce, {"wdyn": wdyn, "run": run})
        assert shown["parameter"].values.tolist() == one.evidence["parameter"].values.tolist()


masks = nps.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 3)))


@given(st.data())
def test_anchor__is_the_first_cell_seen_in_the_same_frozen_stretch(data: st.DataObject) -> None:
    frozen = data.draw(masks)
    have = data.draw(nps.arrays(bool, frozen.shape))
    for (row, column), at in np.ndenumerate(anchors(frozen, have)):
        begin = row
        while begin >= 0 and frozen[begin, column]:
            begin -= 1
        seen = [r for r in range(begin + 1, row + 1) if have[r, column]]
        assert at == (seen[0] if seen and have[row, column] and frozen[row, column] else -1)
