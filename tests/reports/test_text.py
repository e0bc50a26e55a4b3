"""Does the terminal say it all, and nothing that acts on the terminal?"""

import io

import pytest
from rich.console import Console

import wdyn
from wdyn.findings import Finding, Severity
from wdyn.reports.strips import recorded, strips
from wdyn.reports.text import findings, plain, render, verdict
from wdyn.reports.trends import OVER_TIME
from wdyn.testing import make_run


def test_plain__writes_each_finding_on_one_line(report):
    lines = report.to_text().splitlines()
    assert "WARNING  ONE003  wte.weight is wide." in lines
    assert [line.strip() for line in lines if "narrow" in line] == ["→ Make it narrow."]
    assert [line.strip() for line in lines if ">>> wdyn" in line] == [">>> wdyn.one(run).sel(parameter='wte.weight')"]


def test_plain__says_what_was_not_answered_and_how_to_have_it(report):
    text = report.to_text()
    assert "not answered: no updates were recorded" in text
    assert '→ wdyn.watch(..., what=("updates",))' in text


def test_plain__shows_hostile_names_as_they_are(report, hostile):
    text = report.to_text()
    assert r"<img src=x onerror=alert(1)>[bold red]x[/]\u202eevil\x1b[31m`|*_" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_plain__leaves_no_space_at_the_end_of_a_line(report):
    assert not [line for line in report.to_text().splitlines() if line != line.rstrip()]


def test_render__lets_no_name_colour_a_terminal(report):
    buffer = io.StringIO()
    Console(file=buffer, width=300, force_terminal=True, color_system="standard").print(render(report))
    assert r"[bold red]x[/]\u202eevil\x1b[31m" in buffer.getvalue()


def test_render__fits_a_narrow_terminal(report):
    buffer = io.StringIO()
    Console(file=buffer, width=60).print(render(report))
    assert max(map(len, buffer.getvalue().splitlines())) <= 60


@pytest.mark.parametrize(("length", "lines"), [(150, 3), (300, 1)])
def test_findings__cut_code_that_would_fill_a_terminal(length, lines):
    code = "wdyn.one(run)" + "x" * length
    buffer = io.StringIO()
    told = [Finding("ONE001", Severity.INFO, "Short.", reproduce=code)]
    Console(file=buffer, width=100).print(findings(told))
    written = [line for line in buffer.getvalue().splitlines() if "x" in line]
    assert len(written) in (lines, lines - 1)
    assert max(map(len, written)) <= 100
    assert ("…" in buffer.getvalue()) == (length == 300)
    assert f">>> {code}" in plain(findings(told))


def test_verdict__counts_by_severity(report):
    assert verdict(report.findings) == "1 error, 1 warning, 1 info"
    assert verdict(report.findings[1:2] * 2) == "2 warnings"
    assert verdict(report.findings[2:] * 2) == "2 info"
    assert verdict(()) == "no findings"


def test_plain__takes_what_is_laid_out_already():
    from wdyn.reports.text import heading

    assert plain(heading("a [b] c")) == "a [b] c\n"


def test_render__draws_updates_of_each_layer_over_time_and_colours_a_terminal_alone():
    run = make_run(layers=2, steps=(0, 1, 2), what=("weights", "updates"))
    found = wdyn.analyze(run, ["update_sizes"])
    (first, second) = (one.cells for one in strips(recorded(run)))
    lines = [line.split() for line in found.to_text().splitlines()]
    assert ["decoder", "0", first] in [line[:3] for line in lines]
    assert ["decoder", "1", second] in [line[:3] for line in lines]
    buffer = io.StringIO()
    Console(file=buffer, width=120, force_terminal=True, color_system="truecolor").print(render(found))
    assert "38;2;" in buffer.getvalue()
    assert "\x1b" not in found.to_text()


def test_render__draws_no_layers_where_updates_were_not_recorded():
    assert OVER_TIME not in wdyn.analyze(make_run(), ["update_sizes"]).to_text()


def test_render__draws_the_layers_of_each_of_several_runs():
    run = make_run(layers=2, steps=(0, 1, 2), what=("weights", "updates"))
    text = wdyn.analyze(wdyn.join_runs(a=run, b=run), ["update_sizes"]).to_text()
    assert [f"{OVER_TIME}: {label}" in text for label in "ab"] == [True, True]
    assert text.count("decoder 0") == 2
