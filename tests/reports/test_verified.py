"""Does what was verified read in every form, and do its names stay text?"""

import json
from pathlib import Path

import pytest
import torch

import wdyn
from wdyn.reports.verified import Verified
from wdyn.store.damage import Damage, Verification

EVIL = "<img src=x onerror=alert(1)>\u202e"
BROKEN = Damage("weights/a/c.0", "weights/a", (EVIL,), (10, 20), "it is missing")


@pytest.fixture
def struck():
    return Verified(Verification(Path("run.zarr"), 7, 2_000, (BROKEN,)))


@pytest.fixture
def apart():
    return Verified(
        wdyn.verify({EVIL: torch.zeros(2), "b": torch.ones(2)}, {EVIL: torch.zeros(2), "b": torch.zeros(2)})
    )


def test_sentence__says_what_it_adds_up_to(struck, apart):
    assert struck.sentence == "1 file is damaged or missing"
    assert Verified(Verification(Path("run.zarr"), 7, 2_000, ())).sentence == "Each file is as it was written"
    assert apart.sentence == "Not the same"
    same = wdyn.verify({"b": torch.ones(2)}, {"b": torch.ones(2)})
    assert Verified(same).sentence == "The same, as far as was compared"


def test_html__tells_of_every_damage_with_parameter_steps_and_file(struck):
    page = struck.to_html()
    for words in ("1 file is damaged or missing", "10–20", "it is missing", "weights/a/c.0", "2 kB"):
        assert words in page


def test_html__tells_what_differs_what_is_equal_and_what_was_not_compared(apart):
    page = apart.to_html()
    (finding,) = apart.findings
    assert f'<span class="wdyn-code">{finding.code}</span>' in page
    assert "1 of 2 parameters, bit for bit" in page
    assert "Not compared" in page


@pytest.mark.parametrize("form", ["html", "markdown", "text"])
def test_names__stay_text(form, struck, apart):
    for found in (struck, apart):
        written = getattr(found, f"to_{form}")()
        assert "\u202e" not in written
        assert form == "text" or "<img" not in written.replace(r"\<img", "")


def test_markdown__has_a_table_of_damages(struck):
    assert "| weights/a | " in struck.to_markdown()
    assert "**1 file is damaged or missing**" in struck.to_markdown()


def test_json__is_what_the_result_holds(struck, apart):
    for found in (struck, apart):
        assert json.loads(found.to_json()) == json.loads(json.dumps(found.found.as_dict()))
