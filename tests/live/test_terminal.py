"""Does the terminal show what is known of a run, and do its names stay text?"""

import io

from rich.console import Console

from wdyn.findings import Finding, Severity
from wdyn.live.terminal import farewell, screen
from wdyn.live.views import Glance, Phase, Seen, View
from wdyn.reports.logged import Logged
from wdyn.reports.report import Report
from wdyn.reports.strips import INFINITE, UNKNOWN, Strip
from wdyn.reports.summary import Summary

HOSTILE = "[bold red]x[/]\x1b[31m\u202eevil"
CURVE = Logged("loss", count=2, first=4.0, last=2.0, spark="█▁")


def shown(view, **options):
    """Draw it; give the text, or what a terminal would be sent."""
    console = Console(record=True, file=io.StringIO(), width=100, force_terminal=True, color_system="truecolor")
    console.print(screen(view))
    return console.export_text(**options)


def view_of(*seen, **known):
    return View("run.zarr", report=Report((), ()), seen=seen, as_of=40, **known)


def test_screen__tells_that_it_waits():
    assert shown(View("run.zarr")) == "run.zarr  ● Waiting: nothing is recorded here yet.\n"


def test_screen__shows_curves_and_layers():
    strip = Strip("decoder 0–3", f"▁█{UNKNOWN}{INFINITE}", 1e-3)
    view = View("run.zarr", phase=Phase.RECORDING, glance=Glance(Summary(steps=(0, 7)), (CURVE,), (strip,)))
    lines = [line.split() for line in shown(view).splitlines()]
    assert ["loss", "█▁", "4", "→", "2"] in lines
    assert ["decoder", "0–3", "▁█·!", "1.0e-03"] in lines
    assert "Step 7." in shown(view)


def test_screen__gives_each_height_its_colour():
    def colours(cells):
        strip = Strip("decoder 0", cells, 1.0)
        sent = shown(View("run.zarr", glance=Glance(Summary(), (), (strip,))), styles=True)
        return sent.partition("decoder 0")[2].count("38;2;")

    assert colours("▁▂▃▄▅▆▇█") == 8
    assert colours(UNKNOWN) == 0


def test_screen__puts_new_findings_first_and_says_since_when():
    newest = Seen(Finding("ONE002", Severity.ERROR, "It broke."), 30)
    oldest = Seen(Finding("ONE001", Severity.INFO, "It began."), 10)
    text = shown(view_of(newest, oldest))
    assert text.index("since step 30: It broke.") < text.index("It began.")
    assert "since step 10" not in text
    assert "as of step 40" in text


def test_screen__puts_findings_above_curves_and_counts_those_left_out():
    seen = [Seen(Finding("ONE001", Severity.INFO, f"Finding {at}."), 1) for at in range(8)]
    lines = shown(view_of(*seen, glance=Glance(Summary(), (CURVE,), ()))).splitlines()
    at = {
        words: row for row, line in enumerate(lines) for words in ("Finding 0.", "and 2 more", "loss") if words in line
    }
    assert at["Finding 0."] < at["and 2 more"] < at["loss"]
    assert sum("ONE001" in line for line in lines) == 6


def test_screen__tells_what_failed():
    view = View("run.zarr", phase=Phase.UNREADABLE, trouble="It is torn.", failure="No numbers.")
    assert "It is torn.\nNo numbers." in shown(view)


def test_screen__keeps_hostile_names_text():
    glance = Glance(Summary(), (Logged(HOSTILE, count=1, first=1.0, last=1.0),), (Strip(HOSTILE, "▁", 1.0),))
    seen = Seen(Finding("ONE001", Severity.INFO, HOSTILE), 1)
    view = View(HOSTILE, trouble=HOSTILE, glance=glance, report=Report((), ()), seen=(seen,))
    text = shown(view)
    assert text.count("[bold red]x[/]") == 5
    assert {c for c in text if not c.isprintable() and c != "\n"} == set()
    assert HOSTILE not in farewell(view)


def test_farewell__says_how_it_was_last():
    view = view_of(glance=Glance(Summary(steps=(0, 42)), (), ()))
    assert farewell(view) == "run.zarr, step 42: no findings as of step 40"
    assert farewell(View("run.zarr")) == "run.zarr"
