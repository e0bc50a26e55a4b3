"""Does `wdyn analyze` print the findings and nothing else?"""

import json

from wdyn.findings import Severity


def test_analyze__prints_findings_only(wdyn, saved, found, tmp_path):
    result = wdyn("analyze", saved)
    assert result.stdout.splitlines() == ["WARNING  ONE001  wte.weight is wide.", "                 → Make it narrow."]
    assert [path.name for path in tmp_path.iterdir()] == ["run.zarr"]


def test_analyze__gives_json(wdyn, saved, found):
    assert json.loads(wdyn("analyze", saved, "--format", "json").stdout)["worst"] == "WARNING"


def test_analyze__asks_only_whom_it_is_told(wdyn, saved):
    said = json.loads(wdyn("analyze", saved, "--only", "depth_growth", "--format", "json").stdout)
    assert [answer["analyzer"] for answer in said["answers"]] == ["depth_growth"]


def test_analyze__names_the_closest_analyzer(wdyn, saved):
    result = wdyn("analyze", saved, "--only", "depth_growht")
    assert result.exit_code == 2
    assert "depth_growth" in result.stderr


def test_analyze__fails_as_report_does(wdyn, saved, found):
    found(Severity.ERROR)
    assert wdyn("analyze", saved).exit_code == 1
    assert wdyn("analyze", saved, "--fail-on", "never").exit_code == 0


def test_analyze__says_that_nothing_was_found(wdyn, saved, found):
    assert wdyn("analyze", saved, "--ignore", "ONE001").stdout == "No findings.\n"
