"""How are the ranks of a group started, and how did they end?"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 60
NURSERY = Path(__file__).with_name("nursery.py")
TESTS = NURSERY.parents[1]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}


@dataclass(frozen=True)
class Rank:
    """How one rank ended."""

    code: int | None
    """What its process returned, or less than 0 if a signal ended it; None where that is not known."""
    value: object
    """What its scenario gave."""
    error: list[str] | None
    """Name and message of what ended its scenario."""
    warnings: list[list[str]]
    """Name and message of each."""
    output: str

    @property
    def told(self) -> list[str]:
        """What wdyn warned of, but for the memory that it takes."""
        return [text for name, text in self.warnings if name == "WdynWarning" and " keeps " not in text]

    @property
    def ended_well(self) -> bool:
        return self.code == 0 and self.error is None

    def __str__(self) -> str:
        return f"{self.code} {self.error} {self.told}\n{self.output}"


def end_of(folder: Path, rank: int, code: int | None) -> Rank:
    """Give how a rank ended, from what it left in the folder of its scenario."""
    left = folder / f"rank-{rank}.json"
    told = json.loads(left.read_text()) if left.exists() else {"value": None, "error": None, "warnings": []}
    out = folder / f"rank-{rank}.out"
    return Rank(code=code, output=out.read_text() if out.exists() else "", **told)


@dataclass(frozen=True)
class Kill:
    """A rank, and how many seconds after a file appeared it is killed."""

    rank: int
    file: Path
    seconds: float

    def is_due(self) -> bool:
        return self.file.exists() and time.time() > self.file.stat().st_ctime + self.seconds


class Nursery:
    """The process that ranks are forked from."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if name != "RANK"} | ENVIRONMENT,
        )
        assert self._process.stdout.readline() == "ready\n"

    def start(self, order, *, ranks: int) -> dict[int, int]:
        """Start the ranks of a scenario; give the number of the process of each."""
        return dict(enumerate(self._ask(**order, ranks=ranks, port=free_port())))

    def wait(self, pids: dict[int, int], *, kill: Kill | None) -> dict[int, int | None]:
        """Wait for ranks, and give what they returned: None for one that had to be killed when patience ended."""
        began, codes = time.monotonic(), dict.fromkeys(pids)
        running = set(pids)
        while running and time.monotonic() - began < PATIENCE:
            if kill is not None and kill.is_due():
                os.kill(pids[kill.rank], signal.SIGKILL)
                kill = None
            codes |= {rank: self._ask(wait=pids[rank]) for rank in running}
            running = {rank for rank in running if codes[rank] is None}
            time.sleep(0.01)
        for rank in running:
            os.kill(pids[rank], signal.SIGKILL)
            while self._ask(wait=pids[rank]) is None:
                time.sleep(0.01)
        return codes

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()

    def _ask(self, **order):
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def torchrun(order, *, ranks: int) -> dict[int, int | None]:
    """Let torchrun start the ranks of a scenario, and wait for it; give what they returned."""
    place = Path(order["folder"]) / "order.json"
    place.write_text(json.dumps(order))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    done = subprocess.run(
        [*command, str(NURSERY), str(place)],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )
    for rank in range(ranks):
        (place.parent / f"rank-{rank}.out").write_text(done.stderr)
    return dict.fromkeys(range(ranks), done.returncode)
