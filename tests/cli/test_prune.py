"""Does `wdyn prune` say what goes, and only do it when it is meant?"""

import wdyn as library
from wdyn.store.writer import Writer


def resume(run):
    with Writer(run, about={}, attempt={"resumed_from_step": 5}, resume=True):
        pass


def steps(run):
    return library.open_run(run, attempt=0)["states"]["step"].values.tolist()


def test_prune__says_what_it_deleted_and_before_it_what_it_would(wdyn, saved):
    resume(saved)
    there = steps(saved)
    asked = wdyn("prune", saved, "--dry-run")
    assert (asked.exit_code, steps(saved)) == (0, there)
    assert asked.stdout.startswith("Would delete ")
    assert "of attempt 0): about " in asked.stdout
    done = wdyn("prune", saved)
    assert done.stdout.startswith("Deleted ")
    assert steps(saved) == [step for step in there if step <= 5] != there


def test_prune__of_a_run_without_superseded_rows(wdyn, saved):
    assert wdyn("prune", saved).stdout == "Nothing to delete: no row was superseded.\n"


def test_prune__of_no_run_cannot_run(wdyn, tmp_path):
    result = wdyn("prune", tmp_path / "nothing")
    assert result.exit_code == 2
    assert "No run at" in result.stderr
