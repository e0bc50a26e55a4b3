"""Does `wdyn info` tell what a run holds?"""

import pytest


def test_info__tells_steps_size_and_the_model(wdyn, saved):
    result = wdyn("info", saved)
    assert result.exit_code == 0
    lines = dict(line.split(None, 1) for line in result.stdout.splitlines() if "  " in line)
    assert {"Model", "Steps", "Rows", "Snapshots", "Attempts"} <= set(lines)
    assert " layers 0–" in result.stdout


def test_info__escapes_what_the_encoding_of_the_terminal_lacks(shell, saved):
    result = shell("info", saved, PYTHONIOENCODING="latin-1")
    assert result.returncode == 0
    assert r"Steps      0\u2013100" in result.stdout


def test_info__asks_no_analyzer(wdyn, saved, monkeypatch):
    monkeypatch.setattr("wdyn.analysis.catalogue.analyzers", pytest.fail)
    assert wdyn("info", saved).exit_code == 0
