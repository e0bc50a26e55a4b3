"""Does the page show what is known and refresh itself, and does nothing in it act, or ask for anything elsewhere?"""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import replace

import pytest

from wdyn.analysis.machinery import Analyzer, Answer
from wdyn.findings import Finding, Severity
from wdyn.live.following import Following
from wdyn.live.page import MOST_FINDINGS, routes
from wdyn.live.serving import serving
from wdyn.live.views import Glance, Phase, Seen, View
from wdyn.reports.logged import Logged
from wdyn.reports.report import Report
from wdyn.reports.summary import Summary
from wdyn.testing import make_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = (
    "</title></p><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">\u202e\x1b[31m"
)


def finding(message="wte.weight is wide.", *, code="ONE001", severity=Severity.WARNING):
    return Finding(code, severity, message)


def report_of(*findings):
    one = Analyzer("one", "ONE", "Is one well?", lambda run: None, lambda result: (), {"ONE001": "Wide."})
    return Report((Answer(one, None, findings),), (Summary(),))


def view_of(*seen, name="run.zarr", page="", **known):
    report = report_of(*(one.finding for one in seen))
    return View(name, report=report, seen=seen, as_of=40, page=page, pages=int(bool(page)), **known)


def read(url):
    with urllib.request.urlopen(url, timeout=30) as reply:
        return reply.read().decode()


@contextmanager
def served(view):
    with serving(routes(lambda: view)) as url:
        yield url


def test_page__tells_that_it_waits():
    with served(View("run.zarr")) as url:
        assert "Waiting: nothing is recorded here yet." in read(url)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            read(f"{url}report")


def test_page__shows_findings_in_the_order_given_and_marks_what_is_new():
    newest, oldest = Seen(finding("It broke.", severity=Severity.ERROR), 30), Seen(finding(), 10)
    with served(view_of(newest, oldest)) as url:
        page = read(url)
    assert page.index("It broke.") < page.index("wte.weight is wide.")
    assert page.count("since step") == 1
    assert "since step 30" in page
    assert "<title>1 error, 1 warning · run.zarr</title>" in page


def test_page__shows_some_findings_and_counts_the_rest():
    with served(view_of(*(Seen(finding(f"Finding {at}."), 1) for at in range(MOST_FINDINGS + 3)))) as url:
        page = read(url)
    assert page.count("<li ") == MOST_FINDINGS
    assert "and 3 more in the report" in page


def test_page__shows_how_it_went():
    curve = Logged("loss", count=2, first=4.0, last=2.0, spark="█▁")
    with served(View("run.zarr", glance=Glance(Summary(steps=(0, 7)), (curve,), ()), phase=Phase.RECORDING)) as url:
        page = read(url)
    assert "Recording." in page
    assert "Step 7." in page
    assert "█▁" in page
    assert "4 → 2" in page


def test_page__tells_what_failed():
    view = View("run.zarr", phase=Phase.UNREADABLE, trouble="It is torn.", failure="No fonts.")
    with served(view) as url:
        page = read(url)
    assert "It is torn." in page
    assert "No fonts." in page


def test_page__keeps_hostile_names_text():
    curve = Logged(HOSTILE, count=1, first=1.0, last=1.0)
    known = {"glance": Glance(Summary(), (curve,), ()), "trouble": HOSTILE}
    with served(view_of(Seen(finding(HOSTILE), 1), name=HOSTILE, **known)) as url:
        pages = read(url), read(f"{url}top")
    for page in pages:
        assert "<img" not in page
        assert "<script>" not in page
        assert {c for c in page if not c.isprintable() and c != "\n"} == set()
        assert page.count("pwned") >= 4


def test_state__tells_what_is_new(place):
    make_run(place)
    found = Following(place, draw=lambda report: f"<p>{report.title}</p>")
    with serving(routes(lambda: found.view)) as url:
        before = json.loads(read(f"{url}state"))
        found.look()
        found.answer()
        after = json.loads(read(f"{url}state"))
        assert read(f"{url}report") == "<p>run.zarr</p>"
    assert (before["pages"], after["pages"]) == (0, 1)
    assert after["version"] > before["version"]


def test_pages__let_nobody_frame_them_and_run_only_what_is_served():
    with served(view_of(page="<p>report</p>")) as url:
        policies = {name: policy(f"{url}{name}") for name in ("", "top", "state", "report", "live.js", "live.css")}
    assert "script-src 'self'" in policies[""]
    assert "unsafe" not in "".join(policies.values())
    framed = {name for name, policy in policies.items() if "frame-ancestors 'none'" not in policy}
    assert framed == {"report"}
    assert "frame-ancestors 'self'" in policies["report"]


def policy(url):
    with urllib.request.urlopen(url, timeout=30) as reply:
        return reply.headers["Content-Security-Policy"]


LINES = 100
REPORT = f"""<!doctype html><title>report</title>
<section><h2>One</h2><details{{}}><summary>The numbers</summary>{"<p>1</p>" * LINES}</details></section>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is on PATH")
@pytest.mark.browser
def test_page__refreshes_itself_in_a_browser(tmp_path):
    """What was old is exchanged, once each, and what a reader opened in the report stays open."""
    asked = []
    old = view_of(Seen(finding(HOSTILE), 1), page=REPORT.format(" open"), version=1)
    new = view_of(Seen(finding("New words."), 2), name=HOSTILE, page=REPORT.format(""), version=2)
    answers = routes(lambda: old if asked.count("state") < 3 else replace(new, pages=2))

    def noted(name):
        asked.append(name)
        return answers(name)

    with serving(noted) as url:
        dom, problems = in_browser(url, tmp_path)
    assert "New words." in dom
    assert "<title>1 warning · &lt;/title&gt;" in dom
    (frame,) = re.findall(r'<iframe title="Report" class="" src="report\?2" style="height: (\d+)px;">', dom)
    assert int(frame) > 10 * LINES
    assert dom.count("<iframe") == 1
    assert problems == []
    assert set(asked) == {"", "live.js", "live.css", "state", "top", "report"}
    assert asked.count("top") == asked.count("report") == 2


def in_browser(url, folder):
    """Open a page for some seconds; give its document in the end, and what the console objected to."""
    profile = folder / "profile"
    profile.mkdir()
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}", "--virtual-time-budget=6000",
        "--enable-logging=stderr", "--dump-dom", url,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
