"""Are the built-in analyzers and those of plug-ins found, and do broken plug-ins stay harmless?"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest
import xarray as xr

from wdyn.analysis import catalogue
from wdyn.analysis.machinery import Analyzer

MINE = Analyzer("mine", "MIN", "?", lambda run: xr.Dataset(), lambda result: ())
IMPOSTOR = Analyzer("movement", "MOV", "?", lambda run: xr.Dataset(), lambda result: ())


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    module = types.ModuleType("plugged_analyzers")
    module.__dict__.update(mine=MINE, impostor=IMPOSTOR, number=7)
    monkeypatch.setitem(sys.modules, "plugged_analyzers", module)

    def declare(*names: str) -> None:
        points = [EntryPoint(name, f"plugged_analyzers:{name}", catalogue.ENTRY_POINTS) for name in names]
        monkeypatch.setattr(catalogue, "entry_points", lambda group: points)

    return declare


def test_plug_in__joins_the_built_in_analyzers(plug: Any) -> None:
    plug()
    own = catalogue.analyzers()
    plug("mine")
    assert catalogue.analyzers() == (*own, MINE)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "AttributeError"),
        ("number", "it is int, not an Analyzer"),
        ("impostor", "there already is an analyzer named 'movement'"),
    ],
)
def test_broken_plug_in__costs_a_warning_that_names_it(name: str, reason: str, plug: Any) -> None:
    plug()
    own = catalogue.analyzers()
    plug(name, "mine")
    with pytest.warns(RuntimeWarning, match=rf"'{name}' \(plugged_analyzers:{name}\) is left out: .*{reason}"):
        found = catalogue.analyzers()
    assert found == (*own, MINE)


def test_family_of_a_plug_in_without_codes__can_be_selected_by_code(plug: Any) -> None:
    assert catalogue.selected([MINE], select=["MIN007"], ignore=()) == (MINE,)
    assert catalogue.selected([MINE], select=(), ignore=["MIN"]) == ()
