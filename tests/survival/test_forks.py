"""Is a run that of one process, whatever others are forked or spawned from it?"""

import subprocess
import sys

import pytest

import wdyn


def test_forked_child__that_goes_on_training_and_leaves_the_block_touches_nothing(start, whole, place):
    program = start(
        """
        with watch() as w:
            for _ in range(5):
                step()
            child = os.fork()
            if child == 0:
                for _ in range(50):
                    w.log(loss=-1.0)
                    step()
                w.snapshot()
                w.flush()
            else:
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
                step()
        say("left", at_step())
        """
    )
    assert program.wait() == 0, program.errors
    assert program.lines == ["left 55", "left 6"]
    assert whole() == list(range(7))
    assert "loss" not in wdyn.open_run(place)["scalars"]


def test_forked_child__exits_without_leaving_the_block_and_its_parent_goes_on(start, whole):
    """It must neither hang, nor flush the queue of its parent, nor let go of the run."""
    program = start(
        """
        w = watch()
        w.__enter__()
        for at in range(30):
            step()
            if at % 10 == 0:
                child = os.fork()
                if child == 0:
                    sys.exit(5)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
                try:
                    wdyn.watch(model, optimizer, to=place, resume=True).__enter__()
                except wdyn.errors.RunLocked:
                    say("held")
        """
    )
    assert program.wait() == 0, program.errors
    assert program.lines == ["held"] * 3
    assert "WdynWarning" not in program.errors
    assert whole() == list(range(31))


def test_forked_child__may_record_a_run_of_its_own_but_not_that_of_its_parent(start, whole, place, tmp_path):
    program = start(
        """
        with watch() as w:
            step()
            child = os.fork()
            if child == 0:
                try:
                    watch(resume=True).__enter__()
                except wdyn.errors.RunLocked as error:
                    say(f"process {os.getppid()} on " in str(error))
                torch.nn.init.zeros_(model.weight)
                with wdyn.watch(model, optimizer, to=place.with_name("child.zarr"), every=1, snapshots=1):
                    step()
                    step()
                sys.exit()
            assert os.waitpid(child, 0)[1] == 0
            step()
        """
    )
    assert program.wait() == 0, program.errors
    assert program.lines == ["True"]
    assert whole() == list(range(3))
    assert whole(tmp_path / "child.zarr") == list(range(3))


def test_forked_child__ends_by_sigterm_as_if_nothing_were_recorded(start, whole):
    program = start(
        """
        with watch(flush_on_sigterm=True) as w:
            step()
            child = os.fork()
            if child == 0:
                signal.raise_signal(signal.SIGTERM)
                sys.exit()
            say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            step()
        """
    )
    assert program.wait() == 0, program.errors
    assert program.lines == ["-15"]
    assert whole() == list(range(3))


LOADER = """
import multiprocessing, sys, warnings
import torch, wdyn
from torch.utils.data import DataLoader, TensorDataset

def main():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = TensorDataset(torch.randn(16, 3))
    loader = DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context=sys.argv[2], persistent_workers=True)
    with wdyn.watch(model, optimizer, to=sys.argv[1], every=1) as w:
        for epoch in range(2):
            for (batch,) in loader:
                optimizer.zero_grad()
                model(batch).square().mean().backward()
                optimizer.step()
    print("trained", flush=True)

if __name__ == "__main__":
    main()
"""


def loaded(tmp_path, method):
    """Train with workers that load the data, started by `method`; give the steps recorded."""
    script, place = tmp_path / "train.py", tmp_path / "run.zarr"
    script.write_text(LOADER)
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", script, place, method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "trained\n", "")
    return wdyn.statistics(wdyn.open_run(place))["step"].values.tolist()


def test_workers__that_are_forked_record_nothing(tmp_path):
    assert loaded(tmp_path, "fork") == list(range(9))


@pytest.mark.long
def test_workers__that_are_spawned_record_nothing(tmp_path):
    assert loaded(tmp_path, "spawn") == list(range(9))
