"""Does nothing that a run is called act in a browser: no script, no request, no markup?"""

import shutil
import subprocess

import pytest
import torch
from torch import nn

import wdyn
from wdyn.reports.html import page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

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


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is on PATH")
@pytest.mark.browser
def test_page__runs_nothing_in_a_browser(report, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page(report), encoding="utf-8")
    assert title_in_browser(file, tmp_path) not in ("", "pwned")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is on PATH")
@pytest.mark.browser
def test_browser__would_run_what_is_not_escaped(tmp_path):
    """The test above would see a script that runs."""
    file = tmp_path / "naive.html"
    file.write_text(f"<!doctype html><title>naive</title><p>{ATTACKS[0]}</p>{ATTACKS[1]}")
    assert title_in_browser(file, tmp_path) == "pwned"


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is on PATH")
@pytest.mark.browser
def test_policy__stops_what_would_not_be_escaped(report, tmp_path):
    """A second wall: scripts that stand in the page do not run."""
    file = tmp_path / "holed.html"
    file.write_text(page(report).replace("<main>", f"<main>{ATTACKS[0]}{ATTACKS[1]}"), encoding="utf-8")
    assert title_in_browser(file, tmp_path) not in ("", "pwned")


def title_in_browser(file, folder):
    """Open a page; give the title that its document has in the end."""
    profile = folder / f"{file.stem}-profile"
    profile.mkdir()
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}", "--virtual-time-budget=3000",
        "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("<title>")[2].partition("</title>")[0]


@pytest.mark.parametrize("form", ["to_text", "to_markdown", "to_html", "to_json"])
def test_report__holds_no_character_that_acts(report, form):
    written = getattr(report, form)()
    acting = {c for c in written if not c.isprintable() and c != "\n"}
    assert acting == set()


def test_report__shows_hostile_names(report):
    assert "onerror=" in report.to_text()
    assert "<img src=x onerror" not in report.to_html().replace("&lt;", "")
    assert "[bold red]x[/]" in report.to_text()
