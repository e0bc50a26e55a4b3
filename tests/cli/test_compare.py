"""Does `wdyn compare` label runs, print and write the comparison, and refuse what it cannot compare?"""

import json
import shutil
from pathlib import Path

import pytest

from wdyn.cli.compare import labelled
from wdyn.testing import make_run

HOSTILE = "<img src=x onerror=alert(1)>[red]x.zarr"


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    path = tmp_path_factory.mktemp("grown") / "grown.zarr"
    make_run(to=path, layers=2, width=8, seed=1, growth_by_layer=3.0)
    return path


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    path = tmp_path_factory.mktemp("usual") / "run.zarr"
    make_run(to=path, layers=2, width=8)
    return path


def test_compare__prints_ranking_logged_values_and_movement(wdyn, usual, grown, tmp_path):
    result = wdyn("compare", usual, grown)
    assert result.exit_code == 0
    rows = {line.split("  ")[0]: line.split()[-2:] for line in result.stdout.splitlines() if line}
    assert rows["rank"] == ["1", "1"]
    assert rows["loss, last"] == ["0.0396", "0.0396"]
    assert rows["mlp_up"] == ["1.118", "2.828"]  # sqrt(1.5^2 - 1) and sqrt(3^2 - 1)
    assert "Settings that differ: none" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_compare__writes_a_page_in_which_names_stay_text(wdyn, usual, grown, tmp_path):
    hostile = shutil.copytree(grown, tmp_path / HOSTILE)
    result = wdyn("compare", usual, hostile, "-o", "compare.html")
    assert result.exit_code == 0
    assert "<img src=x onerror=alert(1)>[red]x" in result.stdout
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;[red]x" in page
    assert "The runs side by side" in page
    assert page.count("data:image/") == 3  # what each run logged, and the comparison
    assert "No figure" not in page


def test_compare__writes_the_form_of_the_suffix(wdyn, usual, grown, tmp_path):
    assert wdyn("compare", usual, grown, "-o", "c.md").exit_code == 0
    assert "## The runs, the lowest first\n\n|  | run | grown |" in (tmp_path / "c.md").read_text(encoding="utf-8")


def test_compare__gives_programs_every_number_but_the_curves(wdyn, usual, grown):
    result = wdyn("compare", usual, grown, "--on", "lr", "--format", "json")
    compared = json.loads(result.stdout)["comparison"]
    assert compared["coords"]["run"]["data"] == ["run", "grown"]
    assert compared["attrs"]["on"] == "lr"
    assert compared["data_vars"]["rank"]["data"] == [1, 1]
    assert "curve" not in compared["data_vars"]


def test_compare__names_a_run_that_is_given_twice(wdyn, usual):
    result = wdyn("compare", usual, usual, "--fail-on", "warning")
    assert result.exit_code == 1
    assert "CMP003" in result.stdout
    assert "run 2 is run 1" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--metric", "los"], "no run logged 'los'"),
        (["--on", "tokens"], "has no 'tokens' to be aligned on"),
        (["-o", "compare.pdf"], "does not say which form to write"),
        (["missing.zarr"], "missing.zarr"),
    ],
)
def test_compare__that_cannot_be_made_ends_with_2(wdyn, usual, grown, tmp_path, arguments, words):
    result = wdyn("compare", usual, grown, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_compare__needs_two_runs(wdyn, usual):
    result = wdyn("compare", usual)
    assert result.exit_code == 2
    assert "needs two runs or more" in result.stderr


def test_labels__are_folder_names_and_equal_ones_are_numbered():
    paths = ("a/run.zarr", "b/run.zarr", "c/run 1.zarr", "sgd", "x/.zarr")
    assert list(labelled(tuple(map(Path, paths)))) == ["run 2", "run 3", "run 1", "sgd", "run 4"]
