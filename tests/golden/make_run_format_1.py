"""Write the golden run of format 1, and what must be read from it; never to be run again once it is committed.

    python tests/golden/make_run_format_1.py

The run is that of a small GPT with planted answers, resumed once; what it must show is computed here, with numpy alone,
from the values that were given to it.
"""

import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "store"))

import oracle  # noqa: E402 - it lies beside the tests of the store

from wdyn import bins  # noqa: E402

STEPS = (0, 1, 2, 3, 2, 3, 4)
"""The second attempt goes on after step 2: what the first one wrote at 2 and 3 is superseded."""
SHOWN = (0, 1, 2, 3, 4)


def write(place):
    """Write two attempts; the values at a step are the same in both."""
    with oracle.writer(place) as writer:
        for step in STEPS[:4]:
            writer.append(oracle.batch(step, declare=oracle.declaration() if step == 0 else None))
    with oracle.writer(place, resume=True, attempt={"resumed_from_step": 2}, compression="fast") as writer:
        writer.append(oracle.batch(2, declare=oracle.declaration(4, known=3), count=4))
        for step in STEPS[5:]:
            writer.append(oracle.batch(step, count=4))


def expected():
    """Tell what a reader must find, by the formulas of the oracle."""
    layered = [oracle.weights(step)[oracle.LAYERED] for step in SHOWN]
    bits = [oracle.weights(step)[oracle.BITS].astype(np.uint32) << 16 for step in SHOWN]
    return {
        "steps": list(SHOWN),
        "attempt": [0, 0, 1, 1, 1],
        "names": ["h.0.w", "h.1.w", "b", "late"],
        "weights": {
            oracle.LAYERED: [one.astype(np.float64).tolist() for one in layered],
            oracle.BITS: [one.view(np.float32).astype(np.float64).tolist() for one in bits],
            oracle.LATE: [[float(step), float(-step)] for step in (2, 3, 4)],
        },
        "mean": [
            [column + step / 8 if column < (3 if step < 2 else 4) else None for column in range(4)] for step in SHOWN
        ],
        "counted_zero": [
            [None if one < 0 else int(one) for one in oracle.histogram(step, 4)[:3, bins.ZERO]] for step in SHOWN
        ],
        "loss": [100.0 - step for step in SHOWN],
        "lr": [step / 4.0 for step in SHOWN],
    }  # fmt: skip


def main():
    place = HERE / "run-format-1.zarr"
    write(place)
    with zipfile.ZipFile(HERE / "run-format-1.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(place.rglob("*")):
            if file.is_file() and file.parent.name != ".wdyn":
                archive.write(file, Path("run.zarr") / file.relative_to(place))
    shutil.rmtree(place)
    (HERE / "run-format-1.json").write_text(json.dumps(expected(), indent=1) + "\n")


if __name__ == "__main__":
    main()
