"""Does the card of a model count right?"""

import json

import pytest
import torch
from torch import nn

import wdyn
from loops import Tiny
from wdyn.reports import json_format, text
from wdyn.reports.anatomy import anatomy, facts, itemsize


@pytest.fixture
def model():
    made = Tiny().requires_grad_(False)
    made.blocks.requires_grad_(True)
    made.register_buffer("codes", torch.zeros(10, dtype=torch.int8))
    return made


def test_anatomy__counts_what_the_model_holds(model):
    found = anatomy(wdyn.describe(model), source="here")
    counted = sum(parameter.numel() for parameter in model.parameters())  # torch counts a tied one once
    assert (found.source, found.model, found.names) == ("here", "Tiny", 15)
    assert found.values == counted + 10
    assert found.bytes_by_dtype == {"float32": 4 * counted, "int8": 10}
    assert found.stacks == {"decoder": "0–1"}
    assert (found.tied, found.frozen) == (1, 11 * 8)


def test_facts__say_it_in_words(model):
    said = facts(anatomy(wdyn.describe(model)))
    assert said["Model"].startswith("Tiny, 15 parameters, ")
    assert said["Size"].endswith("kB float32, 10 bytes int8")
    assert (said["Layers"], said["Tied"]) == ("decoder 0–1", "1 name shares the weights of another")
    assert said["Frozen"] == "88 values"


def test_facts__of_a_state_dict_without_blocks():
    said = facts(anatomy(wdyn.describe({"w": torch.zeros(2)})))
    assert said == {"Model": "a state dict, 1 parameters, 2 values", "Size": "8 bytes float32", "Layers": "none"}
    assert facts(anatomy(wdyn.describe(nn.ReLU())))["Size"] == "0 bytes"


@pytest.mark.parametrize("name", [str(value).removeprefix("torch.") for value in vars(torch).values()
                                  if isinstance(value, torch.dtype)])  # fmt: skip
def test_itemsize__is_that_of_torch(name):
    assert itemsize(name) == getattr(torch, name).itemsize


def test_text__does_not_grow_with_depth():
    def lines(layers):
        return text.plain(text.anatomy(anatomy(wdyn.describe(Tiny(layers=layers))))).splitlines()

    assert len(lines(48)) == len(lines(3))
    assert any("qkv" in line and "q 8, k 8, v 8 by convention" in line for line in lines(3))
    assert any(line.endswith("→ shares the storage of tok.weight") for line in lines(3))


def test_json__has_every_row_and_column(model):
    table = wdyn.describe(model)
    said = json.loads(json_format.table(table, source="here"))
    assert (said["format"], said["source"], said["model"], said["run"]) == (1, "here", "Tiny", None)
    assert [row["name"] for row in said["parameters"]] == table["parameter"].values.tolist()
    assert all(row.keys() == {"name", *map(str, table.data_vars)} for row in said["parameters"])
    row = next(row for row in said["parameters"] if row["name"] == "blocks.1.attn.qkv.weight")
    assert (row["shape"], row["dims"], row["layer"]) == ([24, 8], ["fan_out", "fan_in"], 1)
    assert row["parts"]["sizes"] == [8, 8, 8]
    assert next(row for row in said["parameters"] if row["name"] == "tok.weight")["parts"] is None


def test_text__hostile_names_cannot_act():
    rendered = text.plain(text.anatomy(anatomy(wdyn.describe({"x\x1b[31m\n.weight": torch.zeros(2)}))))
    assert "\x1b" not in rendered
    assert r"x\x1b[31m\n" in rendered


@pytest.mark.parametrize(("count", "words"), [(0, "0"), (999, "999"), (1540, "1.54 k"), (7_087_872, "7.09 M"),
                                             (124_439_808, "124 M"), (7.1e9, "7.1 G"), (2e12, "2 T")])  # fmt: skip
def test_short__reads_like_a_person_says_it(count, words):
    assert text.short(count) == words
