"""Is everything kept however a program ends: by a signal, an error, its exit, or none of them?"""

import random
import signal
import time

import pytest

import wdyn
from wdyn.store.lock import holder


def is_closed(place):
    return bool(wdyn.open_run(place).attrs["wdyn"]["closed"])


INTERRUPTED = """
try:
    with watch() as w:
        say("entered")
        for_ever(w)
except KeyboardInterrupt:
    say("interrupted", at_step(), len(optimizer._optimizer_step_pre_hooks))
"""


def interrupt_often(start, whole, tmp_path, *, times, seed):
    """Interrupt programs at any moment of their training; each run must end with the last whole step."""
    chance = random.Random(seed)
    for number in range(times):
        path = tmp_path / f"{number}.zarr"
        program = start(INTERRUPTED, to=path)
        program.until_it_says("entered")
        time.sleep(chance.uniform(0, 0.3))
        program.signal(signal.SIGINT)
        assert program.wait() == 0, program.errors
        word, step, hooks = program.lines[-1].split()
        assert (word, hooks) == ("interrupted", "0")
        assert holder(path) == ""
        assert is_closed(path)
        steps = whole(path)
        assert int(step) - 1 <= steps[-1] <= int(step)  # it may come while the last step is made or recorded


def test_interrupt__ends_the_run_with_the_last_step(start, whole, tmp_path):
    interrupt_often(start, whole, tmp_path, times=5, seed=0)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 5))
def test_interrupt__ends_the_run_with_the_last_step_of_many(start, whole, tmp_path, seed):
    interrupt_often(start, whole, tmp_path, times=50, seed=seed)


def test_second_interrupt__leaves_the_rest_to_the_exit(start, whole, place):
    """Whoever presses Ctrl-C twice waits no longer, and loses nothing."""
    program = start(
        """
        from wdyn.store.writer import Writer
        append = Writer.append
        def slowly(self, batch):
            time.sleep(0.2)
            append(self, batch)
        try:
            with watch() as w:
                Writer.append = slowly
                for _ in range(10):
                    step()
                threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        except KeyboardInterrupt:
            say("interrupted", w.committed, len(optimizer._optimizer_step_pre_hooks))
        """
    )
    assert program.wait() == 0, program.errors
    assert program.errors == ""
    word, committed, hooks = program.lines[-1].split()
    assert (word, hooks) == ("interrupted", "0")
    assert int(committed) < 10
    assert whole() == list(range(11))
    assert is_closed(place)


