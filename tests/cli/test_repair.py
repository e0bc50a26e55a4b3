"""Does `wdyn repair` make a run whole, and say what it did?"""

from wdyn.store.lock import Lock


def test_repair__of_a_whole_run(wdyn, saved):
    result = wdyn("repair", saved)
    assert result.exit_code == 0
    assert "there is nothing to repair" in result.stdout


def test_repair__makes_verify_content(wdyn, saved):
    next(saved.glob("weights/tok-weight*/value/c.2.*")).write_bytes(b"")
    told = wdyn("repair", saved, "--dry-run")
    assert (told.exit_code, wdyn("verify", saved).exit_code) == (0, 1)
    assert "weights/tok-weight-0000: 2 of 3 rows stay" in told.stdout
    assert told.stdout.endswith("Nothing was changed.\n")
    done = wdyn("repair", saved)
    assert done.exit_code == 0
    assert "What was taken out lies in" in done.stdout
    assert wdyn("verify", saved).exit_code == 0
    assert wdyn("info", saved).exit_code == 0


def test_repair__waits_for_no_writer(wdyn, saved):
    next(saved.glob("states/step/c.*")).unlink()
    lock = Lock(saved)
    try:
        result = wdyn("repair", saved)
    finally:
        lock.release()
    assert result.exit_code == 2
    assert "is being written by process" in result.stderr
