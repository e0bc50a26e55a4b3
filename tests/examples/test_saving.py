"""Does the example about saving run, and does what it claims of small weights hold?"""

from __future__ import annotations

import runpy
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import wdyn

EXAMPLE = Path(__file__).parents[2] / "examples" / "saving.py"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE), run_name="example")


def test_example__finds_what_it_is_known_to_find(example: dict[str, Any], tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        claims = example["main"](tmp_path, short=True)
    finally:
        torch.set_num_threads(threads)
    exact = {one.text: one for one in claims if "zip leaves" not in one.text}
    assert len(exact) == 12
    assert [text for text, one in exact.items() if not one.held] == []
    assert "474.70 MiB" in exact["GPT-2 small takes 474 MiB"].numbers
    run = wdyn.open_run(tmp_path / "run.zarr")
    moved = wdyn.relations(run)["displacement"].sel(parameter="transformer.wte.weight").values
    assert moved[1] > 0
    assert moved.tolist() == [0, moved[1], *[0, moved[1]] * 5]  # marked; then each way, and wdyn's own, twice


def test_files__are_packed_and_counted(example: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "folder" / "inner"
    folder.mkdir(parents=True)
    (folder / "a.bin").write_bytes(bytes(1000))
    (folder.parent / "b.bin").write_bytes(bytes(24))
    assert example["size"](folder.parent) == 1024
    example["pack"](folder.parent, tmp_path / "packed.zip")
    with zipfile.ZipFile(tmp_path / "packed.zip") as packed:
        assert sorted(packed.namelist()) == ["b.bin", "inner/a.bin"]


@pytest.mark.parametrize("name", ["state_dict", "safetensors"])
def test_way_of_saving__brings_every_bit_back_and_keeps_the_tie(
    name: str, example: dict[str, Any], tmp_path: Path
) -> None:
    def tied(seed: int) -> nn.ModuleDict:
        torch.manual_seed(seed)
        model = nn.ModuleDict({"embedding": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
        model["head"].weight = model["embedding"].weight
        return model

    saved, other = tied(0), tied(1)
    way = example["WAYS"][name]
    way.save(saved, None, tmp_path / way.file)
    way.load(other, tmp_path / way.file)
    assert torch.equal(other["embedding"].weight, saved["embedding"].weight)
    assert other["head"].weight is other["embedding"].weight
