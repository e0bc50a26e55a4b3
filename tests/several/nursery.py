"""Starts ranks without the seconds that imports take: each is a fork of a process that has imported already.

For each line of JSON with a scenario and its ranks it forks these, and says the numbers of their processes; for each
with `wait` it says how one ended. With `torchrun nursery.py ORDER` it is itself a rank.

A rank leaves behind what its scenario gave, what it warned of, and the error that ended it.
"""

import gc
import importlib
import json
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path

import torch._dynamo  # noqa: F401  the first step of an optimizer imports it
import xarray  # noqa: F401  what continues a run needs it
import zarr  # noqa: F401

import wdyn.watching  # noqa: F401
from several import copies, counting, pages, refusals, training

PLAYED = (
    training.recorded,
    training.evaluated,
    copies.copied,
    copies.drifting,
    copies.staged,
    counting.counting,
    counting.in_turns,
    refusals.refused,
    pages.documented,
)
SCENARIOS = {one.__name__: one for one in PLAYED}


def play(order):
    """Be one rank of a scenario, and leave behind how it went."""
    rank, folder = int(os.environ["RANK"]), Path(order["folder"])
    patch(order["patches"])
    left = {"value": None, "error": None}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            left["value"] = SCENARIOS[order["scenario"]](folder, **order["options"])
        except BaseException as error:
            traceback.print_exc()
            left["error"] = [type(error).__name__, str(error)]
    left["warnings"] = [[type(one.message).__name__, str(one.message)] for one in caught]
    unfinished = folder / f"rank-{rank}.part"
    unfinished.write_text(json.dumps(left))
    unfinished.rename(folder / f"rank-{rank}.json")


def patch(patches):
    """Give constants of modules other values."""
    for place, value in patches.items():
        module, name = place.rsplit(".", 1)
        owner = importlib.import_module(module)
        assert hasattr(owner, name), place
        setattr(owner, name, value)


def become(order, rank):
    """Be the process of a rank: to the outside like one that was started anew."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(order["port"])}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(order["ranks"])}
    os.close(0)
    out = os.open(Path(order["folder"]) / f"rank-{rank}.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(out, number)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  that of a pipe would be written in blocks
    sys.stderr = open(2, "w", closefd=False, buffering=1)  # noqa: SIM115


def main():
    if "RANK" in os.environ:
        play(json.loads(Path(sys.argv[1]).read_text()))
        return
    gc.freeze()  # else each rank, at its end, goes through all that was imported here
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            pid, status = os.waitpid(order["wait"], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
            continue
        pids = []
        for rank in range(order["ranks"]):
            if (pid := os.fork()) == 0:
                become(order, rank)
                play(order)
                if copies.HELD:
                    sys.stdout.flush()
                    os._exit(0)
                return
            pids.append(pid)
        print(json.dumps(pids), flush=True)


if __name__ == "__main__":
    main()
