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
from typing import Any

import click
from torch import nn

from benchmarks.harness import Table, publish
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


@click.command()
@click.option("--json", "file", type=click.Path(path_type=Path), help="Keep the figures here too.")
def main(file: Path | None) -> None:
    """Count right answers in each layout. Takes 10 seconds."""
    warnings.simplefilter("ignore")
    rows = [counted(name, model, table) for name, model, table in layouts().built()]
    rows.append(("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])))
    shown = tuple(
        (name, total, share(right, total), share(bare, total), *rest) for name, total, right, bare, *rest in rows
    )
    columns = ("layout", "parameters", "right from module", "right from names", "unknown from names", "ms")
    publish([Table("Parameters whose role, layer and stack are right", columns, shown)], file=file)


def counted(name: str, model: nn.Module, table: object) -> tuple[Any, ...]:
    """Count for one layout: parameters, right from the module, right and unknown from names; and the time in ms."""
    state = {key: tensor.detach() for key, tensor in model.named_parameters(remove_duplicate=False)}
    start = time.perf_counter()
    told = addresses(model)
    spent = 1000 * (time.perf_counter() - start)
    right, _, total = verdicts(told, table)
    bare, unknown, _ = verdicts(addresses(state), table)
    return name, total, right, bare, unknown, spent


def share(right: int, total: int) -> str:
    """Write a share."""
    return f"{right / total:.1%}"


if __name__ == "__main__":
    main()