ENDINGS = {
    "falls off the end": "",
    "exits": "sys.exit(3)",
    "raises": "raise ZeroDivisionError",
    "falls off the end before a thread does": "threading.Thread(target=time.sleep, args=(0.5,)).start()",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_exit__without_leaving_the_block_loses_nothing(ending, start, whole, place):
    program = start(
        f"""
        w = watch()
        w.__enter__()
        for at in range(40):
            w.log(loss=float(at))
            step()
        {ENDINGS[ending]}
        """
    )
    assert program.wait() == {"exits": 3, "raises": 1}.get(ending, 0), program.errors
    assert whole() == list(range(41))
    assert is_closed(place)
    assert "WdynWarning" not in program.errors


def test_exit__measures_the_last_step_of_a_model_whose_work_is_shared_among_threads(start, place):
    """Python's pools of threads are closed by then, and nothing may count on them."""
    program = start(
        """
        torch.set_num_threads(4)
        model = torch.nn.Linear(2100, 2100, bias=False)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        w = watch(every=wdyn.at(0), snapshots=None, what="weights").__enter__()
        step()
        """
    )
    assert program.wait() == 0, program.errors
    assert program.errors == ""
    assert wdyn.statistics(wdyn.open_run(place))["step"].values.tolist() == [0, 1]


def test_sudden_exit__loses_what_was_not_committed_and_no_more(start, whole, place):
    program = start(
        """
        w = watch()
        w.__enter__()
        for at in range(8):
            step()
        say(w.flush())
        step()
        os._exit(4)
        """
    )
    assert program.wait() == 4, program.errors
    assert program.lines == ["8"]
    assert whole()[:9] == list(range(9))
    assert holder(place) == ""


TERMINATED = """
def handler(number, frame):
    say("handler", w.committed, at_step())
    {then}
{install}
before = signal.getsignal(signal.SIGTERM)
with watch(flush_on_sigterm=True) as w:
    for at in range(20):
        w.log(loss=float(at))
        step()
    say("trained", w.committed)
    signal.raise_signal(signal.SIGTERM)
    time.sleep(0)
    step()
say("left", at_step(), signal.getsignal(signal.SIGTERM) is before)
"""
OWN = "signal.signal(signal.SIGTERM, handler)"


def test_sigterm__flushes_and_kills_what_does_not_handle_it(start, whole, place):
    program = start(TERMINATED.format(install="", then="pass"))
    assert program.wait() == -signal.SIGTERM, program.errors
    assert len(program.lines) == 1
    assert whole() == list(range(21))
    assert wdyn.open_run(place)["scalars"]["loss"].dropna("step").size == 20
    assert not is_closed(place)


def test_sigterm__flushes_before_the_handler_of_the_program(start, whole, place):
    program = start(TERMINATED.format(install=OWN, then="pass"))
    assert program.wait() == 0, program.errors
    assert program.lines[1:] == ["handler 20 20", "left 21 True"]
    assert whole() == list(range(22))
    assert is_closed(place)


def test_sigterm__whose_handler_exits_ends_the_run_as_any_exit(start, whole, place):
    program = start(TERMINATED.format(install=OWN, then="sys.exit(7)"))
    assert program.wait() == 7, program.errors
    assert program.lines[1:] == ["handler 20 20"]
    assert whole() == list(range(21))
    assert is_closed(place)


def test_sigterm__that_is_ignored_stays_ignored(start, whole):
    program = start(TERMINATED.format(install="signal.signal(signal.SIGTERM, signal.SIG_IGN)", then="pass"))
    assert program.wait() == 0, program.errors
    assert program.lines[1:] == ["left 21 True"]
    assert whole() == list(range(22))


def test_sigterm__kills_at_once_what_did_not_ask_for_a_flush(start, place):
    program = start(TERMINATED.replace("flush_on_sigterm=True", "").format(install="", then="pass"))
    assert program.wait() == -signal.SIGTERM, program.errors
    assert wdyn.open_run(place)["states"].sizes["step"] < 21


def terminate_often(start, whole, tmp_path, *, times, seed):
    """Terminate programs at any moment of their training, also of the recording's own work."""
    chance = random.Random(seed)
    for number in range(times):
        path = tmp_path / f"{number}.zarr"
        program = start(
            """
            def handler(number, frame):
                say("seen", at_step(), w.committed)
                os._exit(0)
            signal.signal(signal.SIGTERM, handler)
            with watch(flush_on_sigterm=True) as w:
                say("entered")
                for_ever(w)
            """,
            to=path,
        )
        program.until_it_says("entered")
        time.sleep(chance.uniform(0, 0.3))
        program.signal(signal.SIGTERM)
        assert program.wait() == 0, program.errors
        word, step, committed = program.lines[-1].split()
        assert word == "seen"
        assert int(step) - 1 <= int(committed) <= int(step)  # the signal may come inside optimizer.step()
        assert whole(path)[-1] == int(committed)
        assert program.errors == ""


def test_sigterm__at_any_moment_keeps_every_step(start, whole, tmp_path):
    terminate_often(start, whole, tmp_path, times=5, seed=0)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 5))
def test_sigterm__at_any_moment_keeps_every_step_of_many(start, whole, tmp_path, seed):
    terminate_often(start, whole, tmp_path, times=50, seed=seed)
