"""Does `wdyn diff` say what differs, in each form, and end with the code that was asked for?"""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

HOSTILE = "<img src=x onerror=alert(1)>[red]"


@pytest.fixture
def models(tmp_path):
    """Files that differ from `a` in known ways, by what they are."""
    state = {"h.0.w": torch.randn(8, 8), "h.1.w": torch.randn(8, 8), HOSTILE: torch.ones(3)}
    made = {
        "a": state,
        "same": dict(state),
        "cast": {name: value.bfloat16() for name, value in state.items()},
        "changed": state | {"h.1.w": state["h.1.w"] + 0.1},
        "missing": {name: value for name, value in state.items() if name != HOSTILE},
        "unrelated": {name: torch.randn(value.shape) for name, value in state.items()},
        "nonfinite": state | {"h.1.w": torch.full((8, 8), math.nan)},
    }
    for name, content in made.items():
        save_file(content, tmp_path / f"{name}.safetensors")
    return lambda name: tmp_path / f"{name}.safetensors"


LEVELS = ["same", "cast", "changed", "missing", "unrelated", "nonfinite"]


@pytest.mark.parametrize("level", LEVELS[1:])
def test_diff__fails_from_the_level_that_was_named(wdyn, models, level):
    for at, name in enumerate(LEVELS):
        expected = 1 if at >= LEVELS.index(level) else 0
        assert wdyn("diff", models("a"), models(name), "--fail-on", level).exit_code == expected, name


def test_diff__fails_by_default_on_what_nobody_intends(wdyn, models):
    assert wdyn("diff", models("a"), models("unrelated")).exit_code == 0
    assert wdyn("diff", models("a"), models("nonfinite")).exit_code == 1
    assert wdyn("diff", models("a"), models("nonfinite"), "--fail-on", "never").exit_code == 0


def test_diff__prints_the_verdict_first(wdyn, models):
    lines = wdyn("diff", models("a"), models("changed")).stdout.splitlines()
    assert lines[0].startswith("Low rank, adapter-like: the change has rank 1 in other of layer 1")
    (row,) = (line.split() for line in lines if line.startswith("h.1.w"))
    assert row[1] == "float32"


@pytest.mark.parametrize("suffix", ["html", "md", "json", "txt"])
def test_diff__writes_the_form_of_the_suffix(wdyn, models, tmp_path, suffix):
    result = wdyn("diff", models("a"), models("missing"), "-o", f"out.{suffix}")
    assert result.exit_code == 0
    content = (tmp_path / f"out.{suffix}").read_text(encoding="utf-8")
    assert "missing" in content
    if suffix == "html":
        assert "<img src=x onerror" not in content
        assert "&lt;img src=x onerror=alert(1)&gt;[red]" in content


def test_diff__gives_programs_all_numbers(wdyn, models):
    content = json.loads(wdyn("diff", models("a"), models("changed"), "--format", "json").stdout)
    assert content["verdict"]["extent"] == "changed"
    assert math.isclose(content["total"]["change"], 0.8, rel_tol=1e-6)
    assert [one["parameter"] for one in content["parameters"]] == sorted(["h.0.w", "h.1.w", HOSTILE])


def test_diff__takes_a_run_at_a_step(wdyn, saved):
    assert "Identical" in wdyn("diff", f"{saved}@0", f"{saved}@0").stdout
    result = wdyn("diff", f"{saved}@0", saved, "--fail-on", "changed")
    assert result.exit_code == 1


def test_diff__leaves_spectra_out(wdyn, models):
    content = json.loads(wdyn("diff", models("a"), models("changed"), "--no-spectra", "--format", "json").stdout)
    assert content["total"]["stable_rank"] == "NaN"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a", "b"], "Nothing is at a"),
        (["a"], "Missing argument 'B'"),
        (["a", "b", "--key", "x", "--key", "y", "--key", "z"], "at most two keys"),
        (["a", "b", "-o", "x.pdf"], "does not say which form to write"),
    ],
)
def test_diff__that_cannot_be_made_ends_with_2(wdyn, arguments, words):
    result = wdyn("diff", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_verify__of_two_models_ends_with_0_or_1_or_2(wdyn, models):
    same = wdyn("verify", models("a"), models("same"))
    assert (same.exit_code, "the same, as far as was compared" in same.stdout) == (0, True)
    other = wdyn("verify", models("a"), models("changed"), "--format", "json")
    assert other.exit_code == 1
    assert json.loads(other.stdout)["findings"][0]["code"] == "INT001"
    assert wdyn("verify", models("a"), "nowhere.pt").exit_code == 2


def test_explain__knows_what_two_models_give(wdyn):
    result = wdyn("explain", "INT007")
    assert "above 0.0, in float32" in result.stdout
