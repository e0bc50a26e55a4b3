"""Does a run stay one run, however often it is killed and continued, from its last step or from a checkpoint?"""

import random
import signal
import time

import numpy as np
import pytest

import wdyn

TRAIN = """
checkpoint = place.with_name("checkpoint.pt")
saved = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else None
w = watch(resume=True, snapshots=wdyn.every(5))
if saved:
    model.load_state_dict(saved["model"])
    w.load_state_dict(saved["watch"])
with w:
    say("entered")
    while True:
        w.log(loss=float(at_step()))
        step()
        if at_step() % 4 == 0:
            w.flush()
            say(at_step())
        if at_step() % EVERY == 0:
            w.flush()  # what the checkpoint goes on from is in the run
            torch.save({"model": model.state_dict(), "watch": w.state_dict()}, f"{checkpoint}.new")
            os.replace(f"{checkpoint}.new", checkpoint)
            say("saved")
        time.sleep(0.002)
"""


def live(start, whole, place, *, lives, seed):
    """Kill one program after another, each going on from the checkpoint of one before; look at the run after each."""
    chance = random.Random(seed)
    for _ in range(lives):
        program = start(TRAIN.replace("EVERY", str(chance.choice([3, 7, 20]))))
        program.until_it_says(chance.choice(["entered", "saved", "saved"]))
        time.sleep(chance.uniform(0, 0.1))
        program.signal(signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL, program.errors
        assert program.errors == ""
        told = [int(line) for line in program.lines if line.isdigit()]
        assert whole()[-1] >= max(told, default=0)
    return wdyn.open_run(place)


def assert_one_run(run, place):
    steps = run["states"]["step"].values
    attempts = run.attrs["wdyn"]["attempts"]
    # What a step did is known at every step, those at which a run went on included.
    length = wdyn.relations(run)["path_length"].sel(parameter="weight")
    np.testing.assert_allclose(length, steps * np.sqrt(6), rtol=1e-9)
    for number, one in enumerate(attempts[1:], start=1):
        came_from = wdyn.open_run(place, attempt=number - 1)["states"]
        before = came_from.sel(step=one["resumed_from_step"])["attempt"]
        assert one["parent"] == before
        shown = wdyn.open_run(place, attempt=number)["states"]["step"].values
        np.testing.assert_array_equal(np.diff(shown), 1)
    used = run["scalars/lr"].dropna("step")
    np.testing.assert_array_equal(used.values, 1.0)
    unknown = set(steps[1:-1].tolist()) - set(used["step"].values.tolist())
    assert unknown <= never_told(place, attempts)


def never_told(place, attempts):
    """Steps that ended an attempt: what a step used is written with the next one."""
    each = (wdyn.open_run(place, attempt=number)["scalars/lr"].dropna("step") for number in range(len(attempts)))
    told = [set(lr["step"].values.tolist()) for lr in each]
    came_from = (one["resumed_from_step"] for one in attempts[1:])
    return {step for before, step in zip(told[:-1], came_from, strict=True) if step not in before}


def cycles(start, whole, place, *, lives, seed):
    run = live(start, whole, place, lives=lives, seed=seed)
    assert len(run.attrs["wdyn"]["attempts"]) >= lives - 2  # a kill may come before the first row
    assert_one_run(run, place)
    rows = run["states"]["step"].size
    wdyn.prune(place)
    assert len(whole()) == rows
    assert np.isfinite(wdyn.relations(wdyn.open_run(place))["path_length"]).all()


def test_cycles__of_kill_and_resume_give_one_run(start, whole, place):
    cycles(start, whole, place, lives=5, seed=0)


@pytest.mark.long
def test_cycles__of_kill_and_resume_give_one_run_of_many(start, whole, place):
    cycles(start, whole, place, lives=50, seed=1)
