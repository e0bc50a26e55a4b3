"""Does each benchmark still run? Once each, in a tiny setting and without other tools."""

import importlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.alongside import measure

RUNS = {
    "statistics": ["--small", "--no-peers"],
    "snapshots": ["--small", "--no-peers", "--no-busy"],
    "reading": ["--small", "--steps=3"],
    "importing": ["--small", "--steps=2"],
    "recording": ["--subject=tiny", "--seconds=0.2"],
    "integrations": ["--subject=tiny", "--steps=20", "--no-peers"],
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name == "recording" else name for name in RUNS]
)
def test_benchmark__prints_and_keeps_a_figure_of_wdyn(name: str, tmp_path: Path) -> None:
    main = importlib.import_module(f"benchmarks.{name}").main
    file = tmp_path / "figures.json"
    arguments = [*RUNS[name], "--rounds=1", "--threads=1", f"--json={file}"]
    shown = CliRunner().invoke(main, arguments, catch_exceptions=False).output
    for table in json.loads(file.read_text())["tables"]:
        assert table["title"] in shown
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
        assert all(row[1] > 0 for row in table["rows"])


@pytest.mark.parametrize("case", ["nothing", "wdyn", "wdyn, each", "torch.save"])
def test_measure__counts_what_a_tool_takes_and_keeps(case: str) -> None:
    figures = measure(case, "tiny", steps=2, every=1)
    assert figures.step > figures.blocked
    assert (figures.blocked > 0) == (figures.disk > 0) == (case != "nothing")
