"""Are things compared as they should be: in turns, against the right yardstick, and kept with every measurement?"""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks.harness import Table, markdown, milliseconds, publish, side_by_side


def test_side_by_side__gives_each_every_place_in_the_order() -> None:
    order: list[str] = []
    side_by_side({name: lambda name=name: order.append(name) for name in "abc"}, rounds=3, warm_up=False)
    assert "".join(order) == "abc" + "bca" + "cab"


def test_side_by_side__does_not_count_the_round_that_warms_up() -> None:
    values = iter([100.0, 1.0, 2.0])
    assert side_by_side({"cold at first": lambda: next(values)}, rounds=2) == {"cold at first": [1.0, 2.0]}


def test_milliseconds__are_medians_and_multiples_of_the_median_of_the_yardstick() -> None:
    found = {"read": [0.001, 0.002, 0.9], "copy": [0.5, 0.006, 0.006]}
    table = milliseconds("Work", found, yardsticks={"reads": "read", "not measured": "peer"})
    assert table.columns == ("", "ms", "reads")
    assert table.rows == (("read", pytest.approx(2), 1.0), ("copy", pytest.approx(6), pytest.approx(3)))


def test_markdown__lays_out_a_table() -> None:
    table = Table("Work", ("", "ms", "rows"), (("a read", 0.01234, 7), ("a copy", 1234.5, 41000)))
    assert markdown(table).splitlines() == [
        "|        |     ms |   rows |",
        "|:-------|-------:|-------:|",
        "| a read | 0.0123 |      7 |",
        "| a copy |  1,234 | 41,000 |",
    ]


def test_publish__keeps_every_measurement_with_the_machine(tmp_path: Path) -> None:
    table = Table("Work", ("", "ms"), (("a read", 2.0),), {"a read": [1.0, 2.0, 3.0]})
    main = click.command()(lambda: publish([table], file=tmp_path / "figures.json", rounds=3))
    shown = CliRunner().invoke(main, catch_exceptions=False).output
    kept = json.loads((tmp_path / "figures.json").read_text())
    assert "| a read | 2.00 |" in shown
    assert kept["tables"][0]["runs"] == {"a read": [1.0, 2.0, 3.0]}
    assert kept["settings"] == {"rounds": 3}
    assert {"wdyn", "torch"} <= kept["machine"]["versions"].keys()
