"""Does `wdyn report` print, write and end as it should?"""

import json
import os
import pty
import subprocess
import sys

import pytest

from wdyn.findings import Severity


def test_report__prints_the_findings_and_writes_the_page_beside_the_run(wdyn, saved, found):
    result = wdyn("report", saved)
    assert result.exit_code == 0
    assert "WARNING  ONE001  wte.weight is wide." in result.stdout
    assert "Wrote" in result.stderr
    assert "wte.weight is wide." in saved.with_name("run.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("suffix", "start"), [("html", "<!doctype html>"), ("md", "# run.zarr"), ("json", "{"), ("txt", "run.zarr")]
)
def test_report__writes_the_form_that_the_suffix_says(wdyn, saved, found, tmp_path, suffix, start):
    result = wdyn("report", saved, "-o", f"out.{suffix}")
    assert result.exit_code == 0
    assert (tmp_path / f"out.{suffix}").read_text(encoding="utf-8").startswith(start)
    assert "ONE001" in result.stdout
    assert not saved.with_name("run.html").exists()


@pytest.mark.parametrize(
    ("form", "start"), [("html", "<!doctype html>"), ("markdown", "# run.zarr"), ("json", "{"), ("text", "run.zarr")]
)
def test_report__prints_a_format_and_writes_no_file(wdyn, saved, found, tmp_path, form, start):
    result = wdyn("report", saved, "--format", form)
    assert result.stdout.startswith(start)
    assert result.stdout.endswith("\n")
    assert [path.name for path in tmp_path.iterdir()] == ["run.zarr"]


def test_report__lets_the_format_overrule_the_suffix(wdyn, saved, found, tmp_path):
    wdyn("report", saved, "-o", "out.log", "--format", "json")
    assert json.loads((tmp_path / "out.log").read_text(encoding="utf-8"))["format"] == 1


def test_report__refuses_a_suffix_that_says_nothing_before_it_works(wdyn, saved, monkeypatch):
    monkeypatch.setattr("wdyn.cli.report.open_run", pytest.fail)
    result = wdyn("report", saved, "-o", "out.pdf")
    assert result.exit_code == 2
    assert "'out.pdf' does not say which form to write" in result.stderr


@pytest.mark.parametrize("severity", Severity)
@pytest.mark.parametrize("limit", ["info", "warning", "error", "never"])
def test_report__fails_at_or_above_the_limit(wdyn, saved, found, severity, limit):
    found(severity)
    fails = limit != "never" and severity >= Severity.parse(limit)
    assert wdyn("report", saved, "--format", "json", "--fail-on", limit).exit_code == int(fails)


def test_report__fails_on_errors_unless_told(wdyn, saved, found):
    found(Severity.ERROR)
    assert wdyn("report", saved, "--format", "text").exit_code == 1
    assert wdyn("report", saved, "--format", "text", "--ignore", "ONE001").exit_code == 0


def test_report__writes_the_page_also_when_it_fails(wdyn, saved, found):
    found(Severity.ERROR)
    assert wdyn("report", saved).exit_code == 1
    assert saved.with_name("run.html").exists()


def test_report__refuses_a_code_that_nobody_gives(wdyn, saved, found):
    result = wdyn("report", saved, "--select", "ONX")
    assert result.exit_code == 2
    assert "'ONX' begins no finding code" in result.stderr


def test_report__says_why_it_cannot_write(wdyn, saved, found):
    result = wdyn("report", saved, "-o", "absent/out.html")
    assert result.exit_code == 2
    assert "absent" in result.stderr
    assert "No such file or directory" in result.stderr


def test_report__is_plain_when_piped(shell, saved):
    result = shell("report", saved)
    assert result.returncode in (0, 1)
    assert "\x1b" not in result.stdout + result.stderr
    assert result.stdout.startswith("run.zarr\n")
    assert "Findings" in result.stdout


def test_report__floods_no_terminal_with_html(saved):
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "wdyn", "report", saved, "--format", "html"]
    try:
        done = subprocess.run(command, stdout=end, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(end)
        os.close(terminal)
    assert done.returncode == 2
    assert "A page of HTML is not for a terminal." in done.stderr
