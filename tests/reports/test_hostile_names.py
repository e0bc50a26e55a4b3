"""Does nothing that a run is called act in a browser: no script, no request, no markup?"""

import pytest
import torch
from chromium import Page as Tab
from chromium import chromium, needs_chromium
from torch import nn

import wdyn
from wdyn.reports.escaping import visible
from wdyn.reports.page import page
from wdyn.reports.text import verdict

ATTACKS = (
    "<img src=x onerror=\"document['title']='pwned'\">",
    "</title><script>document['title']='pwned'</script>",
    "\"'><svg onload=document['title']='pwned'>",
    "</style><script>document['title']='pwned'</script><style>",
    "{{ 7*7 }}{% raw %}<script>document['title']='pwned'</script>",
    "javascript:document['title']='pwned'",
    "]]><script>document['title']='pwned'</script>",
    "\u202egnp exe\x1b]0;pwned\x07\x1b[2J[bold red]x[/]$x^{2}$",
)


class Net(nn.Module):
    """A network whose layers are called by attacks."""

    def __init__(self):
        super().__init__()
        for attack in ATTACKS:
            self.add_module(attack, nn.Linear(4, 4))

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A run in which everything that has a name has a hostile one."""
    path = tmp_path_factory.mktemp("hostile") / f"{ATTACKS[0]}.zarr"
    torch.manual_seed(0)
    model = type(ATTACKS[1], (Net,), {})()
    optimizer = type(ATTACKS[2], (torch.optim.SGD,), {})(model.parameters(), lr=0.1)
    with wdyn.watch(model, optimizer, to=path, every=1, snapshots=1) as watch:
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(torch.ones(2, 4)).square().mean()
            loss.backward()
            watch.log(**{attack: loss.item() for attack in ATTACKS}, loss=float("nan"))
            optimizer.step()
    run = wdyn.open_run(path)
    run.attrs["wdyn"]["attempts"][0] |= {
        "host": ATTACKS[5],
        "started": ATTACKS[6],
        "versions": {ATTACKS[3]: ATTACKS[7]},
    }
    return run


@pytest.fixture(scope="module")
def report(hostile):
    return wdyn.analyze(hostile)


@needs_chromium
def test_page__runs_nothing_but_its_own_script(report, tmp_path):
    tab = _opened(page(report), tmp_path)
    assert tab["title"] == report_title(report)
    assert tab["errors"] == []
    assert len(tab["requests"]) == 1
    assert tab["sorting"] > 0  # its own script did run


@needs_chromium
def test_page__keeps_names_text_where_its_script_writes_them(report, tmp_path):
    """Choices, tips and headings that the script makes hold what a run is called."""
    assert _opened(page(report), tmp_path)["strange"] == 0


@needs_chromium
def test_browser__would_run_what_is_not_escaped(tmp_path):
    """The tests above would see a script that runs."""
    naive = f"<!doctype html><title>naive</title><p>{ATTACKS[0]}</p>{ATTACKS[1]}"
    assert _opened(naive, tmp_path)["title"] == "pwned"


@needs_chromium
def test_policy__stops_what_would_not_be_escaped(report, tmp_path):
    """A second wall: scripts that stand in the page do not run, ours beside them does."""
    tab = _opened(page(report).replace("<main>", f"<main>{ATTACKS[0]}{ATTACKS[1]}"), tmp_path)
    assert tab["title"] not in ("", "pwned")
    assert sum("Content Security Policy" in error for error in tab["errors"]) >= 2
    assert tab["sorting"] > 0


def report_title(report):
    """The title that a page of it has, as a browser gives it."""
    return " ".join(visible(f"{report.title}: {verdict(report.findings)}").split())


def _opened(source, folder):
    """Open a page; tell what became of it."""
    file = folder / "page.html"
    file.write_text(source, encoding="utf-8")
    with chromium(folder) as browser:
        tab = Tab(browser)
        tab.open(file)
        tab.run("new Promise(done => setTimeout(done, 300))")
        return {
            "title": tab.run("document.title"),
            "sorting": tab.run("document.querySelectorAll('.wdyn-sort').length"),
            "strange": tab.run(
                "document.querySelectorAll('[onerror], [onload], iframe, img:not([src^=\"data:\"])').length"
            ),
            "errors": tab.errors,
            "requests": tab.requests,
        }


@pytest.mark.parametrize("form", ["to_text", "to_markdown", "to_html", "to_json"])
def test_report__holds_no_character_that_acts(report, form):
    written = getattr(report, form)()
    acting = {c for c in written if not c.isprintable() and c != "\n"}
    assert acting == set()


def test_report__shows_hostile_names(report):
    assert "onerror=" in report.to_text()
    assert "<img src=x onerror" not in report.to_html().replace("&lt;", "")
    assert "[bold red]x[/]" in report.to_text()
