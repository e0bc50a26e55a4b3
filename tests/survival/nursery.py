"""Starts programs without the seconds that imports take: each is a fork of a process that has imported already.

For each line of JSON with `code`, `place`, `out` and `err` it starts one and says its number; for each with `wait`, it
says how that one ended. What a program says goes into `out`. Each step adds 1 to every weight, so that the weights of
a row tell which step they are of.
"""

import gc
import json
import os
import signal
import sys
import tempfile
import threading  # noqa: F401  programs use it
import time
from pathlib import Path

import torch
import xarray  # noqa: F401  what continues a run needs it
import zarr  # noqa: F401

import wdyn

model = torch.nn.Linear(3, 2, bias=False)
torch.nn.init.zeros_(model.weight)
optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
place = Path(tempfile.gettempdir())


def step():
    model.weight.grad = torch.full_like(model.weight, -1.0)
    optimizer.step()


def at_step():
    return int(model.weight[0, 0])


def watch(**more):
    return wdyn.watch(model, optimizer, to=place, **{"every": 1, "snapshots": 1, **more})


def say(*words):
    print(*words, flush=True)


def for_ever(w):
    """Train, logging the step that the weights are of, and say each step that is committed."""
    told = -1
    while True:
        w.log(loss=float(at_step()))
        step()
        time.sleep(0.001)  # an endless number of rows would only take the test's time
        if w.committed != told:
            told = w.committed
            say(told)


def sleep_for_ever():
    while True:
        time.sleep(0.01)


def become(order):
    """Be the program that was asked for: to the outside like one that was started anew."""
    global place
    place = Path(order["place"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.close(0)
    for stream, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(order[stream], os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  that of a pipe would be written in blocks
    exec(compile(order["code"], "<program>", "exec"), globals())


def warm_up():
    """Do once what takes long the first time."""
    global place
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run.zarr"
        with watch():
            step()
    torch.nn.init.zeros_(model.weight)


def main():
    warm_up()
    gc.freeze()  # else each program spends most of a second on what was imported here, when it ends
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            print(os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1]), flush=True)
        elif pid := os.fork():
            print(pid, flush=True)
        else:
            become(order)
            break


main()
