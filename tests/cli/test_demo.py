"""Does `wdyn demo` end in a report?"""

import shutil
from pathlib import Path

import pytest

from wdyn.cli.demo import command
from wdyn.findings import Severity


@pytest.fixture
def trained(monkeypatch, original):
    """Let training take no time."""

    def train(directory, *, steps, progress):
        return Path(shutil.copytree(original, directory / "run.zarr"))

    monkeypatch.setattr("wdyn.demo.loop.train", train)


def test_demo__writes_the_report_beside_the_run(wdyn, trained, found, tmp_path):
    found(Severity.ERROR)
    result = wdyn("demo", "here")
    assert result.exit_code == 0
    assert "ONE001" in result.stdout
    assert (tmp_path / "here" / "run.html").exists()


@pytest.mark.parametrize("terminal", [True, False])
def test_demo__shows_a_bar_where_errors_go_to_a_terminal(terminal, monkeypatch, tmp_path):
    class Interrupted(Exception):
        pass

    def train(directory, *, steps, progress):
        raise Interrupted(progress)

    monkeypatch.setattr("wdyn.demo.loop.train", train)
    monkeypatch.setattr("sys.stdout.isatty", lambda: not terminal)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    with pytest.raises(Interrupted, match=f"^{terminal}$"):
        command.callback(directory=tmp_path, steps=1)


def test_demo__takes_a_new_folder_each_time(wdyn, trained, found, tmp_path):
    wdyn("demo")
    wdyn("demo")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wdyn-demo", "wdyn-demo-2"]
