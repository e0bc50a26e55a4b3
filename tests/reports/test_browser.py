"""What does a reader meet who opens the page: in the dark, on a phone, on paper, with a keyboard, with a pointer?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import xarray as xr
from chromium import Page, chromium, needs_chromium

import wdyn
from wdyn.reports.verified import Verified
from wdyn.testing import make_run

AXE = Path(os.environ.get("AXE", Path(__file__).parents[2] / "build" / "axe" / "package" / "axe.min.js"))
PATIENCE = 200  # milliseconds for what a click sets off


@pytest.fixture(scope="module")
def run() -> xr.DataTree:
    return make_run(
        layers=3, width=16, growth_by_layer=[3, 2, 1.1], steps=(0, 10, 20, 40), what=("weights", "updates", "moments"),
        nan_at={"blocks.1.mlp.up.weight": 40},
    )  # fmt: skip


@pytest.fixture(scope="module")
def tab(run: xr.DataTree, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("browser")
    (folder / "report.html").write_text(wdyn.analyze(run).to_html(), encoding="utf-8")
    with chromium(folder) as browser:
        page = Page(browser)
        page.see(width=1200)
        page.open(folder / "report.html")
        yield page


@needs_chromium
def test_page__loads_without_an_error_or_a_request(tab: Page) -> None:
    assert tab.errors == []
    assert [url.rpartition("/")[2] for url in tab.requests] == ["report.html"]


@needs_chromium
@pytest.mark.parametrize("width", [320, 380, 800, 1600])
def test_page__fits_its_screen(tab: Page, width: int) -> None:
    tab.see(width=width)
    tab.run("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert tab.run("document.documentElement.scrollWidth") <= width
    tab.see(width=1200)


@needs_chromium
def test_page__is_dark_where_that_is_wished(tab: Page) -> None:
    ground, ink = (
        "getComputedStyle(document.body).backgroundColor",
        "getComputedStyle(document.querySelector('h1')).color",
    )
    light = tab.run(ground), tab.run(ink)
    tab.see(width=1200, dark=True)
    dark = tab.run(ground), tab.run(ink)
    tab.see(width=1200)
    assert light == ("rgb(246, 247, 249)", "rgb(27, 31, 36)")
    assert dark == ("rgb(20, 23, 27)", "rgb(230, 233, 237)")


@needs_chromium
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not there: make build/axe")
def test_page__can_be_used_by_everyone(tab: Page, dark: bool) -> None:
    tab.see(width=1200, dark=dark)
    tab.run(f"{AXE.read_text(encoding='utf-8')}; 0")
    found = tab.run("axe.run(document, {resultTypes: ['violations']}).then(all => all.violations.map("
                    "one => [one.id, one.impact, one.nodes[0].html]))")  # fmt: skip
    tab.see(width=1200)
    assert found == []


@needs_chromium
def test_copy__gives_the_line_of_the_finding(tab: Page, run: xr.DataTree) -> None:
    line = next(one.reproduce for one in wdyn.analyze(run).findings if one.reproduce)
    tab.run("document.querySelector('.wdyn-copy').click()")
    tab.run(f"new Promise(done => setTimeout(done, {PATIENCE}))")
    assert tab.run("document.querySelector('.wdyn-copy').textContent") in ("Copied", "Selected")
    assert tab.run("document.querySelector('.wdyn-tools + pre code').textContent") == line


@needs_chromium
def test_sort__orders_numbers_by_size_and_back(tab: Page) -> None:
    found = tab.run("""(() => {
      const table = [...document.querySelectorAll('.wdyn-answer table')].find(one => one.tBodies[0].rows.length > 5);
      const at = [...table.tHead.rows[0].cells].findIndex(one => one.classList.contains('wdyn-number'));
      const column = () => [...table.tBodies[0].rows].map(row => Number(row.cells[at].textContent));
      const button = table.tHead.rows[0].cells[at].querySelector('button');
      button.click(); const up = column(); const said = table.tHead.rows[0].cells[at].ariaSort;
      button.click(); return [up, column(), said];
    })()""")
    up, down, said = found
    assert said == "ascending"
    assert len(set(up)) > 1
    assert (up, down) == (sorted(up), sorted(up, reverse=True))


@needs_chromium
def test_filter__leaves_rows_of_one_role_and_one_layer(tab: Page) -> None:
    choose = """((name, value) => {
      const select = document.getElementById(`wdyn-by-${name}`);
      select.value = value; select.dispatchEvent(new Event('change'));
    })"""
    shown = """[...document.querySelectorAll('.wdyn-answer tbody tr')].filter(row => !row.hidden).flatMap(row => {
      const names = [...row.closest('table').tHead.rows[0].cells].map(one => one.textContent);
      return names.includes('role') && names.includes('layer')
        ? [[row.cells[names.indexOf('role')].textContent, row.cells[names.indexOf('layer')].textContent]] : [];
    })"""
    everything = tab.run(shown)
    tab.run(f"{choose}('role', 'mlp_up')")
    tab.run(f"{choose}('layer', '1')")
    left = tab.run(shown)
    pale = tab.run("document.querySelectorAll('.wdyn-pale').length")
    panels = tab.run("[...document.querySelectorAll('.wdyn-shapes-grid > div')].filter(one => !one.hidden).length")
    said = tab.run("document.querySelector('.wdyn-filter [role=status]').textContent")
    tab.run(f"{choose}('role', '')")
    tab.run(f"{choose}('layer', '')")
    assert len(everything) > len(left) > 0
    assert {tuple(one) for one in left} == {("mlp_up", "1")}
    assert pale > 0
    assert panels == 1
    assert " rows of tables shown" in said
    assert tab.run(shown) == everything


@needs_chromium
def test_slider__goes_through_the_steps(tab: Page) -> None:
    move = """(at => {
      const slider = document.getElementById('wdyn-step');
      slider.value = at; slider.dispatchEvent(new Event('input'));
      return [document.querySelector('.wdyn-slide output').textContent, slider.getAttribute('aria-valuetext'),
        document.querySelector('.wdyn-now').getAttribute('points'),
        document.querySelector('.wdyn-first').getAttribute('points')];
    })"""
    first, last = tab.run(f"{move}(0)"), tab.run(f"{move}(3)")
    assert (first[:2], last[:2]) == (["0", "step 0"], ["40", "step 40"])
    assert first[2] == first[3]
    assert last[2] != last[3]


@needs_chromium
def test_map__tells_parameter_step_and_value_under_the_pointer(tab: Page, run: xr.DataTree) -> None:
    heading = tab.run("""(() => {
      const data = [...document.querySelectorAll('.wdyn-answer .wdyn-maps')]
        .find(one => one.textContent.includes('update / weights'));
      const plot = data.parentElement.querySelector('.wdyn-plot');
      plot.scrollIntoView({block: 'start'});
      scrollBy(0, -150);
      const map = JSON.parse(data.textContent)[0], frame = plot.getBoundingClientRect();
      const middle = (borders, at) => (borders[at] + borders[at + 1]) / 2;
      return [frame.left + frame.width * middle(map.x, 1), frame.top + frame.height * middle(map.y, 2),
        map.rows[2].label, map.columns[1]];
    })()""")
    x, y, name, step = heading
    tab.point(x, y)
    tab.run(f"new Promise(done => setTimeout(done, {PATIENCE}))")
    tip = tab.run("[...document.querySelectorAll('.wdyn-tip')].find(one => !one.hidden).textContent")
    value = float(wdyn.update_sizes(run)["update_ratio"].sel(parameter=name, step=step))
    assert tip.split("\n")[0].startswith(name)
    assert tip.split("\n")[1] == f"step {step}"
    assert float(tip.rpartition(": ")[2]) == pytest.approx(value, rel=5e-3)


@needs_chromium
def test_keyboard__reaches_what_can_be_done(tab: Page) -> None:
    reached = tab.run("""[...document.querySelectorAll('button, select, input, summary, a, figure, .wdyn-scroll')]
      .filter(one => one.tabIndex < 0).map(one => one.outerHTML.slice(0, 80))""")
    assert reached == []


@needs_chromium
def test_paper__has_no_controls_and_all_evidence(tab: Page) -> None:
    tab.see(width=800, printed=True)
    controls = "[...document.querySelectorAll('.wdyn-copy, .wdyn-filter, .wdyn-slide')]"
    assert tab.run(f"{controls}.length") > 2
    assert tab.run(f"{controls}.filter(one => one.getClientRects().length).length") == 0
    assert tab.paper().startswith(b"%PDF")
    tab.see(width=1200)


@pytest.fixture(scope="module")
def others(run: xr.DataTree, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of a comparison, of a difference and of a verification."""
    folder = tmp_path_factory.mktemp("others")
    models = [{"blocks.0.q.weight": torch.ones(2, 2), "b": torch.full((2,), number)} for number in (1.0, 2.0)]
    joined = wdyn.join_runs(a=run, b=make_run(layers=3, steps=(0, 10)))
    pages = {
        "compare": wdyn.analyze(joined, ["compare_runs"]).to_html(),
        "diff": wdyn.diff(*models).to_html(),
        "verify": Verified(wdyn.verify(*models)).to_html(),
    }
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


@needs_chromium
@pytest.mark.parametrize("name", ["compare", "diff", "verify"])
def test_other_pages__load_fit_a_phone_and_can_be_used_by_everyone(
    name: str, others: dict[str, Path], tmp_path: Path
) -> None:
    with chromium(tmp_path) as browser:
        page = Page(browser)
        page.see(width=380, dark=True)
        page.open(others[name])
        assert page.errors == []
        assert page.run("document.documentElement.scrollWidth") <= 380
        if AXE.exists():
            page.run(f"{AXE.read_text(encoding='utf-8')}; 0")
            assert page.run("axe.run(document).then(all => all.violations.map(one => one.id))") == []
