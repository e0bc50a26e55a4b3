"""Does the example about learning rates run, and do its measures measure what they say?"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "learning_rates.py"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE), run_name="example")


@pytest.mark.long
def test_example__runs_in_its_short_form(example: dict[str, Any], tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        claims = example["main"](tmp_path, figures=tmp_path / "figures", size=example["SHORT"])
    finally:
        torch.set_num_threads(threads)
    farther = next(one for one in claims if one.text == "the higher the rate, the farther the weights went")
    assert farther.held
    assert len(claims) == 6
    figures = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert figures == ["comparison.png", "frequent-tokens.png", "held-out.png"]


def test_example__takes_a_model_and_a_text_by_their_paths(example: dict[str, Any], tmp_path: Path) -> None:
    small, text = example["SHORT"], tmp_path / "text.txt"
    text.write_text("the cat sat on the mat and the dog sat on the log\n" * 60, encoding="utf-8")
    base = example["make_base"](text.read_text(encoding="utf-8"), tmp_path / "mine", steps=2)
    claims = example["main"](tmp_path, model=str(base), text=text, size=small)
    of_others = next(one for one in claims if "Gulliver" in one.text)
    assert of_others.numbers.startswith("your model and text")


def test_measures__of_known_tokens(example: dict[str, Any]) -> None:
    train = torch.arange(24).reshape(2, 12)
    material = example["Material"](train, train[:1], torch.tensor([1, 2, 3]), 0.5)
    said = torch.tensor([[50, 1, 2, 3, 4, 5, 6, 50, 50, 1]])
    assert material.share(said) == pytest.approx(4 / 10)
    assert material.copied(said) == pytest.approx(1 / 5)  # of the five runs of six tokens, 1 to 6 alone
    assert material.copied(train) == 1


def test_default_texts__share_no_paragraph(example: dict[str, Any]) -> None:
    base, own = map(example["paragraphs"], example["default_texts"]())
    assert not set(base) & set(own)
    assert len(own) > 100
