"""How often is the anatomy right? ``python -m benchmarks.anatomy`` prints the share of right answers by layout.

Once from the module and once from bare names and shapes, against the table of the tests. Where names cannot tell, the
right answer is ``other`` or ``linear``; the last column counts those, which are right to be unknown.
"""

from __future__ import annotations

import importlib.util
import sys
import time
import warnings
from pathlib import Path
from types import ModuleType

from wdyn.capture.anatomy import addresses
from wdyn.schema import Address, Role

LAYOUTS = Path(__file__).parents[1] / "tests" / "capture" / "layouts.py"


def layouts() -> ModuleType:
    """Load the builders and the table that the tests use."""
    spec = importlib.util.spec_from_file_location("anatomy_layouts", LAYOUTS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def verdicts(found: tuple[Address, ...], table: object) -> tuple[int, int, int]:
    """Count right, unknown and all answers about parameters."""
    right = unknown = total = 0
    for address in found:
        if address.role is Role.BUFFER:
            continue
        role, layer, stack = table.of(address.name)
        placed = address.layer == layer and (layer < 0 or address.stack == stack)
        right += placed and address.role == role
        unknown += address.role != role and address.role in (Role.OTHER, Role.LINEAR)
        total += 1
    return right, unknown, total


def main() -> None:
    """Print one line for each layout."""
    warnings.simplefilter("ignore")
    sys.stdout.write(f"{'layout':24} {'parameters':>10} {'module':>8} {'names':>8} {'unknown':>8} {'ms':>7}\n")
    sums = [0, 0, 0, 0, 0.0]
    for name, model, table in layouts().built():
        state = {key: tensor.detach() for key, tensor in model.named_parameters(remove_duplicate=False)}
        start = time.perf_counter()
        told = addresses(model)
        spent = 1000 * (time.perf_counter() - start)
        right, _, total = verdicts(told, table)
        bare, unknown, _ = verdicts(addresses(state), table)
        counts = [total, right, bare, unknown, spent]
        sums = [one + other for one, other in zip(sums, counts, strict=True)]
        sys.stdout.write(line(name, *counts))
    sys.stdout.write(line("all", *sums))


def line(name: str, total: float, right: float, bare: float, unknown: float, spent: float) -> str:
    """Write one line of the table."""
    return f"{name:24} {total:10.0f} {right / total:8.1%} {bare / total:8.1%} {unknown:8.0f} {spent:7.1f}\n"


if __name__ == "__main__":
    main()
